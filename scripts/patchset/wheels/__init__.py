# SPDX-License-Identifier: Apache-2.0
"""Patched wheels, made by repacking the published ones: no compiler, no CANN, the same bytes on any machine."""
