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
    wrong."""
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
    """

    outcome: str
    wrong: tuple[str, ...] = ()
    why: str = ""
    seconds: float = 0.0
    start: float | None = None
    memory: int | None = None
    agrees: bool = True

    @property
    def answers(self) -> bool:
        return self.outcome == "done"

    @property
    def right(self) -> bool:
        return self.answers and not self.wrong and self.agrees

    def __str__(self) -> str:
        if not self.answers:
            return f"{self.outcome}: {self.why}"
        if self.wrong:
            return f"wrong tokens: {', '.join(self.wrong)}"
        return "right" if self.agrees else "collectives differ"


def judge(pristine: Answer, patched: Answer) -> Verdict:
    """What the patched tree is, beside the pristine one."""
    if patched.right:
        return Verdict.SAME if pristine.right else Verdict.BETTER
    # Wrong in silence is worse than a failure that is seen.
    if pristine.right or pristine.answers != patched.answers:
        return Verdict.WORSE
    return Verdict.BOTH_FAIL
