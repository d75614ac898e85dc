# SPDX-License-Identifier: Apache-2.0
"""What a rank tells about itself when it gives up: a text for its log, and a file for `patchset trace`.

The file is JSON lines. The first has ``"kind": "rank"``: who writes and why. Then one ``"step"`` for each step that the
rank remembers, oldest first: what it brought, what was decided, the collectives that follow from that, and how long it
took. Then ``"peers"``: what the ranks said of themselves, as far as they answered. The last is ``"wait"``: what the
rank is in, with its stack; it is missing where the rank waits for nothing.
Times are seconds since the epoch on the rank's clock.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

from vllm_ascend.data_parallel.moe_comm import MoECommChoice
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import Entered, Recorder, Step
from vllm_ascend.data_parallel.stacks import StackTrace

FORMAT = 2
_LOGGED_STEPS = 8

ChoiceOf = Callable[[StepPlan], MoECommChoice]


@dataclass(frozen=True)
class TraceFiles:
    """Where a rank writes, and how it chose the MoE communication of its steps."""

    folder: Path
    choice_of: ChoiceOf

    def write(self, snapshot: Snapshot) -> str:
        """What to tell of the file that has been written. Never raises: a full disk must not hide why a rank ends."""
        try:
            path = snapshot.write(self.folder, self.choice_of)
        except Exception as unwritten:
            return f"no trace file: {unwritten!r}"
        return f"trace: {path}; `patchset trace` lines up those of all ranks"


@dataclass(frozen=True)
class Identity:
    """Which rank this is. ``world_rank`` differs from ``rank`` where a DP rank is more than one process."""

    rank: int
    dp_size: int
    world_rank: int
    host: str
    pid: int
    build: str

    def __str__(self) -> str:
        world = f" (world rank {self.world_rank})" if self.world_rank != self.rank else ""
        return f"DP rank {self.rank} of {self.dp_size}{world} on host {self.host}, process {self.pid}"


@dataclass(frozen=True)
class Snapshot:
    """A rank at one moment. ``monotonic`` and ``wall`` are the same moment on both clocks."""

    identity: Identity
    why: str
    monotonic: float
    wall: float
    entered: Optional[Entered]
    stack: Optional[StackTrace]
    steps: tuple[Step, ...]
    peers: tuple[str, ...] = ()

    @classmethod
    def take(
        cls,
        identity: Identity,
        recorder: Recorder,
        why: str,
        stack: Optional[StackTrace] = None,
        peers: tuple[str, ...] = (),
    ) -> Snapshot:
        """Look at the rank that ``recorder`` records, from any thread."""
        return cls(
            identity=identity,
            why=why,
            monotonic=time.monotonic(),
            wall=time.time(),
            entered=recorder.entered,
            stack=stack,
            steps=tuple(recorder.steps()),
            peers=peers,
        )

    @property
    def waited(self) -> float:
        """Seconds since the phase began."""
        return 0.0 if self.entered is None else self.monotonic - self.entered.since

    def text(self) -> str:
        """For the log: why, where, and the last steps, newest last."""
        lines = [f"{self.identity}: {self.why}"]
        if self.entered is not None:
            lines.append(f"  waits for {self.entered.phase.value}, {self.waited:.1f} s so far")
        if self.stack is not None:
            lines.append(f"  {self.stack}")
        lines.append("  last steps:" if self.steps else "  no step yet")
        return "\n".join([*lines, *(f"    {_told(step)}" for step in self.steps[-_LOGGED_STEPS:])])

    def lines(self, choice_of: ChoiceOf) -> Iterator[dict[str, Any]]:
        """For the file; ``choice_of`` gives the MoE communication of a plan."""
        yield {"kind": "rank", "format": FORMAT, **asdict(self.identity), "why": self.why, "at": self.wall}
        for step in self.steps:
            choice = None if step.plan is None or step.alone else choice_of(step.plan)
            yield {
                "kind": "step",
                "step": step.number,
                "what": step.what,
                "issued": self._wall(step.issued),
                "prepared_s": _span(step.issued, step.awaited),
                "waited_s": _span(step.awaited, step.known),
                "forward_s": _span(step.known, step.ended),
                "batch": step.batch._asdict(),
                "alone": step.alone,
                "decision": None if step.plan is None or choice is None else _decision(step.plan, choice),
                "collectives": [] if step.alone else _collectives(choice),
            }
        yield {"kind": "peers", "said": list(self.peers)}
        if self.entered is not None:
            yield {
                "kind": "wait",
                "step": self.steps[-1].number if self.steps else 0,
                "phase": self.entered.phase.name.lower(),
                "for": self.entered.phase.value,
                "since": self._wall(self.entered.since),
                "seconds": self.waited,
                **({} if self.stack is None else asdict(self.stack)),
            }

    def write(self, folder: Path, choice_of: ChoiceOf) -> Path:
        """Write the file into ``folder``, which anyone may write to; its path. Raises ``OSError``."""
        who = self.identity
        stem = f"vllm-ascend-dp-rank{who.world_rank}-{who.host}-{who.pid}"
        text = "".join(json.dumps(line) + "\n" for line in self.lines(choice_of))
        path = folder / f"{stem}-{int(self.wall * 1000)}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def _wall(self, monotonic: float) -> float:
        return self.wall - self.monotonic + monotonic


def _span(begin: Optional[float], end: Optional[float]) -> Optional[float]:
    return None if begin is None or end is None else end - begin


def _decision(plan: StepPlan, choice: MoECommChoice) -> dict[str, Any]:
    """What every rank must have decided alike."""
    return {
        "tokens_per_rank": list(plan.metadata.tokens_per_rank),
        "with_prefill": plan.metadata.with_prefill,
        "enable_dbo": plan.metadata.enable_dbo,
        "graph": plan.use_graph,
        "padded_tokens_per_rank": list(plan.padded_tokens_per_rank),
        "moe_generic": choice.generic.name,
        "moe_custom": choice.custom.name,
    }


def _collectives(choice: Optional[MoECommChoice]) -> list[str]:
    """The step's metadata all-reduce, then what each MoE layer issues."""
    first = "all_reduce of the metadata"
    return [first] if choice is None else [first, f"{choice.generic.name} or {choice.custom.name} in each MoE layer"]


def _told(step: Step) -> str:
    batch = step.batch
    kind = "prefill" if batch.with_prefill else "decode"
    told = f"#{step.number} {step.what}: {batch.num_tokens} tokens ({kind})"
    if step.plan is None:
        return f"{told} -> undecided"
    decided = f"{told} -> {list(step.plan.padded_tokens_per_rank)}{' graph' if step.plan.use_graph else ''}"
    waited, forward = _span(step.awaited, step.known), _span(step.known, step.ended)
    shown = (
        f"{name} {1e3 * span:.1f} ms" for name, span in (("waited", waited), ("forward", forward)) if span is not None
    )
    return f"{decided}, {', '.join(shown)}"
