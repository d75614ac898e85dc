# SPDX-License-Identifier: Apache-2.0
"""What the ranks of one engine run are asked to do, and the names they answer with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from checkpoints import Model
from reference import PROMPTS, TOKENS

MAX_SEQS = len(PROMPTS)
MAX_TOKENS = 256
"""Longest sequence, and most tokens of one step."""
GRAPH_SIZES = [1, 2, 4, MAX_SEQS]
LATE_STEPS = 3
_NO_FUSION = dict.fromkeys(
    ("enable_npugraph_ex", "fuse_norm_quant", "fuse_qknorm_rope", "fuse_allreduce_rms", "fuse_muls_add"), False
)
# float32 for exact tokens, for which upstream's attention mask has no chunked prefill; so the AscendScheduler is used,
# which does not chunk. Each release reads what it knows: of 0.18.0 on, fusion is for kernels, and binding for an NPU's
# host.
ADDITIONAL_CONFIG: Mapping[str, object] = {
    "ascend_scheduler_config": {"enabled": True},
    "ascend_compilation_config": _NO_FUSION,
    "enable_cpu_binding": False,
}
# vLLM 0.18 would run a worker in a process of its own, and the probes are where the model is; and it would schedule the
# next step while one is under way, which makes no forward of its own and is left so by vLLM's in-process engine.
IN_PROCESS: Mapping[str, object] = {"distributed_executor_backend": "uni", "async_scheduling": False}
SOC_310P = 202
SOC_A3 = 253


class Tree(Enum):
    """Which vllm-ascend is on the import path."""

    PRISTINE = "pristine"
    PATCHED = "patched"


class Mode(Enum):
    EAGER = "eager"
    ACL_GRAPH = "ACL graph"
    FULL_DECODE = "full decode graph"
    TORCHAIR = "TorchAir"


@dataclass(frozen=True)
class Round:
    """One batch of requests: ``prompts[r]`` are the indexes into ``PROMPTS`` that rank r gets.

    A round ends when every rank has finished; until then a rank without requests runs dummy batches. ``late[r]`` are
    those that rank r gets ``LATE_STEPS`` steps into the round, while others decode.
    """

    name: str
    prompts: tuple[tuple[int, ...], ...]
    late: tuple[tuple[int, ...], ...] = ()

    def asked(self, rank: int) -> tuple[int, ...]:
        """All that rank ``rank`` gets, early and late."""
        return self.prompts[rank] + (self.late[rank] if self.late else ())

    def of(self, wanted: Callable[[int], bool]) -> "Round":
        """The round with those prompts alone that ``wanted`` says yes to."""
        prompts, late = (tuple(tuple(filter(wanted, own)) for own in of) for of in (self.prompts, self.late))
        return Round(self.name, prompts, late)


# First in an engine run: upstream decides by the lengths of the step before, and here there is none.
ONE_TOKEN_ROUND = Round("one token", ((1,), ()))
# Rank 1 is idle, then prefills more tokens than any graph holds while rank 0 decodes.
LATE_ROUND = Round("prefill beside a decode", ((2,), ()), late=((), (3,)))


def _dp2_rounds() -> tuple[Round, ...]:
    everything = tuple(range(len(PROMPTS)))
    return (
        ONE_TOKEN_ROUND,
        Round("one prompt", ((0,), ())),
        Round("all on rank 0", (everything, ())),
        Round("spread", (everything[0::2], everything[1::2])),
        Round("one on rank 1", ((), (2,))),
        Round("all on rank 1", ((), everything)),
        LATE_ROUND,
    )


DP1_ROUNDS = (Round("one token", ((1,),)), Round("all", (tuple(range(len(PROMPTS))),)))
DP2_ROUNDS = _dp2_rounds()
_OTHERS = ((),) * 14
DP16_ROUNDS = (
    Round("one prompt", ((0,), (), *_OTHERS)),
    Round("prefill beside a decode", ((2,), (), *_OTHERS), late=((), (3,), *_OTHERS)),
)


def null_connector(role: str) -> dict[str, str]:
    """vLLM's ``kv_transfer_config`` with the connector of null_connector.py, which only an engine can import."""
    return {"kv_connector": "NullConnector", "kv_connector_module_path": "null_connector", "kv_role": role}


