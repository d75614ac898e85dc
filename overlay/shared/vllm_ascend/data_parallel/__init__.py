# SPDX-License-Identifier: Apache-2.0
"""One decision per data-parallel step.

    LocalBatch --pack--> one all-reduce --unpack--> StepMetadata --plan--> StepPlan
                                                         |
                                                         +--select--> MoECommChoice

``metadata`` is what ranks tell each other, ``synchronizer`` the one collective that carries it, ``plan`` and
``moe_comm`` the pure functions that turn it into everything the ranks must agree on, and ``runner`` the thin layer
that upstream's model runner calls.

    start-up:  fingerprint --agreement--> the same code and settings on every rank, or one error on each
    each step: recorder (what the rank does, and did last) <--watchdog, which logs it and ends one that waits too long

``start`` puts both around upstream's runner; ``settings`` is what a user can set. All of it runs on Python 3.9 to
3.11, as upstream's wheels do.
"""
