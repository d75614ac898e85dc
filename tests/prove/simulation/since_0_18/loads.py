# SPDX-License-Identifier: Apache-2.0
"""Upstream's balancing of experts without experts: after how many steps ranks exchange their loads is its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from vllm_ascend.eplb.eplb_updator import EplbUpdator

from simulation import world
from simulation.network import Call

# Loads are exchanged after so many steps that count, a plan is there after so many more, and moves one layer's experts.
_COUNTED, _PLANNED, _LAYERS = 2, 1, 1
_PLAN: tuple[Any, ...] = ([], [], [], [], 0)


def _nothing(*_: Any) -> None:
    """Stands for what decides nothing."""


def _exchange(name: str) -> None:
    world.network().issue(Call("loads of experts", name))


class Updator(EplbUpdator):  # type: ignore[misc]
    """Of one rank."""

    def __init__(self) -> None:
        self.expert_heat_collection_interval, self.algorithm_execution_interval = _COUNTED, _PLANNED
        self.num_moe_layers, self.cur_iterations, self.expert_map_record_path = _LAYERS, 0, None
        self.adaptor = SimpleNamespace(clear_all_moe_loads=_nothing)
        self.eplb_process = SimpleNamespace(block_update_q=SimpleNamespace(get=lambda: [_PLAN] * _LAYERS))
        self.eplb_loader = SimpleNamespace(
            set_log2phy_map=_nothing,
            generate_expert_d2d_transfer_task=_nothing,
            # Begun before the forward, in a group of its own and beside everything else; waited for after it.
            asyn_expert_weight_transfer=_nothing,
            update_expert_map_and_weight=lambda _: _exchange("all_to_all"),
        )

    def compute_and_set_moe_load(self) -> None:
        """The loads of all ranks."""
        _exchange("all_gather")

    wakeup_eplb_worker = staticmethod(_nothing)
