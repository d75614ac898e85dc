# SPDX-License-Identifier: Apache-2.0
"""What a release of vllm-ascend has, as far as its steps differ from another's; and the release on the import path."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import vllm
from vllm_ascend.torchair import torchair_model_runner
from vllm_ascend.worker import model_runner_v1


@dataclass(frozen=True)
class Release:
    """One release.

    ``whole_step`` says that its real step is one method, forward included; ``generic_layers_choose`` that generic
    layers choose how they communicate, and do not broadcast always; ``row_groups`` that it splits MLPs and the lm head
    over DP ranks and has shared-expert DP, ``splits_o_proj`` that it splits the attention's output projection;
    ``sequence_parallel`` that its layers gather rows split over the tensor-parallel ranks of all DP ranks;
    ``shared_experts_of_generic`` that generic layers, too, know shared-expert DP. ``eagle`` says that its Eagle drafter
    serves; ``custom_layers_in_eager`` that DeepSeek's MoE layers are custom ones outside of TorchAir too;
    ``full_decode_graphs`` that it has graphs of uniform decodes alone; ``shared_experts_avoid_mc2`` that shared-expert
    DP's layers run an all-to-all where the context says MC2. ``drafts_of_mtp`` is the most that MTP drafts.
    ``exchange`` is the module by which generic layers exchange rows, ``custom_layer`` module and name of a custom one.

    Of the pristine tree: generic layers gather, whatever their context says, on fewer expert-parallel ranks than
    ``generic_min_ep_size``; ``drafters_choose`` says that drafters, too, choose for generic layers; ``unsynchronised``
    is the defect by which ranks may tell each other nothing but counts, and ``graphs_of_own_size`` says that each
    replays the graph of its own rows.
    """

    whole_step: bool = False
    generic_layers_choose: bool = True
    row_groups: bool = True
    splits_o_proj: bool = False
    sequence_parallel: bool = False
    shared_experts_of_generic: bool = False
    eagle: bool = True
    custom_layers_in_eager: bool = True
    full_decode_graphs: bool = False
    drafts_of_mtp: int = 1
    shared_experts_avoid_mc2: bool = False
    generic_min_ep_size: int = 0
    drafters_choose: bool = False
    unsynchronised: str = ""
    graphs_of_own_size: bool = False
    exchange: str = "vllm_ascend.ops.moe.fused_moe_prepare_and_finalize"
    custom_layer: tuple[str, str] = ("vllm_ascend.ops.fused_moe", "AscendFusedMoE")


_RELEASES = {
    "0.10.0": Release(
        whole_step=True,
        generic_layers_choose=False,
        row_groups=False,
        graphs_of_own_size=True,
        exchange="vllm.distributed.device_communicators.all2all",
    ),
    "0.10.1.1": Release(
        generic_min_ep_size=16, unsynchronised="D1", exchange="vllm_ascend.distributed.moe_comm_method"
    ),
    "0.10.2": Release(splits_o_proj=True, eagle=False, drafts_of_mtp=3),
    "0.11.0": Release(
        splits_o_proj=True,
        sequence_parallel=True,
        shared_experts_of_generic=True,
        custom_layers_in_eager=False,
        full_decode_graphs=True,
        drafts_of_mtp=3,
        shared_experts_avoid_mc2=True,
        drafters_choose=True,
        unsynchronised="D19",
        custom_layer=("vllm_ascend.torchair.ops.torchair_fused_moe", "TorchairAscendFusedMoE"),
    ),
}
THIS = _RELEASES[vllm.__version__]

RUNNER: ModuleType = model_runner_v1
TORCHAIR_RUNNER: ModuleType = torchair_model_runner
