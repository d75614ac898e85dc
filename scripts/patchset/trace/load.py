# SPDX-License-Identifier: Apache-2.0
"""One rank's trace file, read and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from patchset.node.errors import UsageError

T = TypeVar("T")
FORMATS = (1, 2)  # the second has what the ranks said of themselves
_HINT = "give the .jsonl files that the ranks name in their logs"


@dataclass(frozen=True)
class Batch:
    num_tokens: int
    with_prefill: bool
    enable_dbo: bool
    graph_usable: bool


@dataclass(frozen=True)
class Decision:
    """What a rank made of all ranks' batches; must be the same on every rank."""

    tokens_per_rank: tuple[int, ...]
    with_prefill: bool
    enable_dbo: bool
    graph: bool
    padded_tokens_per_rank: tuple[int, ...]
    moe_generic: str
    moe_custom: str


@dataclass(frozen=True)
class Step:
    step: int
    what: str  # entry point of the model runner
    issued: float  # when its metadata collective was issued, in seconds since the epoch on the rank's clock
    prepared_s: float | None  # seconds to prepare inputs; None for a span that did not end
    waited_s: float | None  # the same, to wait for the metadata
    forward_s: float | None  # the same, after it
    batch: Batch
    decision: Decision | None  # None where the rank never had one
    collectives: tuple[str, ...]  # what the step issues, in order
    alone: bool = False  # the rank decided without the others, as nothing depended on them

    @property
    def known(self) -> float | None:
        """When the metadata had come: the same moment on every rank, but for the way back."""
        if self.prepared_s is None or self.waited_s is None:
            return None
        return self.issued + self.prepared_s + self.waited_s


@dataclass(frozen=True)
class Wait:
    step: int
    phase: str  # prepare, metadata, forward or engines
    since: float  # since, seconds: when it began and how long it has lasted
    seconds: float
    at: str | None = None  # line of the layer that asked for the collective
    op: str | None = None  # op, tensor, group: the collective itself, None outside of one
    tensor: str | None = None
    group: str | None = None

    @property
    def collective(self) -> str:
        """The collective in one line, or the phase where it is not known."""
        if self.op is None:
            return self.phase
        return f"{self.op} of {self.tensor or '?'} on {self.group}"

    @property
    def agreed(self) -> tuple[str | None, ...]:
        """What must be equal for two ranks that are to meet: an all-to-all sends each its own number of rows."""
        tensor = None if self.op is None or self.op.startswith("all_to_all") else self.tensor
        return self.phase, self.op, self.group, tensor


@dataclass(frozen=True, eq=False)
class Head:
    """The first line of a trace file: the rank, its run, and why and when the rank wrote the file."""

    format: int
    rank: int
    dp_size: int
    world_rank: int
    host: str
    pid: int
    build: str
    why: str
    at: float


@dataclass(frozen=True, eq=False)
class RankTrace(Head):
    """A rank and its last steps, by number; ``peers`` is what the ranks said of themselves when it wrote, in lines."""

    source: str
    steps: Mapping[int, Step]
    wait: Wait | None
    peers: Sequence[str] = ()

    @property
    def last(self) -> int:
        """Number of the last step that the rank began; 0 if it began none."""
        return max(self.steps, default=0)

    @property
    def name(self) -> str:
        return f"rank {self.rank}" if self.world_rank == self.rank else f"rank {self.rank} ({self.world_rank})"


@dataclass(frozen=True)
class _Peers:
    said: tuple[str, ...]


def load(path: Path) -> RankTrace:
    """Reads a file; raises UsageError where it is not a trace, or a line of it is not what it should be."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text", hint=_HINT) from error
    lines = [_Line(f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), start=1)]
    if not lines:
        raise UsageError(f"{path}: empty", hint=_HINT)
    head = lines[0].read("rank", Head)
    if head.format not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise UsageError(f"{lines[0].where}: format {head.format}, and this tool reads {known}")
    if not 0 <= head.rank < head.dp_size:
        raise UsageError(f"{lines[0].where}: rank {head.rank} of {head.dp_size}")
    body, wait, peers = lines[1:], None, _Peers(())
    if body and body[-1].kind == "wait":
        wait = body.pop().read("wait", Wait)
    if body and body[-1].kind == "peers":
        peers = body.pop().read("peers", _Peers)
    steps = {}
    for line in body:
        step = line.read("step", Step)
        if step.decision and len(step.decision.tokens_per_rank) != head.dp_size:
            told = len(step.decision.tokens_per_rank)
            raise UsageError(f"{line.where}: {told} token counts for {head.dp_size} ranks")
        steps[step.step] = step
    return RankTrace(**vars(head), source=str(path), steps=steps, wait=wait, peers=peers.said)


class _Line:
    """One JSON object, which says its kind."""

    def __init__(self, where: str, text: str) -> None:
        self.where = where
        try:
            self._members = json.loads(text)
        except ValueError as error:
            hint = _HINT if where.endswith(":1") else "the file is cut off; use another rank's"
            raise UsageError(f"{where}: not JSON: {text[:60]!r}", hint=hint) from error
        if not isinstance(self._members, dict):
            raise UsageError(f"{where}: not a JSON object")

    @property
    def kind(self) -> object:
        return self._members.get("kind")

    def read(self, kind: str, wanted: type[T]) -> T:
        """The members as a dataclass, each held to its type; raises UsageError where the line is another."""
        if self.kind != kind:
            raise UsageError(f"{self.where}: a line of kind {self.kind!r} where {kind!r} belongs", hint=_HINT)
        try:
            return msgspec.convert(self._members, wanted)
        except msgspec.ValidationError as error:
            raise UsageError(f"{self.where}: {error}", hint=_HINT) from error


def load_all(paths: Iterable[Path]) -> tuple[RankTrace, ...]:
    """The traces of one run, by world rank. Raises UsageError where a file is no trace, or two files are of the same
    rank or of different runs."""
    by_rank: dict[int, RankTrace] = {}
    for trace in map(load, paths):
        other = by_rank.setdefault(trace.world_rank, trace)
        if other is not trace:
            raise UsageError(f"{other.source} and {trace.source} are both of {trace.name}", hint="give one file a rank")
        first = next(iter(by_rank.values()))
        if trace.dp_size != first.dp_size:
            said = f"{first.source} is of {first.dp_size} DP ranks, {trace.source} of {trace.dp_size}: not one run"
            raise UsageError(said, hint="give the files of one run")
    return tuple(by_rank[rank] for rank in sorted(by_rank))
