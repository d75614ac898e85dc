# SPDX-License-Identifier: Apache-2.0
"""The checks that keep patches honest: each one yields findings, and none of them stops at the first."""
