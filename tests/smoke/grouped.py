# SPDX-License-Identifier: Apache-2.0
"""Engine runs whose ranks exchange rows over groups that span the DP ranks, or read their metadata on the host."""

from dataclasses import dataclass, replace
from typing import Any

import drafted
from checkpoints import Model
from job import DP2_ROUNDS, SOC_310P, EngineRun, Mode, Round, Tree

# Tokens of a step with chunked prefill: the longest prompt takes three.
_CHUNK = 64


@dataclass(frozen=True)
class GroupedRun(EngineRun):
    """An engine run that splits layers over the DP ranks."""

    mlp_parallel: bool = False
    o_proj_parallel: bool = False
    """On a KV consumer: upstream refuses it elsewhere."""
    lmhead_parallel: bool = False
    chunked_prefill: bool = False
    """Use vLLM's own scheduler, and split the longest prompt."""
    cpu_metadata: bool = False
    """Reduce the metadata on the host."""

    def __str__(self) -> str:
        run, _, tree = super().__str__().rpartition(" on ")
        parts = [run] + ["MLP parallel"] * self.mlp_parallel + ["o_proj parallel"] * self.o_proj_parallel
        parts += ["lm-head parallel"] * self.lmhead_parallel + ["chunked prefill"] * self.chunked_prefill
        return f"{', '.join(parts + ['CPU metadata'] * self.cpu_metadata)} on {tree}"

    @property
    def environment(self) -> dict[str, str]:
        found = {"VLLM_ASCEND_ENABLE_MLP_OPTIMIZE": "1"} if self.mlp_parallel else {}
        return super().environment | found | ({"VLLM_ASCEND_DP_METADATA_GROUP": "cpu"} if self.cpu_metadata else {})

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        arguments = super().engine_arguments(checkpoint, storage)
        if self.chunked_prefill:
            arguments |= {"dtype": "float16", "additional_config": {}, "max_num_batched_tokens": _CHUNK}
            arguments |= {"enable_chunked_prefill": True}
        if self.mlp_parallel:  # as later releases read it; others have the variable
            split = {"mlp_tensor_parallel_size": self.dp_size}
            arguments["additional_config"] |= {"finegrained_tp_config": split}
        if self.lmhead_parallel:
            split = {"lmhead_tensor_parallel_size": self.dp_size}
            arguments["additional_config"] |= split | {"finegrained_tp_config": split}  # as later releases read it
        if self.o_proj_parallel:
            arguments["additional_config"] |= {"oproj_tensor_parallel_size": self.dp_size}
            arguments["kv_transfer_config"] = {
                "kv_connector": "SharedStorageConnector",
                "kv_role": "kv_consumer",
                "kv_connector_extra_config": {"shared_storage_path": storage},
            }
        return arguments


def _turns(*names: str) -> tuple[Round, ...]:
    return tuple(turn for turn in DP2_ROUNDS if turn.name in names)


ONE_REQUEST = _turns("one prompt")

MLP_EAGER = GroupedRun(Tree.PATCHED, Model.QWEN3, mlp_parallel=True)
MLP_GRAPH = GroupedRun(Tree.PATCHED, Model.QWEN3, mode=Mode.ACL_GRAPH, mlp_parallel=True)
MLP_EXPERTS = GroupedRun(Tree.PATCHED, Model.DEEPSEEK_V3, mlp_parallel=True)
PRISTINE_MLP_EAGER = replace(MLP_EAGER, tree=Tree.PRISTINE, rounds=ONE_REQUEST)
PRISTINE_MLP_GRAPH = replace(MLP_GRAPH, tree=Tree.PRISTINE)

# Prompts on one rank, on both, and one that joins a decode; the longest takes two rounds of a parallel lm head.
_PROMPTED = _turns("one prompt", "spread", "one on rank 1", "prefill beside a decode")
PROMPTED = GroupedRun(Tree.PATCHED, Model.QWEN3, lmhead_parallel=True, prompt_logprobs=True, rounds=_PROMPTED)
PROMPTED_GRAPH = replace(PROMPTED, mode=Mode.ACL_GRAPH)
PROMPTED_CHUNKED = replace(PROMPTED, chunked_prefill=True)
PROMPTED_MTP = replace(drafted.LMHEAD, prompt_logprobs=True, rounds=_turns("one prompt", "prefill beside a decode"))
PRISTINE_PROMPTED = replace(PROMPTED, tree=Tree.PRISTINE, rounds=ONE_REQUEST)
# Of experts, for a release that serves no dense model on ranks of one engine.
PROMPTED_EXPERTS = replace(PROMPTED, model=Model.QWEN3_MOE)
PRISTINE_PROMPTED_EXPERTS = replace(PROMPTED_EXPERTS, tree=Tree.PRISTINE, rounds=ONE_REQUEST)

SOC_310P_CPU = GroupedRun(Tree.PATCHED, soc=SOC_310P, cpu_metadata=True, rounds=_PROMPTED)
SOC_310P_DEVICE = replace(SOC_310P_CPU, cpu_metadata=False)
