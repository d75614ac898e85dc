# SPDX-License-Identifier: Apache-2.0
"""Which groups span DP ranks, and which steps need as many rows on each of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vllm_ascend.data_parallel import upstream
from vllm_ascend.data_parallel.metadata import StepMetadata
from vllm_ascend.data_parallel.moe_comm import MoECommConfig
from vllm_ascend.data_parallel.row_groups import RowGroup, needs_equal_rows, spanning_groups, spans_dp_ranks

DENSE = MoECommConfig("A2", 1, 512)


@pytest.mark.parametrize("tensor_parallel", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dp_size", [1, 2, 3, 4, 8])
def test_a_group_spans_dp_ranks_where_its_consecutive_ranks_belong_to_several(
    dp_size: int, tensor_parallel: int
) -> None:
    """Upstream's MLP groups: as many consecutive ranks as there are DP ranks."""
    world = dp_size * tensor_parallel
    groups = [range(first, first + dp_size) for first in range(0, world, dp_size)]
    spans = any(len({rank // tensor_parallel for rank in group}) > 1 for group in groups)
    assert spans_dp_ranks(dp_size, tensor_parallel) == spans


def test_groups_within_a_dp_rank_are_left_out() -> None:
    parallel = SimpleNamespace(tensor_parallel_size=4)
    assert spanning_groups({RowGroup.MLP: 2, RowGroup.LM_HEAD: 8}, parallel) == {RowGroup.LM_HEAD}


@pytest.mark.parametrize("with_prefill", [False, True])
@pytest.mark.parametrize(
    ("group", "of_a_prefill"), [(RowGroup.MLP, True), (RowGroup.O_PROJ, True), (RowGroup.LM_HEAD, False)]
)
def test_layers_of_the_model_exchange_every_row_and_the_lm_head_those_of_a_decode(
    group: RowGroup, of_a_prefill: bool, with_prefill: bool
) -> None:
    metadata = StepMetadata((3, 1), with_prefill, False, False)
    assert needs_equal_rows(metadata, frozenset({group}), DENSE) == (of_a_prefill or not with_prefill)
    assert not needs_equal_rows(metadata, frozenset(), DENSE)


def test_the_release_names_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """What upstream's own switches turn on, by its own accessors."""
    from vllm_ascend import ascend_config

    settings: Any = SimpleNamespace(lmhead_tensor_parallel_size=2, oproj_tensor_parallel_size=2)
    monkeypatch.setattr(ascend_config, "_ASCEND_CONFIG", settings)
    monkeypatch.setenv("VLLM_ASCEND_ENABLE_MLP_OPTIMIZE", "1")
    config = SimpleNamespace(parallel_config=SimpleNamespace(data_parallel_size=4))
    of_release = {RowGroup.MLP: 4, RowGroup.LM_HEAD: 2, RowGroup.O_PROJ: 2}
    known = {RowGroup.MLP, RowGroup.LM_HEAD} if _has("lmhead_tp_enable") else set()
    known |= {RowGroup.O_PROJ} if _has("oproj_tp_enable") else set()
    assert upstream.row_group_sizes(config) == {group: of_release[group] for group in known}


def _has(name: str) -> bool:
    from vllm_ascend import utils

    return hasattr(utils, name)
