# SPDX-License-Identifier: Apache-2.0
"""What a node runs, as patchset-node.pyz: the standard library and, for a cluster, Ray and torch, on Python 3.9."""
