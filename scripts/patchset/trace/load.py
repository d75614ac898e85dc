# SPDX-License-Identifier: Apache-2.0
"""One rank's trace file, read and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from patchset.node.errors import UsageError

FORMATS = (1, 2)  # the second has what the ranks said of themselves
_HINT = "give the .jsonl files that the ranks name in their logs"


@dataclass(frozen=True)
class Batch:
    """What a rank brought to a step."""

    num_tokens: int
    with_prefill: bool
    enable_dbo: bool
    graph_usable: bool


@dataclass(frozen=True)
class Decision:
    """What a rank made of all ranks' batches; must be the same on every rank."""

    tokens_per_rank: Sequence[int]
    with_prefill: bool
    enable_dbo: bool
    graph: bool
    padded_tokens_per_rank: Sequence[int]
    moe_generic: str
    moe_custom: str


@dataclass(frozen=True)
class Step:
    """One step of one rank.

    Attributes:
        what: entry point of the model runner.
        issued: when its metadata collective was issued, in seconds since the epoch on the rank's clock.
        prepared_s, waited_s, forward_s: seconds to prepare inputs, to wait for the metadata, and after it;
            None for a span that did not end.
        decision: None where the rank never had one.
        collectives: what the step issues, in order.
    """

    step: int
    what: str
    issued: float
    prepared_s: float | None
    waited_s: float | None
    forward_s: float | None
    batch: Batch
    decision: Decision | None
    collectives: Sequence[str]

    @property
    def known(self) -> float | None:
        """When the metadata had come: the same moment on every rank, but for the way back."""
        if self.prepared_s is None or self.waited_s is None:
            return None
        return self.issued + self.prepared_s + self.waited_s


@dataclass(frozen=True)
class Wait:
    """What a rank was in when it wrote.

    Attributes:
        phase: prepare, metadata, forward or engines.
        since, seconds: when it began and how long it has lasted.
        at: line of the layer that asked for the collective.
        op, tensor, group: the collective itself, None outside of one.
    """

    step: int
    phase: str
    since: float
    seconds: float
    at: str = ""
    op: str | None = None
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
class RankTrace:
    """A rank and its last steps, by number; ``peers`` is what the ranks said of themselves when it wrote, in lines."""

    source: str
    rank: int
    dp_size: int
    world_rank: int
    host: str
    pid: int
    build: str
    why: str
    at: float
    steps: Mapping[int, Step]
    wait: Wait | None
    peers: Sequence[str] = ()

    @property
    def last(self) -> int:
        """Number of the last step that it began; 0 where it began none."""
        return max(self.steps, default=0)

    @property
    def name(self) -> str:
        return f"rank {self.rank}" if self.world_rank == self.rank else f"rank {self.rank} ({self.world_rank})"


