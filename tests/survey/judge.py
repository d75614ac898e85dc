# SPDX-License-Identifier: Apache-2.0
"""Judges what two trees did on one deployment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
        start: seconds until the slowest rank was ready; None where one was not.
        memory: KiB, the most of any rank; None where it is not done.
        agrees: whether the ranks' sequences of collectives over the DP group are alike.
        written: steps that stand for no request and changed K or V of a block that requests use.
    """

    outcome: str
    wrong: tuple[str, ...] = ()
    why: str = ""
    seconds: float = 0.0
    start: float | None = None
    memory: int | None = None
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

    def __str__(self) -> str:
        if not self.answers:
            return f"{self.outcome}: {self.why}"
        if self.wrong:
            return f"wrong tokens: {', '.join(self.wrong)}"
        seen = ["collectives differ"] * (not self.agrees) + [f"{self.written} idle steps wrote K/V"] * bool(
            self.written
        )
        return ", ".join(["right", *seen])


def judge(pristine: Answer, patched: Answer) -> Verdict:
    """What the patched tree is, beside the pristine one."""
    if patched.clean:
        return Verdict.SAME if pristine.clean else Verdict.BETTER
    # Wrong in silence is worse than a failure that is seen.
    if pristine.clean or pristine.right > patched.right or pristine.answers != patched.answers:
        return Verdict.WORSE
    return Verdict.BOTH_FAIL
