# SPDX-License-Identifier: Apache-2.0
"""Verification of what `make wheels` made: a wheel, an installation, a tree, the whole of dist/<set>.

A node has no tool installed and may have no network, so this package, with the few modules of `patchset` that it
imports, needs the standard library of Python 3.9 alone. `make wheels` ships it as dist/<set>/patchset-verify.pyz.
"""