def load(path: Path) -> RankTrace:
    """Reads a file.

    Raises:
        UsageError: it is not a trace, or a line of it is not what it should be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text", hint=_HINT) from error
    lines = [_Line(f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), start=1)]
    if not lines:
        raise UsageError(f"{path}: empty", hint=_HINT)
    head = lines[0]
    head.must_be("rank")
    if head.get("format", int) not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise UsageError(f"{head.where}: format {head.get('format', int)}, and this tool reads {known}")
    body, wait, peers = lines[1:], None, ()
    if body and body[-1].kind == "wait":
        wait = _wait(body.pop())
    if body and body[-1].kind == "peers":
        peers = body.pop().sequence("said", str)
    rank, dp_size = head.get("rank", int), head.get("dp_size", int)
    if not 0 <= rank < dp_size:
        raise UsageError(f"{head.where}: rank {rank} of {dp_size}")
    steps = [_step(line, dp_size) for line in body]
    return RankTrace(
        source=str(path),
        rank=rank,
        dp_size=dp_size,
        world_rank=head.get("world_rank", int),
        host=head.get("host", str),
        pid=head.get("pid", int),
        build=head.get("build", str),
        why=head.get("why", str),
        at=head.get("at", float),
        steps={step.step: step for step in steps},
        wait=wait,
        peers=peers,
    )


class _Line:
    """One JSON object, asked for its members by type."""

    def __init__(self, where: str, text: str) -> None:
        self.where = where
        try:
            self._members = json.loads(text)
        except ValueError as error:
            raise UsageError(
                f"{where}: not JSON: {text[:60]!r}", hint="the file is cut off; use another rank's"
            ) from error
        if not isinstance(self._members, dict):
            raise UsageError(f"{where}: not a JSON object")

    @property
    def kind(self) -> object:
        return self._members.get("kind")

    def must_be(self, kind: str) -> None:
        if self.kind != kind:
            raise UsageError(
                f"{self.where}: a line of kind {self.kind!r} where {kind!r} belongs",
                hint=_HINT,
            )

    def get(self, name: str, kind: type[Any]) -> Any:
        """A member that is a `kind`; a whole number counts as a float."""
        value = self._members.get(name)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UsageError(f"{self.where}: {name!r} is {value!r}, not a {kind.__name__}")
        return value

    def maybe(self, name: str, kind: type[Any]) -> Any:
        """The same, or None."""
        return None if self._members.get(name) is None else self.get(name, kind)

    def part(self, name: str) -> _Line:
        return _Line(f"{self.where}: {name}", json.dumps(self.get(name, dict)))

    def sequence(self, name: str, kind: type[Any]) -> tuple[Any, ...]:
        values = self.get(name, list)
        if not all(isinstance(value, kind) for value in values):
            raise UsageError(f"{self.where}: {name!r} is {values!r}, not a list of {kind.__name__}")
        return tuple(values)


def _step(line: _Line, dp_size: int) -> Step:
    line.must_be("step")
    batch = line.part("batch")
    return Step(
        step=line.get("step", int),
        what=line.get("what", str),
        issued=line.get("issued", float),
        prepared_s=line.maybe("prepared_s", float),
        waited_s=line.maybe("waited_s", float),
        forward_s=line.maybe("forward_s", float),
        batch=Batch(batch.get("num_tokens", int), *(batch.get(field.name, bool) for field in fields(Batch)[1:])),
        decision=None if line.maybe("decision", dict) is None else _decision(line.part("decision"), dp_size),
        collectives=line.sequence("collectives", str),
    )


def _decision(line: _Line, dp_size: int) -> Decision:
    tokens = line.sequence("tokens_per_rank", int)
    if len(tokens) != dp_size:
        raise UsageError(f"{line.where}: {len(tokens)} token counts for {dp_size} ranks")
    return Decision(
        tokens_per_rank=tokens,
        with_prefill=line.get("with_prefill", bool),
        enable_dbo=line.get("enable_dbo", bool),
        graph=line.get("graph", bool),
        padded_tokens_per_rank=line.sequence("padded_tokens_per_rank", int),
        moe_generic=line.get("moe_generic", str),
        moe_custom=line.get("moe_custom", str),
    )


def _wait(line: _Line) -> Wait:
    return Wait(
        step=line.get("step", int),
        phase=line.get("phase", str),
        since=line.get("since", float),
        seconds=line.get("seconds", float),
        at=line.maybe("at", str) or "",
        op=line.maybe("op", str),
        tensor=line.maybe("tensor", str),
        group=line.maybe("group", str),
    )


def load_all(paths: Iterable[Path]) -> tuple[RankTrace, ...]:
    """The traces of one run, by world rank.

    Raises:
        UsageError: a file is no trace, or two files are of the same rank or of different runs.
    """
    by_rank: dict[int, RankTrace] = {}
    for trace in map(load, paths):
        other = by_rank.setdefault(trace.world_rank, trace)
        if other is not trace:
            raise UsageError(f"{other.source} and {trace.source} are both of {trace.name}", hint="give one file a rank")
        first = next(iter(by_rank.values()))
        if trace.dp_size != first.dp_size:
            raise UsageError(
                f"{first.source} is of {first.dp_size} DP ranks, {trace.source} of {trace.dp_size}: not one run",
                hint="give the files of one run",
            )
    return tuple(by_rank[rank] for rank in sorted(by_rank))
