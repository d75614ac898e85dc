# SPDX-License-Identifier: Apache-2.0
"""Judges what two trees did on one deployment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

# How much more the patched tree may take, in the least of several runs: times, and what is added to that. CPU time, not
# the clock's, for a loaded machine makes everything late; a second compilation or a copy of the weights is seen by it,
# and a wait is not. But beside a slow rank it is that rank's steps that a request waits for, of 0.2 s.
_MOST = {"cpu": (2.0, 5.0), "memory": (1.5, 64 << 10), "wait": (2.0, 2.0)}


class Verdict(Enum):
    SAME = "same"
    """Both are right."""
    BETTER = "better"
    """Patched is right, pristine is not."""
    WORSE = "worse"
    """Pristine is right and patched is not, or pristine answers and patched does not, or patched alone answers and is
    wrong; or both are right, and only of pristine it can be said that nothing else was seen."""
    BOTH_FAIL = "both fail"


@dataclass(frozen=True)
class Answer:
    """What one tree did.

    Attributes:
        outcome: done, hang, abort or error, as tests/smoke/engine.py names them.
        wrong: requests whose tokens are not Hugging Face's, where it is done.
        why: of a failure, for a reader.
        seconds: from the start of its processes to their end.
        start: seconds until the slowest rank was ready; None where none was.
        cpu: CPU seconds until then, of the rank that took most.
        memory: KiB by which a rank has grown, with what its workers hold, the most of any rank; None if unknown.
        wait: seconds until the first token of a request beside a slow rank, the most of any; None where none is slow.
        agrees: whether the ranks' sequences of collectives over the DP group are alike.
        written: steps that stand for no request and changed K or V of a block that requests use.
    """

    outcome: str
    wrong: tuple[str, ...] = ()
    why: str = ""
    seconds: float = 0.0
    start: float | None = None
    cpu: float | None = None
    memory: float | None = None
    wait: float | None = None
    agrees: bool = True
    written: int = 0

    @property
    def answers(self) -> bool:
        return self.outcome == "done"

    @property
    def right(self) -> bool:
        return self.answers and not self.wrong

    @property
    def clean(self) -> bool:
        """Right, and nothing was seen that could make another answer wrong."""
        return self.right and self.agrees and not self.written

    def least(self, again: Answer) -> Answer:
        """This one with the least that it and another run took; the other one where that is not clean."""
        if not again.clean:
            return again
        names = [name for name in _MOST if getattr(self, name) is not None and getattr(again, name) is not None]
        return replace(self, **{name: min(getattr(self, name), getattr(again, name)) for name in names})

    def __str__(self) -> str:
        if not self.answers:
            return f"{self.outcome}: {self.why}"
        if self.wrong:
            return f"wrong tokens: {', '.join(self.wrong)}"
        seen = ["collectives differ"] * (not self.agrees) + [f"{self.written} idle steps wrote K/V"] * bool(
            self.written
        )
        return ", ".join(["right", *seen])


def dearer(pristine: Answer, patched: Answer) -> str:
    """What of the start's time and memory patched takes far more of; empty where there is none."""
    found = []
    for name, (times, more) in _MOST.items():
        before, now = getattr(pristine, name), getattr(patched, name)
        if before is not None and now is not None and now > times * before + more:
            found.append(f"{name} {now:.0f} instead of {before:.0f}")
    return ", ".join(found)


def judge(pristine: Answer, patched: Answer) -> Verdict:
    """What the patched tree is, beside the pristine one."""
    if patched.clean:
        if not pristine.clean:
            return Verdict.BETTER
        return Verdict.WORSE if dearer(pristine, patched) else Verdict.SAME
    # Wrong in silence is worse than a failure that is seen.
    if pristine.clean or pristine.right > patched.right or pristine.answers != patched.answers:
        return Verdict.WORSE
    return Verdict.BOTH_FAIL
