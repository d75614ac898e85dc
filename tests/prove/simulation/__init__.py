# SPDX-License-Identifier: Apache-2.0
"""N data-parallel ranks in one process: the decision code of a vllm-ascend tree, run through random schedules.

    strategies --Schedule--> simulate --ranks--> checker --> findings
                                 |
                                 +--> network: every collective, matched over the ranks

``runner`` builds ranks from the tree on the import path: its real model runner, forward context and drafters
without a model. ``patched`` and ``pristine`` hold what a real step of each tree calls. Only the collectives
and the model's arithmetic are stood in for.
"""
