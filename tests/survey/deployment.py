# SPDX-License-Identifier: Apache-2.0
"""A deployment as tests/smoke's engine runs it: what vLLM, the environment and the ranks get."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import adapters
import drafters
from job import ADDITIONAL_CONFIG, IN_PROCESS, null_connector

from survey import asks, profiled, space
from survey.models import KINDS, Kind
from survey.switches import NO_SWITCH, SWITCHES, Switch

LENGTH = 256
_SOC = {"a2": None, "a3": 253, "310p": 202}
_SIZES = [1, 2, 4, 8]
_DRAFTERS = dict(zip(("mtp", "eagle3"), drafters.ARCHITECTURES, strict=True))
_DRAFTERS["mtp3"] = _DRAFTERS["mtp"]
_MTP_DRAFTS = {"mtp": 1, "mtp3": 3}
# Seconds after which vLLM gives a step up that a worker process does not answer; its own 300 are many times what any
# step takes here.
_STEP_LIMIT = 120


@dataclass(frozen=True)
class Deployment:
    """One deployment on one tree; has what `engine.run` asks of an `EngineRun`."""

    tree: str
    settings: space.Settings = field(hash=False)

    script = "survey.rank"
    moe_probe = False
    prompt_logprobs = False
    rounds = ()
    new_tokens = asks.JUDGED

    @property
    def checkpoint(self) -> str:
        """The name of its checkpoint."""
        return self.settings["model"]

    @property
    def kind(self) -> Kind:
        return KINDS[self.checkpoint]

    @property
    def architectures(self) -> list[str]:
        """The classes of its models, by vLLM's names."""
        drafter = _DRAFTERS.get(self.settings["drafter"])
        return [self.kind.architecture, *([drafter] if drafter else [])]

    @property
    def dp_size(self) -> int:
        return int(self.settings["dp"])

    @property
    def workers(self) -> int:
        """Of each rank."""
        return math.prod(int(self.settings[name]) for name in ("tp", "pp", "prefill_context"))

    @property
    def online(self) -> bool:
        return self.settings["client"] != "in_process"

    @property
    def sleeps(self) -> bool:
        return self.settings["ask"] == "slept"

    @property
    def profiled(self) -> bool:
        return self.settings["ask"] == "profiled"

    def slowed(self, rank: int) -> bool:
        """Whether each step of a rank with requests takes `asks.SLOW_STEP` longer."""
        return self.settings["ask"] == "beside_slow" and rank == 0

    @property
    def soc(self) -> int | None:
        return _SOC[self.settings["soc"]]

    @property
    def _switch(self) -> Switch:
        return SWITCHES.get(self.settings["switch"], NO_SWITCH)

    @property
    def environment(self) -> dict[str, str]:
        """Of upstream and of the patches."""
        found = {
            "VLLM_ASCEND_DP_METADATA_GROUP": self.settings["metadata_group"],
            "VLLM_ASCEND_DP_TIMEOUT": "off",
            "VLLM_WORKER_MULTIPROC_METHOD": "fork",
            "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": str(_STEP_LIMIT),
            # One that waits for a worker would use all of a CPU, and so look busy, however long.
            "VLLM_SLEEP_WHEN_IDLE": "1",
            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "600",
        }
        if self.settings["mlp_parallel"] == "on":
            found["VLLM_ASCEND_ENABLE_MLP_OPTIMIZE"] = "1"
        if self.settings["prefill_context"] != "1":
            found["VLLM_ASCEND_ENABLE_CONTEXT_PARALLEL"] = "1"
        found |= self._switch.environment
        if self.soc is not None:
            found["STANDIN_SOC"] = str(self.soc)
        if self.profiled:
            found |= profiled.environment("profile")
        if self.sleeps:
            # A server takes it then; and upstream wakes up with plain weights alone.
            found |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ASCEND_ENABLE_NZ": "0"}
        return found

    def more(self, rank: int, checkpoint: Path) -> dict[str, Any]:
        del rank
        return {"adapters": [str(folder) for folder in self._adapters(checkpoint)]}

    def _adapters(self, checkpoint: Path) -> list[Path]:
        return adapters.make(checkpoint / "plain") if self.settings["adapters"] == "on" else []

    @property
    def asked(self) -> tuple[tuple[asks.Request, ...], ...]:
        """The requests of each rank."""
        found = asks.of(self.settings["ask"], self.dp_size, int(self.settings["max_num_seqs"]))
        return asks.with_pictures(found) if self.kind.sees else found

    @property
    def between(self) -> tuple[tuple[str, ...], ...]:
        """What is called on every engine before the second phase, and so on."""
        return asks.BETWEEN.get(self.settings["ask"], ())

    def __str__(self) -> str:
        return f"{space.line(self.settings)} on {self.tree}"

    def engine_arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        """What the ranks' job has under ``engine``: the arguments of ``vllm.LLM``, the environment and the requests."""
        return {
            "llm": self.arguments(checkpoint, storage),
            "environment": self.environment,
            "asked": [[one.as_dict() for one in of] for of in self.asked],
            "between": self.between,
            "embeds": self.kind.embeds,
            "sleeps": self.sleeps,
            "profiled": self.profiled,
            "expected": str(Path(checkpoint) / "expected.json"),
        }

    def arguments(self, checkpoint: str, storage: str) -> dict[str, Any]:
        """Arguments of ``vllm.LLM``; ``storage`` is a folder for the KV connector."""
        chosen = self.settings
        arguments: dict[str, Any] = {
            "model": str(Path(checkpoint) / ("mtp" if chosen["drafter"] in _MTP_DRAFTS else "plain")),
            "dtype": chosen["dtype"],
            "seed": 0,
            "max_model_len": LENGTH,
            "max_num_batched_tokens": 64 if chosen["max_num_batched_tokens"] == "small" else 4 * LENGTH,
            "max_num_seqs": int(chosen["max_num_seqs"]),
            "num_gpu_blocks_override": 64,
            "block_size": asks.BLOCK,
            "enable_prefix_caching": chosen["prefix_caching"] == "on",
            "enforce_eager": chosen["mode"] == "eager",
            "enable_expert_parallel": chosen["expert_parallel"] == "on",
            "additional_config": self._additional(),
        }
        # A grammar, a server and a picture need words, and so does what makes vectors, of vLLM 0.23 on.
        words = chosen["ask"] == "structured" or self.online or self.kind.sees or self.kind.embeds
        tokenizer = str(Path(checkpoint) / "tokenizer")
        arguments |= {"tokenizer": tokenizer} if words else {"skip_tokenizer_init": True}
        if chosen["kv"] != "none" and "2" in (chosen["decode_context"], chosen["prefill_context"]):
            # With a connector upstream wants ranks to hold tokens in turns of a block.
            arguments["cp_kv_cache_interleave_size"] = asks.BLOCK
        if self.workers > 1:
            arguments |= {"tensor_parallel_size": int(chosen["tp"]), "pipeline_parallel_size": int(chosen["pp"])}
            arguments["distributed_executor_backend"] = "mp"
            # Older releases do not know these two.
            for name in ("decode_context", "prefill_context"):
                if chosen[name] != "1":
                    arguments[f"{name}_parallel_size"] = int(chosen[name])
        elif not self.online:
            arguments |= IN_PROCESS
        if self.kind.embeds:
            arguments |= {"runner": "pooling", "convert": "embed"}
        if self.kind.sees:
            arguments["limit_mm_per_prompt"] = {"image": 1, "video": 0}
        if self.sleeps:
            arguments["enable_sleep_mode"] = True
        # Of vLLM 0.18 on, it is on where nothing is said.
        arguments["async_scheduling"] = chosen["async_scheduling"] == "on"
        if chosen["mode"] in ("acl_graph", "full_decode"):
            sizes = [size for size in _SIZES if size <= int(chosen["max_num_seqs"])]
            arguments["compilation_config"] = {"cudagraph_capture_sizes": sizes}
        if chosen["mode"] == "full_decode":
            arguments["compilation_config"]["cudagraph_mode"] = "FULL_DECODE_ONLY"
        if chosen["kv"].startswith("kv_"):
            arguments["kv_transfer_config"] = {
                "kv_connector": "SharedStorageConnector",
                "kv_role": chosen["kv"],
                "kv_connector_extra_config": {"shared_storage_path": storage},
            }
        if chosen["kv"].startswith("null_"):
            arguments["kv_transfer_config"] = null_connector(chosen["kv"].replace("null", "kv"))
        if chosen["adapters"] == "on":
            arguments |= {"enable_lora": True, "max_loras": adapters.ADAPTERS, "max_lora_rank": adapters.RANK}
        if drafts := _MTP_DRAFTS.get(chosen["drafter"]):
            arguments["speculative_config"] = {"method": "deepseek_mtp", "num_speculative_tokens": drafts}
        if chosen["drafter"] == "eagle3":
            head = str(Path(checkpoint) / "eagle3")
            arguments["speculative_config"] = {"method": "eagle3", "model": head, "num_speculative_tokens": 2}
        if chosen["drafter"] == "ngram":
            arguments["speculative_config"] = {
                "method": "ngram",
                "num_speculative_tokens": 2,
                "prompt_lookup_max": 3,
                "prompt_lookup_min": 1,
            }
        return arguments

    def _additional(self) -> dict[str, Any]:
        """Upstream's own settings."""
        chosen = self.settings
        split: dict[str, int] = {}  # as later releases read it; others have settings of their own, or a variable
        found: dict[str, Any] = {**ADDITIONAL_CONFIG, "finegrained_tp_config": split}
        if chosen["scheduler"] != "ascend":
            del found["ascend_scheduler_config"]
        if chosen["mode"] == "torchair":
            found["torchair_graph_config"] = {"enabled": True, "graph_batch_sizes": [int(chosen["max_num_seqs"])]}
        if chosen["lmhead_parallel"] == "on":
            found["lmhead_tensor_parallel_size"] = split["lmhead_tensor_parallel_size"] = self.dp_size
        if chosen["mlp_parallel"] == "on":
            split["mlp_tensor_parallel_size"] = self.dp_size
        for layer in ("oproj", "embedding"):
            if chosen[f"{layer}_parallel"] == "on":
                split[f"{layer}_tensor_parallel_size"] = self.dp_size
        if chosen["shared_expert_dp"] == "on":
            found["enable_shared_expert_dp"] = True
        return found | self._switch.additional
