# SPDX-License-Identifier: Apache-2.0
"""How many rows CANN's MC2 kernels take of one rank."""

from __future__ import annotations

import os
from typing import Optional

from vllm_ascend import utils
from vllm_ascend.data_parallel.settings import MC2_ROWS

# Most rows that one rank may give MC2's dispatch kernel: 256 on an A2, 512 on an A3 (CANN's limits for its batch).
MC2_ROWS_PER_RANK = {"A2": 256, "A3": 512}


def mc2_rows(soc: str) -> int:
    """Most rows that one rank may give MC2's kernels: CANN's, or what VLLM_ASCEND_DP_MC2_ROWS says where CANN takes
    another number.

    ``soc`` is a name of upstream's; one without MC2 counts like an A3, for the number sizes a mask that must exist. An
    A2 that sends within hosts first, and then between them, takes as many as an A3 (aclnnMoeDistributeDispatchV2).
    Raises ``ValueError`` for a value that the setting may not have.
    """
    rows: Optional[int] = MC2_ROWS.value(os.environ)
    return rows or MC2_ROWS_PER_RANK["A2" if soc == "A2" and not _sends_within_hosts() else "A3"]


def _sends_within_hosts() -> bool:
    """Whether MC2 does so first: not in a release without the choice, nor, as far as known, before upstream has read
    its configuration."""
    chosen = getattr(utils, "is_hierarchical_communication_enabled", None)
    try:
        return chosen is not None and bool(chosen())
    except RuntimeError:
        return False
