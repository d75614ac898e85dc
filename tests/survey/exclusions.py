# SPDX-License-Identifier: Apache-2.0
"""What no deployment has, and why: what upstream or vLLM refuses, what a release lacks, what the stand-in cannot show.

Each is known from a run on the pristine tree, or from the line there, or in vLLM, that refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from survey.models import DENSE, EMBEDDING, EXPERTS
from survey.switches import SWITCHES

EVERY_SET = ("v0.10.0", "v0.10.1.1", "v0.10.2", "v0.11.0", "v0.18.0", "v0.23.0")


@dataclass(frozen=True)
class Exclusion:
    """A combination that no deployment has.

    Attributes:
        dimensions: those that decide it.
        holds: whether their values, in that order, may be together.
        why: where that comes from.
        sets: the releases that it is for.
    """

    dimensions: tuple[str, ...]
    holds: Callable[..., bool]
    why: str
    sets: tuple[str, ...] = EVERY_SET

    def admits(self, settings: Mapping[str, str]) -> bool:
        """Whether ``settings``, which may lack dimensions, do not break it."""
        values = [settings.get(name) for name in self.dimensions]
        return None in values or self.holds(*values)


def _without(name: str, value: str, why: str, *sets: str) -> Exclusion:
    """That releases do not have a value."""
    return Exclusion((name,), lambda given: given != value, why, sets)


def _only_with(name: str, value: str, other: str, values: tuple[str, ...], why: str, *sets: str) -> Exclusion:
    """That a value comes with some of another dimension alone."""
    return Exclusion((name, other), lambda a, b: a != value or b in values, why, sets or EVERY_SET)


def _not_both(name: str, value: str, other: str, values: tuple[str, ...], why: str, *sets: str) -> Exclusion:
    """That a value comes with none of some of another dimension."""
    return Exclusion((name, other), lambda a, b: a != value or b not in values, why, sets or EVERY_SET)


_NO_TOKENS = "a model that gives vectors has no lm head"
_NO_MASK = "upstream's mask for chunked prefill has no float32"
_SPLITS_NOTHING = "a group of one rank splits nothing"
_SEVERAL = ("2", "3")
_LATER = ("v0.18.0", "v0.23.0")
_OLDER = tuple(one for one in EVERY_SET if one not in _LATER)
_ALL_GATHERED = "upstream cuts the rows of ranks that share a prefill before each has its own, and ends at the start"
_SPLITS_A_HEAD = "vLLM refuses it where ranks have key-value heads of their own"
_MTP = ("mtp", "mtp3")
_ONE_KV = ("qwen3_moe_one_kv", "deepseek_v3")
_ASKED_OF_VECTORS = ("uneven", "one", "late", "profiled", "slept")

EXCLUSIONS = (
    _only_with("dtype", "float32", "scheduler", ("ascend",), _NO_MASK),
    _only_with("soc", "310p", "dtype", ("float16",), "a 310P's activation gives float16 whatever it gets"),
    _not_both("soc", "310p", "model", ("deepseek_v3",), "upstream's latent attention needs another chip"),
    *(
        _only_with("drafter", one, "model", ("deepseek_v3",), "only this checkpoint has a layer that predicts tokens")
        for one in _MTP
    ),
    _without("drafter", "mtp3", "upstream's drafter makes one token alone", "v0.10.0", "v0.10.1.1"),
    _only_with("drafter", "eagle3", "model", ("llama",), "only this checkpoint has a head that drafts"),
    _only_with("drafter", "eagle3", "dtype", ("float16", "bfloat16"), "upstream's mask for drafts has no float32"),
    _only_with("expert_parallel", "on", "model", EXPERTS, "a dense model has no experts"),
    Exclusion(
        ("model", "ask"),
        lambda model, ask: model not in EMBEDDING or ask in _ASKED_OF_VECTORS,
        "a vector has no tokens to be judged, continued or cut off",
    ),
    Exclusion(("model", "drafter"), lambda model, drafter: model not in EMBEDDING or drafter == "none", _NO_TOKENS),
    Exclusion(("model", "lmhead_parallel"), lambda model, split: model not in EMBEDDING or split == "off", _NO_TOKENS),
    _not_both("model", "qwen2_vl", "client", ("serve_two_apis",), "a process of its own has no `pictures.py`"),
    _not_both("client", "serve_external", "dp", ("1",), "there is nothing to share out"),
    _only_with(
        "max_num_batched_tokens", "small", "scheduler", ("vllm",), "without chunks a step holds a whole sequence"
    ),
    _without("decode_context", "2", "vLLM has it for other chips alone, or not at all", *_OLDER),
    _without("prefill_context", "2", "vLLM has not such ranks", *_OLDER),
    _without("prefill_context", "2", "upstream refuses it beside DP", "v0.23.0"),
    _without("model", "qwen3_moe_one_kv", "for decode context parallelism alone", *_OLDER),
    Exclusion(
        ("prefill_context", "dp", "soc"),
        lambda shared, dp, soc: shared == "1" or dp == "1" or soc == "a3",
        _ALL_GATHERED,
        ("v0.18.0",),
    ),
    Exclusion(
        ("prefill_context", "dp", "expert_parallel"),
        lambda shared, dp, experts: shared == "1" or dp == "1" or experts == "on",
        _ALL_GATHERED,
        ("v0.18.0",),
    ),
    Exclusion(
        ("prefill_context", "model", "drafter"),
        lambda shared, model, drafter: shared == "1" or model != "deepseek_v3" or drafter in _MTP,
        "upstream copies one token's slot to itself, which torch refuses on a CPU",
    ),
    _only_with("decode_context", "2", "tp", ("2",), "the ranks that share a context are those of tensor parallelism"),
    _only_with("decode_context", "2", "model", _ONE_KV, _SPLITS_A_HEAD),
    # What follows from two of these, which a search would try all other dimensions for.
    _not_both("dtype", "float32", "max_num_batched_tokens", ("small",), _NO_MASK),
    _not_both("dtype", "float32", "ask", ("structured",), _NO_MASK),
    _not_both("decode_context", "2", "adapters", ("on",), _SPLITS_A_HEAD),
    _not_both("decode_context", "2", "drafter", ("eagle3",), _SPLITS_A_HEAD),
    _only_with("decode_context", "2", "lmhead_parallel", ("off",), "upstream splits the head over DP ranks without TP"),
    _only_with("lmhead_parallel", "on", "dp", _SEVERAL, _SPLITS_NOTHING),
    _only_with("mlp_parallel", "on", "dp", _SEVERAL, _SPLITS_NOTHING),
    _only_with("shared_expert_dp", "on", "model", ("deepseek_v3",), "no other checkpoint has a shared expert"),
    _only_with(
        "shared_expert_dp", "on", "expert_parallel", ("on",), "upstream takes it with experts in parallel alone"
    ),
    _only_with("adapters", "on", "model", ("qwen3",), "upstream runs adapters on dense models"),
    _only_with(
        "mode", "torchair", "model", ("qwen3_moe",), "the stand-in does not give DeepSeek's tokens", "v0.10.1.1"
    ),
    _without(
        "mode",
        "torchair",
        "TorchAir is for models whose tokens the stand-in does not give",
        "v0.10.0",
        "v0.10.2",
        "v0.11.0",
    ),
    _without("mode", "torchair", "no such graphs", *_LATER),
    Exclusion(
        ("model", "dp"),
        lambda model, dp: model not in DENSE or dp == "1",
        "vLLM refuses DP of a dense model in one engine",
        _LATER,
    ),
    _without("soc", "310p", "the stand-in has not a 310P's kernels of this release", *_LATER),
    _without("kv", "kv_both", "vLLM has not the connector", *_LATER),
    _without("kv", "kv_consumer", "vLLM has not the connector", *_LATER),
    _without("mode", "full_decode", "no such graphs", "v0.10.0", "v0.10.1.1", "v0.10.2"),
    _only_with(
        "model",
        "deepseek_v3",
        "mode",
        ("eager", "torchair"),
        "upstream refuses ACL graphs for DeepSeek",
        "v0.10.0",
        "v0.10.1.1",
        "v0.10.2",
    ),
    _without("lmhead_parallel", "on", "no such parallelism", "v0.10.0"),
    _without("mlp_parallel", "on", "no such parallelism", "v0.10.0"),
    _without("shared_expert_dp", "on", "has no such setting, and ignores it", "v0.10.0"),
    _without("adapters", "on", "vLLM 0.10.2's LoRA does not know its linear layers", "v0.10.2"),
    _only_with(
        "drafter",
        "ngram",
        "model",
        ("deepseek_v3",),
        "upstream's other attention has no mask for drafts that no model makes, and ends",
        "v0.10.0",
        "v0.10.1.1",
        "v0.10.2",
    ),
    _only_with(
        "soc",
        "310p",
        "mode",
        ("eager", "acl_graph", "acl_graph_default", "full_decode"),
        "the stand-in's TorchAir kernel does not read a 310P's cache",
    ),
    _only_with("adapters", "on", "mlp_parallel", ("off",), "vLLM's LoRA does not know these layers", "v0.10.1.1"),
    _only_with("adapters", "on", "mode", ("eager",), "its LoRA operators have no shapes for a compiler", "v0.10.0"),
    Exclusion(
        ("adapters", "soc", "mode"),
        lambda adapters, soc, mode: mode == "eager" or (adapters, soc) != ("on", "310p"),
        "on a 310P upstream takes vLLM's own LoRA operators, which no compiler traces",
    ),
    Exclusion(
        ("model", "soc", "mode"),
        lambda model, soc, mode: mode == "eager" or model not in EXPERTS or soc != "310p",
        "on a 310P upstream's graphs route experts as Pangu alone does",
        ("v0.10.0", "v0.10.1.1", "v0.10.2"),
    ),
    _without("kv", "kv_both", "vLLM's connector cannot store upstream's pair of KV caches", "v0.11.0"),
    _only_with("ask", "beside_slow", "client", ("serve_external",), "of others nobody says which rank gets a request"),
    _only_with("ask", "beside_slow", "dp", _SEVERAL, "there is no other rank"),
    _not_both("ask", "beside_slow", "model", EMBEDDING, "a vector comes as a whole"),
    _not_both("ask", "beside_slow", "model", ("qwen2_vl",), "a picture is for a chat, whose events are others"),
    _only_with("ask", "structured", "scheduler", ("vllm",), "upstream's scheduler ends where a grammar is awaited"),
    _not_both("async_scheduling", "on", "pp", ("2",), "vLLM refuses both at once", *_OLDER),
    _only_with("async_scheduling", "on", "drafter", ("none",), "vLLM refuses drafters with it", *_OLDER),
    _not_both("async_scheduling", "on", "drafter", ("ngram",), "vLLM refuses drafts of no model with it", *_LATER),
    _only_with("lmhead_parallel", "on", "tp", ("1",), "upstream refuses both at once"),
    _without("oproj_parallel", "on", "its TorchAir alone has it, for DeepSeek", *_OLDER),
    _without("embedding_parallel", "on", "no such parallelism", *_OLDER),
    _only_with("oproj_parallel", "on", "dp", _SEVERAL, _SPLITS_NOTHING),
    _only_with("embedding_parallel", "on", "dp", _SEVERAL, _SPLITS_NOTHING),
    _only_with("oproj_parallel", "on", "kv", ("null_consumer",), "upstream takes it on a decode node alone"),
    _not_both("oproj_parallel", "on", "mode", ("eager",), "upstream takes it with graphs alone"),
    _only_with("oproj_parallel", "on", "tp", ("1",), "upstream refuses both at once", "v0.23.0"),
    *(
        _only_with(f"{layer}_parallel", "on", name, values, "upstream refuses it without its own scheduler", "v0.23.0")
        for layer in ("oproj", "embedding")
        for name, values in (("switch", ("recompute",)), ("kv", ("null_producer", "null_consumer")))
    ),
    Exclusion(
        ("switch", "mode", "max_num_seqs"),
        lambda switch, mode, most: switch != "flashcomm1" or most != "1" or mode not in ("acl_graph", "full_decode"),
        "upstream has no graph of one row where ranks of tensor parallelism share rows out",
        ("v0.23.0",),
    ),
    *(
        _without("switch", name, "no such switch", *(set_name for set_name in EVERY_SET if set_name not in one.sets))
        for name, one in SWITCHES.items()
    ),
    _only_with("switch", "flashcomm1", "tp", ("2",), "upstream takes it with tensor parallelism alone"),
    _only_with("switch", "flashcomm1", "expert_parallel", ("on",), "upstream asks for it where there are experts"),
    _only_with(
        "switch", "recompute", "kv", ("null_producer", "null_consumer"), "for ranks that prefill or decode alone"
    ),
    _only_with("switch", "shared_stream", "model", ("deepseek_v3",), "no other checkpoint has a shared expert"),
    _only_with("switch", "dbo", "model", ("deepseek_v3",), "upstream overlaps two halves of DeepSeek's batches alone"),
    _only_with("switch", "allgather_ep", "expert_parallel", ("on",), "of experts in parallel"),
    _only_with("switch", "gate_stream", "model", ("deepseek_v3",), "no other checkpoint has a shared expert"),
)
