# SPDX-License-Identifier: Apache-2.0
"""Reads the trace that a rank's stand-in wrote: steps, collectives, blocking reads of the device."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]

# Where a read of the device is for what the ranks agree on, not for the tokens that a step yields.
# (file suffix, functions; no function named: any)
_METADATA_SITES: tuple[tuple[str, frozenset[str]], ...] = (
    ("vllm/forward_context.py", frozenset()),
    ("vllm_ascend/ascend_forward_context.py", frozenset()),
    ("vllm_ascend/worker/model_runner_v1.py", frozenset({"_sync_metadata_across_dp", "_dummy_run"})),
    ("vllm_ascend/torchair/torchair_model_runner.py", frozenset()),
    ("vllm_ascend/ops/fused_moe.py", frozenset({"naive_multicast"})),
)
_OWN_PACKAGE = "vllm_ascend/data_parallel/"


@dataclass(frozen=True)
class Collective:
    op: str
    group: str
    device: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, event: Event) -> "Collective":
        return cls(event["op"], event["group"], event["device"], event["dtype"], tuple(event["shape"]))

    @property
    def agreed(self) -> tuple[object, ...]:
        """What must be the same on every rank: all, but that an all-to-all sends each its own number of rows."""
        shape = self.shape[1:] if self.op.startswith("all_to_all") else self.shape
        return self.op, self.group, self.device, self.dtype, shape

    @property
    def is_metadata(self) -> bool:
        """Whether it carries token counts and flags, not activations: one vector of integers over the DP ranks, on
        vLLM's group of them or on one that is for this alone."""
        integers = self.dtype in ("int32", "int64")
        return self.op == "all_reduce" and self.group in ("dp", "dp_metadata") and integers and len(self.shape) == 1


@dataclass(frozen=True)
class HostRead:
    how: str
    file: str
    func: str
    line: int

    @classmethod
    def of(cls, event: Event) -> "HostRead":
        return cls(event["how"], event["file"] or "", event["func"] or "", event["line"] or 0)

    @property
    def is_metadata(self) -> bool:
        if _OWN_PACKAGE in self.file:
            return True
        return any(
            self.file.endswith(suffix) and (not functions or self.func in functions)
            for suffix, functions in _METADATA_SITES
        )


@dataclass
class Step:
    """One execution of the model on one rank, from its outermost begin to its end."""

    what: str
    begin: float
    collectives: list[Collective] = field(default_factory=list)
    reads: list[HostRead] = field(default_factory=list)

    @property
    def metadata_collectives(self) -> list[Collective]:
        return [one for one in self.collectives if one.is_metadata]

    @property
    def metadata_reads(self) -> list[HostRead]:
        return [one for one in self.reads if one.is_metadata]


def steps(events: Iterable[Event], since: float = 0.0) -> list[Step]:
    """The steps that began at or after ``since`` (the trace's clock), in order.

    A step may nest another (``execute_dummy_batch`` calls ``dummy_run``): they count as one.
    """
    return [step for step in _all_steps(events) if step.begin >= since]


def _all_steps(events: Iterable[Event]) -> Iterator[Step]:
    depth = 0
    step: Step | None = None
    for event in events:
        match event["kind"]:
            case "step" if event.get("end"):
                depth -= 1
                if depth == 0 and step is not None:
                    yield step
                    step = None
            case "step":
                depth += 1
                step = step or Step(event["what"], event["t"])
            case "collective" if step is not None:
                step.collectives.append(Collective.of(event))
            case "host_read" if step is not None:
                step.reads.append(HostRead.of(event))
