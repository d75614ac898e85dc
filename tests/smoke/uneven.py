# SPDX-License-Identifier: Apache-2.0
"""Engine runs of the releases with graphs of two kinds, whose ranks bring unlike batches to a step.

One rank prefills beside one that decodes or idles; one decodes two requests beside one; and the same where the release
synchronises nothing, which is where MC2 alone exchanges rows: an Atlas A3 that takes part in KV transfer.
"""

from dataclasses import dataclass, replace
from typing import Any

from job import LATE_ROUND, SOC_A3, EngineRun, Mode, Round, Tree, null_connector

_BESIDE_IDLE = Round("prefill beside an idle rank", ((3,), ()))
_TWO_AND_ONE = Round("two requests and one", ((0, 2), (4,)))


@dataclass(frozen=True)
class UnevenRun(EngineRun):
    """An engine run of Qwen3-MoE on two ranks."""

    embedding_parallel: bool = False
    """The embedding is split over the ranks, and gathers their rows."""
    connected: bool = False
    """With a KV connector that does nothing, as producer and consumer."""

    def __str__(self) -> str:
        run, _, tree = super().__str__().rpartition(" on ")
        parts = [run] + ["A3"] * (self.soc == SOC_A3) + ["connected"] * self.connected
        return ", ".join([*parts, *["embedding parallel"] * self.embedding_parallel, "uneven"]) + f" on {tree}"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        arguments = super().engine_arguments(checkpoint, storage)
        if self.embedding_parallel:
            split = {"embedding_tensor_parallel_size": self.dp_size}
            arguments["additional_config"] |= {"finegrained_tp_config": split}
        if self.connected:
            arguments["kv_transfer_config"] = null_connector("kv_both")
            # MC2 takes every step, a prefill too: then the release leaves the synchronisation out.
            arguments["max_num_batched_tokens"] = arguments["max_model_len"]
            arguments["compilation_config"]["cudagraph_capture_sizes"] = [1, 2, 4, arguments["max_model_len"]]
        return arguments


_ROUNDS = (_BESIDE_IDLE, LATE_ROUND)

FULL_DECODE = UnevenRun(Tree.PATCHED, mode=Mode.FULL_DECODE, moe_probe=True, rounds=_ROUNDS)
FULL_DECODE_EP = replace(FULL_DECODE, expert_parallel=True)
GRAPH = replace(FULL_DECODE, mode=Mode.ACL_GRAPH)
EAGER = replace(FULL_DECODE, mode=Mode.EAGER)
OWN_ROWS = (FULL_DECODE, FULL_DECODE_EP, GRAPH, EAGER)
PRISTINE_FULL_DECODE = replace(FULL_DECODE, tree=Tree.PRISTINE)
PRISTINE_EAGER = replace(EAGER, tree=Tree.PRISTINE)

EMBEDDING = UnevenRun(Tree.PATCHED, embedding_parallel=True, rounds=(_TWO_AND_ONE, *_ROUNDS))
EMBEDDING_FULL_DECODE = replace(EMBEDDING, mode=Mode.FULL_DECODE)
PRISTINE_EMBEDDING = replace(EMBEDDING, tree=Tree.PRISTINE, rounds=(_TWO_AND_ONE,))

CONNECTED = UnevenRun(
    Tree.PATCHED,
    mode=Mode.FULL_DECODE,
    expert_parallel=True,
    soc=SOC_A3,
    connected=True,
    rounds=(_TWO_AND_ONE, LATE_ROUND),
)
PRISTINE_CONNECTED = replace(CONNECTED, tree=Tree.PRISTINE)

PATCHED = (*OWN_ROWS, EMBEDDING, EMBEDDING_FULL_DECODE, CONNECTED)
