# SPDX-License-Identifier: Apache-2.0
"""The space of deployments: dimensions, and the values of each with its default first; `exclusions` says what is not.

A value is a string, so that a deployment is one line of `name=value` departures from the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from survey.exclusions import EXCLUSIONS, Exclusion
from survey.models import KINDS
from survey.switches import SWITCHES

Settings = dict[str, str]
"""A value for each dimension."""

DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "model": tuple(KINDS),
    "dtype": ("float32", "float16", "bfloat16"),
    "dp": ("2", "1", "3"),
    "tp": ("1", "2"),
    "pp": ("1", "2"),
    "decode_context": ("1", "2"),
    "prefill_context": ("1", "2"),
    "expert_parallel": ("off", "on"),
    "mode": ("eager", "acl_graph", "acl_graph_default", "full_decode", "torchair"),
    "max_num_seqs": ("8", "1", "2"),
    "max_num_batched_tokens": ("large", "small"),
    "scheduler": ("ascend", "vllm"),
    "prefix_caching": ("off", "on"),
    "async_scheduling": ("off", "on"),
    "drafter": ("none", "mtp", "mtp3", "ngram", "eagle3"),
    "lmhead_parallel": ("off", "on"),
    "mlp_parallel": ("off", "on"),
    "oproj_parallel": ("off", "on"),
    "embedding_parallel": ("off", "on"),
    "shared_expert_dp": ("off", "on"),
    "adapters": ("off", "on"),
    "soc": ("a2", "a3", "310p"),
    "kv": ("none", "kv_both", "kv_consumer", "null_producer", "null_consumer"),
    "switch": ("none", *SWITCHES),
    "metadata_group": ("device", "cpu"),
    "client": ("in_process", "serve", "serve_external", "serve_two_apis"),
    "ask": (
        "uneven",
        "one",
        "late",
        "abort",
        "logprobs",
        "prompt_logprobs",
        "structured",
        "n2",
        "turns",
        "profiled",
        "slept",
        "beside_slow",
    ),
}
DEFAULT: Settings = {name: values[0] for name, values in DIMENSIONS.items()}


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
