# SPDX-License-Identifier: Apache-2.0
"""Rows that stand for no request: those of an idle rank, and those that pad a rank's rows to another's."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

# A prime far from the powers of two that vocabularies and expert counts are made of: neighbours get unlike experts.
STRIDE = 7919


def forget_requests(block_tables: list[Any]) -> None:
    """Point every row at no slot and at no request's blocks, in each of upstream's block tables.

    A slot of -1 is none, and block 0 belongs to no request; a real step writes both anew for its rows.
    """
    for table in block_tables:
        table.slot_mapping.gpu.fill_(-1)
        table.block_table.gpu.fill_(0)


def spread_token_ids(ids: torch.Tensor, vocab_size: int) -> None:
    """Fill ``ids`` ``[n]`` in place with ids that are routed to unlike experts, with zeros without a vocabulary.

    Those of the last requests, or the zeros from before the first, would all go to the same ones, and so to one rank.
    """
    rows = ids.shape[0]
    made = 1 << (rows - 1).bit_length()  # few sizes, so that nearly every step finds them made
    ids.copy_(_ids(made, vocab_size or 1, ids.dtype, ids.device)[:rows])


@cache
def _ids(rows: int, vocab_size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return (torch.arange(rows, dtype=torch.int64) * STRIDE % vocab_size).to(dtype).to(device)


def pad_router_logits(logits: torch.Tensor, rows: int) -> torch.Tensor:
    """``logits`` ``[n, experts]`` with ``rows`` more, each of which prefers experts of its own.

    Zeros would send all of them to the experts with the lowest numbers: equal logits go to the first.
    """
    experts = logits.shape[1]
    preferences = _preferences(experts, logits.dtype, logits.device)
    return torch.cat([logits, preferences.repeat(-(-rows // experts), 1)[:rows]])


@cache
def _preferences(experts: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """``[experts, experts]``: each row prefers one expert most, and those after it less and less."""
    first = torch.arange(experts).unsqueeze(1) * STRIDE
    behind = (torch.arange(experts) - first) % experts
    return (-behind).to(dtype).to(device)
