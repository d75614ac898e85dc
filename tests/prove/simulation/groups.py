# SPDX-License-Identifier: Apache-2.0
"""The collectives of layers that are split over the DP ranks, alike in all releases; the patches leave them be."""

from __future__ import annotations

from collections.abc import Iterator

from simulation.network import Call

# CANN's limits for the batch of one rank of MC2's dispatch kernel.
MC2_ROWS = {"A2": 256, "A3": 512}


def mlp(rows: int, dp: int) -> Iterator[Call]:
    """What an MLP that is split over the DP ranks issues for ``rows`` rows (ops/linear.py, ops/linear_op.py)."""
    yield Call("mlp", "all_gather", (rows,))
    yield Call("mlp", "reduce_scatter", (rows * dp,))


def o_proj(rows: int, dp: int) -> Iterator[Call]:
    """The same of an attention's output projection."""
    yield Call("o_proj", "all_to_all", (rows,))
    yield Call("o_proj", "reduce_scatter", (rows * dp,))
