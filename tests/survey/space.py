# SPDX-License-Identifier: Apache-2.0
"""The space of deployments: dimensions, the values of each with its default first, and what excludes what.

A value is a string, so that a deployment is one line of `name=value` departures from the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    "soc": ("a2", "a3", "310p"),
    "kv": ("none", "kv_both"),
    "metadata_group": ("device", "cpu"),
    "ask": ("uneven", "one", "late", "abort", "logprobs", "prompt_logprobs", "n2", "turns"),
}
DEFAULT: Settings = {name: values[0] for name, values in DIMENSIONS.items()}


@dataclass(frozen=True)
class Exclusion:
    """A combination that no deployment has.

    Attributes:
        dimensions: those that decide it.
        holds: whether their values, in that order, may be together.
        why: where that comes from.
    """

    dimensions: tuple[str, ...]
    holds: Callable[..., bool]
    why: str

    def admits(self, settings: Mapping[str, str]) -> bool:
        """Whether ``settings``, which may lack dimensions, do not break it."""
        values = [settings.get(name) for name in self.dimensions]
        return None in values or self.holds(*values)


EXCLUSIONS = (
    Exclusion(
        ("scheduler", "dtype"),
        lambda scheduler, dtype: scheduler == "ascend" or dtype != "float32",
        "upstream's attention mask for chunked prefill has no float32",
    ),
    Exclusion(
        ("soc", "dtype"),
        lambda soc, dtype: soc != "310p" or dtype == "float16",
        "a 310P's activation gives float16 whatever it gets",
    ),
    Exclusion(
        ("drafter", "model"),
        lambda drafter, model: drafter != "mtp" or model == "deepseek_v3",
        "only the DeepSeek checkpoint has a multi-token-prediction layer",
    ),
    Exclusion(
        ("expert_parallel", "model"),
        lambda expert_parallel, model: expert_parallel == "off" or model != "qwen3",
        "a dense model has no experts",
    ),
    Exclusion(
        ("max_num_batched_tokens", "scheduler"),
        lambda tokens, scheduler: tokens == "large" or scheduler == "vllm",
        "without chunked prefill a step must hold a whole sequence",
    ),
    Exclusion(
        ("lmhead_parallel", "dp"),
        lambda lmhead, dp: lmhead == "off" or dp != "1",
        "a group of one rank splits nothing",
    ),
    Exclusion(
        ("mlp_parallel", "dp"),
        lambda mlp, dp: mlp == "off" or dp != "1",
        "a group of one rank splits nothing",
    ),
)
_FULL_DECODE = ("v0.11.0",)


def of_set(set_name: str) -> dict[str, tuple[str, ...]]:
    """The dimensions that the release of a set has."""
    modes = tuple(mode for mode in DIMENSIONS["mode"] if mode != "full_decode" or set_name in _FULL_DECODE)
    return {**DIMENSIONS, "mode": modes}


def admits(settings: Mapping[str, str]) -> bool:
    """Whether no exclusion forbids ``settings``, which may lack dimensions."""
    return all(one.admits(settings) for one in EXCLUSIONS)


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


def parse(text: str) -> Settings:
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
    for one in EXCLUSIONS:
        if not one.admits(settings):
            raise ValueError(f"{line(settings)}: {one.why}")
    return settings
