# SPDX-License-Identifier: Apache-2.0
"""Verification of what `make wheels` made: a wheel, an installation, a tree, the whole of dist/<set>.

A node has no tool installed and may have no network, so this package, with the few modules of `patchset` that it
imports, needs the standard library of Python 3.9 alone. `make wheels` ships it as dist/<set>/patchset-node.pyz.

SECURITY.md says what vouches for what. On a node, the .pyz that came from a verified dist/<set> is what an installation
is held to; in the repository, set.toml is, with the upstream wheels that it pins, where the download cache has them.
"""
