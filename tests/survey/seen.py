# SPDX-License-Identifier: Apache-2.0
"""What a deployment was seen to do, and the answer which that makes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

import engine
import steptrace

from survey import asks, reading
from survey.judge import Answer

Asked = tuple[tuple[asks.Request, ...], ...]


@dataclass(frozen=True)
class Seen:
    """What processes did.

    Attributes:
        outcome: how they ended.
        why: for a reader.
        seconds: from their start to their end.
        lines: what they reported, as tests/smoke/rank.py and `survey.rank` say.
    """

    outcome: engine.Outcome
    why: str
    seconds: float
    lines: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, report: engine.Report) -> Seen:
        lines = tuple(line for rank in report.ranks for line in rank.lines)
        return cls(report.outcome, report.why, report.seconds, lines)

    def answer(self, asked: Asked, expected: Mapping[str, Any], error: str, traces: Path) -> Answer:
        """A request that is aborted is judged as far as it came.

        Args:
            asked: the requests of each rank.
            expected: by request, as `net` has it.
            error: the first that the logs name.
            traces: the folder that the stand-ins of this run alone have written.
        """
        given: dict[str, dict[str, Any]] = {}
        for line in self.lines:
            given |= line.get("answers", {})
        done = self.outcome is engine.Outcome.DONE
        requests = [one for of in asked for one in of]
        wrong = [one.id for one in requests if not reading.is_right(one, given.get(one.id), expected[one.id])]
        begin = min((line["begin"] for line in self.lines if "begin" in line), default=0.0)
        return Answer(
            self.outcome.value,
            tuple(sorted(wrong)) if done else (),
            "" if done else f"{self.why}: {error}",
            round(self.seconds, 1),
            self._most("ready"),
            self._most("cpu"),
            self._most("grown_kib"),
            self._most("wait"),
            not done or agree(traces, begin),
            sum(bool(line["changed"]) for line in self.lines if "dummy" in line),
        )

    def _most(self, name: str) -> float | None:
        return max((round(line[name], 1) for line in self.lines if name in line), default=None)


def agree(traces: Path, begin: float) -> bool:
    """Whether the ranks joined the same collectives of the DP group since ``begin``: see `reading.alike`."""
    joined: dict[int, list[list[object]]] = defaultdict(list)
    # Workers of one rank start in the order of their places.
    for file in sorted(traces.glob("*.jsonl"), key=lambda one: int(one.stem)):
        events = engine.json_lines(file)
        rank = next((event["dp_rank"] for event in reversed(events) if event["dp_rank"] is not None), None)
        if rank is not None and any(event["kind"] == "step" for event in events):
            joined[rank].append(collectives(events, begin))
    return reading.alike(joined)


def collectives(events: Iterable[steptrace.Event], begin: float) -> list[object]:
    """What of the DP group's a process joined from the first step since ``begin`` on.

    Of vLLM 0.18 on, a step with requests drafts after its end, when tokens are drawn, and an idle one before.
    """
    since = dropwhile(lambda event: event["kind"] != "step" or event["t"] < begin, events)
    joined = (steptrace.Collective.of(event) for event in since if event["kind"] == "collective")
    return [one.agreed for one in joined if one.group == "dp"]
