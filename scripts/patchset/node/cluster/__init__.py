# SPDX-License-Identifier: Apache-2.0
"""The checks of a whole cluster, over Ray: what every node has, and a run of the synchronisation across them.

    set --expect--> Expected --kit--> patchset-node.pyz, which a node's own Python runs:

        main --watch--> driver, on Ray --> survey on every node, rank on every device
          ^---------------- events --------------'
          '--> report: a row per node and rank, one exit code

Nodes need no patchset: `node` is all that runs there, with the standard library, Ray and torch on Python 3.9 and
later, and Ray carries its functions to the workers by value.
"""
