# SPDX-License-Identifier: Apache-2.0
"""N data-parallel ranks in one process: the decision code of a vllm-ascend tree, run through random schedules.

    strategies --Schedule--> simulate --ranks--> checker --> findings
                                 |
                                 +--> network: every collective, matched over the ranks

A release belongs to a family, a folder of modules that build ranks from the tree on the import path: its real model
runner, forward context and drafters without a model. Only the collectives and the model's arithmetic are stood in for.
Another release of a family is an entry in its ``releases``, and one in selftest.schedules.MUST_FIND.
"""