@dataclass(frozen=True)
class EngineRun:
    """One start of an engine on ``dp_size`` ranks, and the rounds it serves."""

    tree: Tree
    model: Model = Model.QWEN3_MOE
    mode: Mode = Mode.EAGER
    expert_parallel: bool = False
    kv_both: bool = False
    shared_expert_dp: bool = False
    moe_probe: bool = False
    all_to_all_seq: bool = False
    """With the all-to-all that vllm-ascend 0.10.0 has to opt in to."""
    prompt_logprobs: bool = False
    """Each request asks for the logprobs of its prompt, too."""
    new_tokens: int = TOKENS
    max_seqs: int = MAX_SEQS
    soc: int | None = None
    """Number of the chip that the stand-in plays, where it is not its default, an A2."""
    rounds: tuple[Round, ...] = field(default=DP2_ROUNDS, repr=False)
    traced: bool = True
    """With the stand-in's trace."""

    @property
    def script(self) -> str:
        """The module that each rank runs."""
        return "rank"

    def more(self, rank: int, checkpoint: Path) -> dict[str, Any]:
        """What rank ``rank``'s job says beside what every job does."""
        del rank, checkpoint  # nothing
        return {}

    @property
    def dp_size(self) -> int:
        return len(self.rounds[0].prompts)

    def __str__(self) -> str:
        parts = [self.model.value, self.mode.value, f"DP={self.dp_size}"]
        parts += ["EP"] * self.expert_parallel + ["sequential all-to-all"] * self.all_to_all_seq
        parts += ["kv_both"] * self.kv_both + ["310P"] * (self.soc == SOC_310P)
        parts += ["shared-expert DP"] * self.shared_expert_dp + ["prompt logprobs"] * self.prompt_logprobs
        parts += ["no trace"] * (not self.traced)
        parts += [f"max_num_seqs={self.max_seqs}"] * (self.max_seqs != MAX_SEQS)
        return f"{', '.join(parts)} on {self.tree.value}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that its ranks have beside those of the smoke tests."""
        found = {} if self.soc is None else {"STANDIN_SOC": str(self.soc)}
        return found | ({"VLLM_ASCEND_ENABLE_MOE_ALL2ALL_SEQ": "1"} if self.all_to_all_seq else {})

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        """Keyword arguments of ``vllm.LLM``; ``storage`` is a folder for the KV connector."""
        # A 310P's activation gives float16 whatever it gets.
        extra = dict(ADDITIONAL_CONFIG)
        if self.mode is Mode.TORCHAIR:
            extra["torchair_graph_config"] = {"enabled": True, "graph_batch_sizes": [self.max_seqs]}
        if self.shared_expert_dp:
            extra["enable_shared_expert_dp"] = True
        arguments: dict[str, Any] = {
            "model": checkpoint,
            "dtype": "float16" if self.soc == SOC_310P else "float32",
            "skip_tokenizer_init": True,
            "seed": 0,
            "max_model_len": MAX_TOKENS,
            "max_num_batched_tokens": 4 * MAX_TOKENS,
            "max_num_seqs": self.max_seqs,
            "num_gpu_blocks_override": 64,
            "enable_prefix_caching": False,
            "enforce_eager": self.mode is Mode.EAGER,
            "enable_expert_parallel": self.expert_parallel,
            "additional_config": extra,
            **IN_PROCESS,
        }
        if self.mode in (Mode.ACL_GRAPH, Mode.FULL_DECODE):
            sizes = [size for size in GRAPH_SIZES if size <= self.max_seqs]
            arguments["compilation_config"] = {"cudagraph_capture_sizes": sizes}
        if self.mode is Mode.FULL_DECODE:
            arguments["compilation_config"]["cudagraph_mode"] = "FULL_DECODE_ONLY"
        if self.kv_both:
            arguments["kv_transfer_config"] = {
                "kv_connector": "SharedStorageConnector",
                "kv_role": "kv_both",
                "kv_connector_extra_config": {"shared_storage_path": storage},
            }
        return arguments
