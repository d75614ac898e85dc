# SPDX-License-Identifier: Apache-2.0
"""The space of deployments: dimensions, the values of each with its default first, and what excludes what.

A value is a string, so that a deployment is one line of `name=value` departures from the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Settings = dict[str, str]
"""A value for each dimension."""

DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "model": ("qwen3_moe", "qwen3", "deepseek_v3"),
    "dtype": ("float32", "float16", "bfloat16"),
    "dp": ("2", "1", "3"),
    "expert_parallel": ("off", "on"),
    "mode": ("eager", "acl_graph", "acl_graph_default", "full_decode", "torchair"),
    "max_num_seqs": ("8", "1", "2"),
    "max_num_batched_tokens": ("large", "small"),
    "scheduler": ("ascend", "vllm"),
    "prefix_caching": ("off", "on"),
    "drafter": ("none", "mtp", "ngram"),
    "lmhead_parallel": ("off", "on"),
    "mlp_parallel": ("off", "on"),
    "shared_expert_dp": ("off", "on"),
    "adapters": ("off", "on"),
    "soc": ("a2", "a3", "310p"),
    "kv": ("none", "kv_both", "kv_consumer"),
    "metadata_group": ("device", "cpu"),
    "ask": ("uneven", "one", "late", "abort", "logprobs", "prompt_logprobs", "n2", "turns"),
}
DEFAULT: Settings = {name: values[0] for name, values in DIMENSIONS.items()}


EVERY_SET = ("v0.10.0", "v0.10.1.1", "v0.10.2", "v0.11.0", "v0.18.0")


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


_SPLITS_NOTHING = "a group of one rank splits nothing"
_SEVERAL = ("2", "3")

EXCLUSIONS = (
    _only_with("dtype", "float32", "scheduler", ("ascend",), "upstream's mask for chunked prefill has no float32"),
    _only_with("soc", "310p", "dtype", ("float16",), "a 310P's activation gives float16 whatever it gets"),
    _only_with("soc", "310p", "model", ("qwen3", "qwen3_moe"), "upstream's latent attention needs another chip"),
    _only_with(
        "drafter", "mtp", "model", ("deepseek_v3",), "only this checkpoint has a layer that predicts more tokens"
    ),
    _only_with("expert_parallel", "on", "model", ("qwen3_moe", "deepseek_v3"), "a dense model has no experts"),
    _only_with(
        "max_num_batched_tokens", "small", "scheduler", ("vllm",), "without chunks a step holds a whole sequence"
    ),
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
    _without("mode", "torchair", "no such graphs", "v0.18.0"),
    _only_with("model", "qwen3", "dp", ("1",), "vLLM 0.18 refuses DP of a dense model in one engine", "v0.18.0"),
    _without("soc", "310p", "the stand-in has not a 310P's kernels of this release", "v0.18.0"),
    _without("kv", "kv_both", "vLLM 0.18 has not the connector", "v0.18.0"),
    _without("kv", "kv_consumer", "vLLM 0.18 has not the connector", "v0.18.0"),
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
    _without(
        "shared_expert_dp",
        "on",
        "no such thing, or with sizes that the runner keeps",
        "v0.10.0",
        "v0.10.1.1",
        "v0.10.2",
    ),
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
        lambda model, soc, mode: mode == "eager" or (model, soc) != ("qwen3_moe", "310p"),
        "on a 310P upstream's graphs route experts as Pangu alone does",
        ("v0.10.0", "v0.10.1.1", "v0.10.2"),
    ),
    _without("kv", "kv_both", "vLLM's connector cannot store upstream's pair of KV caches", "v0.11.0"),
)


@dataclass(frozen=True)
class Space:
    """The deployments of one release.

    Attributes:
        dimensions: the values of each, its default first.
        exclusions: what they may not have.
    """

    dimensions: Mapping[str, tuple[str, ...]]
    exclusions: tuple[Exclusion, ...]

    def admits(self, settings: Mapping[str, str]) -> bool:
        """Whether no exclusion forbids ``settings``, which may lack dimensions."""
        return all(one.admits(settings) for one in self.exclusions)

    def parse(self, text: str) -> Settings:
        """The settings that a line of departures stands for.

        Raises:
            ValueError: a name or value that is not in the space, or a combination that is excluded.
        """
        settings = dict(DEFAULT)
        for part in () if text == "default" else text.split(","):
            name, equals, value = part.partition("=")
            if not equals or value not in DIMENSIONS.get(name, ()):
                raise ValueError(f"{part!r} is not a dimension and one of its values")
            settings[name] = value
        for one in self.exclusions:
            if not one.admits(settings):
                raise ValueError(f"{line(settings)}: {one.why}")
        return settings


def of_set(set_name: str) -> Space:
    """The deployments of the release of a set."""
    exclusions = tuple(one for one in EXCLUSIONS if set_name in one.sets)
    alone = [one for one in exclusions if len(one.dimensions) == 1]
    dimensions = {
        name: tuple(value for value in values if all(one.admits({name: value}) for one in alone))
        for name, values in DIMENSIONS.items()
    }
    return Space(dimensions, exclusions)


def departures(settings: Mapping[str, str]) -> Settings:
    """What of ``settings`` is not the default.

    >>> departures({**DEFAULT, "dp": "3"})
    {'dp': '3'}
    """
    return {name: value for name, value in settings.items() if DEFAULT[name] != value}


def line(settings: Mapping[str, str]) -> str:
    """The departures as `ONLY` takes them.

    >>> line({**DEFAULT, "model": "qwen3", "max_num_seqs": "1"})
    'model=qwen3,max_num_seqs=1'
    """
    return ",".join(f"{name}={value}" for name, value in departures(settings).items()) or "default"
