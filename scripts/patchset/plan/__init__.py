# SPDX-License-Identifier: Apache-2.0
"""Patches and overlay on upstream, as commits: what a set makes, before any target is touched."""
