# SPDX-License-Identifier: Apache-2.0
"""One decision per data-parallel step.

    LocalBatch --pack--> one all-reduce --unpack--> StepMetadata --plan--> StepPlan
                                                         |
                                                         +--select--> MoECommChoice

``metadata`` is what ranks tell each other, ``synchronizer`` the one collective that carries it, ``plan`` and
``moe_comm`` the pure functions that turn it into everything the ranks must agree on, and ``runner`` the thin layer
that upstream's model runner calls. Runs on Python 3.9 to 3.11, as upstream's wheels do.
"""
