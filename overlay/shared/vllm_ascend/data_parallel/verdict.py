# SPDX-License-Identifier: Apache-2.0
"""What the beats of all ranks say about a wait: a pure function of them and of when each was heard.

A collective ends once all of its members are in it. So where every rank has stopped in a collective, and no collective
has all of its members in it, none of them will ever move: a deadlock. A rank without a request may yet be woken and
come to any collective, so it counts as a member that is there. A rank that has stopped elsewhere in its step may wait
for a device that computes, and then nothing is proved, unless two ranks computed different decisions from the same
metadata.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Mapping, Sequence

from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.beats import Beat, Collective, Look, State

_MOST_NAMED = 8
_SENDS, _RECEIVES = ("send", "isend", "batch_isend_irecv"), ("recv", "irecv", "batch_isend_irecv")


class Finding(Enum):
    """What a wait is; ``proved`` ones end it at once."""

    DEADLOCK = "no rank can move any more"
    GONE = "a rank has gone"
    ENDING = "a rank ends"
    WORKING = "a rank works"
    SILENT = "a rank says nothing"
    DEVICE = "a rank waits for its device"
    IDLE = "a rank has no request, and was not woken"
    TOGETHER = "all wait in one collective"

    @property
    def proved(self) -> bool:
        """The wait cannot end well."""
        return self in (Finding.DEADLOCK, Finding.GONE, Finding.ENDING)


@dataclass(frozen=True)
class Verdict:
    """A finding, the ranks that it is about, and what all ranks do, in lines."""

    finding: Finding
    ranks: tuple[int, ...]
    told: str

    def why(self, members: Members) -> str:
        """In one line."""
        of = named(members, self.ranks) or "the process that keeps the store"
        if self.finding is Finding.GONE:
            return f"the process of {of} has gone"
        if self.finding is Finding.ENDING:
            return f"{of} has ended or ends"
        if self.finding is Finding.WORKING:
            return f"{of} still works"
        if self.finding is Finding.SILENT:
            return f"no word from {of}: stopped, or out of reach"
        if self.finding is Finding.IDLE:
            return f"{of} has no request, and was not woken"
        return str(self.finding.value)


def judge(members: Members, look: Look, silence: float, still: float) -> Verdict:
    """What the wait is.

    A rank is silent if no new beat of it has been heard for ``silence`` seconds, and has stopped if it has not moved
    for ``still`` seconds. ``still`` is longer by more than the age that a beat has when it is heard, so that ranks
    which are not silent and have all stopped were so at one moment.
    """
    now = look.beats
    silent = [rank for rank in members.ranks if rank not in now or look.at - look.heard[rank] > silence]
    gone = {members.after(rank) for rank, beat in now.items() if beat.lost_next} & set(silent)
    ending = [rank for rank in members.ranks if rank in now and now[rank].ending]
    told = describe(members, now, silent)

    def verdict(finding: Finding, ranks: Sequence[int]) -> Verdict:
        return Verdict(finding, tuple(sorted(ranks)), told)

    if ending:
        return verdict(Finding.ENDING, ending)
    if gone:
        return verdict(Finding.GONE, tuple(gone))
    if silent:
        return verdict(Finding.SILENT, silent)
    beats = [now[rank] for rank in members.ranks]
    if differ := _decided_differently(members, beats):
        return verdict(Finding.DEADLOCK, differ)
    working = [beat.rank for beat in beats if beat.state is State.WORKS or beat.seconds < still]
    if working:
        return verdict(Finding.WORKING, working)
    device = [beat.rank for beat in beats if beat.state is State.DEVICE]
    if device:
        return verdict(Finding.DEVICE, device)
    idle = [beat.rank for beat in beats if beat.state is State.IDLE]
    if not _can_end([beat.collective for beat in beats if beat.collective is not None], len(idle)):
        return verdict(Finding.DEADLOCK, members.ranks)
    return verdict(Finding.IDLE, idle) if idle else verdict(Finding.TOGETHER, members.ranks)


def describe(members: Members, now: Mapping[int, Beat], silent: Sequence[int] = ()) -> str:
    """What each rank said last, ranks that say the same in one line."""
    by_text: dict[str, list[int]] = {}
    longest: dict[str, float] = {}
    gone = {members.after(rank) for rank, beat in now.items() if beat.lost_next}
    for rank in members.ranks:
        if rank not in now:
            text = "has not said anything yet"
        elif rank in gone:
            text = f"its process has gone or is out of reach; last: {now[rank]}"
        elif rank in silent:
            text = f"says no more; last: {now[rank]}"
        else:
            text = str(now[rank])
            if now[rank].ending:
                text += f"; ends: {now[rank].ending}"
        by_text.setdefault(text, []).append(rank)
        longest[text] = max(longest.get(text, 0.0), now[rank].seconds if rank in now else 0.0)
    return "\n".join(
        f"{named(members, ranks)}: {text}" + (f", for {longest[text]:.0f} s" if longest[text] >= 1 else "")
        for text, ranks in by_text.items()
    )


def named(members: Members, ranks: Sequence[int]) -> str:
    """The ranks by the names that a user knows, not too many of them."""
    more = f" and {len(ranks) - _MOST_NAMED} more" if len(ranks) > _MOST_NAMED else ""
    return ", ".join(members.name(rank) for rank in ranks[:_MOST_NAMED]) + more


def _decided_differently(members: Members, beats: Sequence[Beat]) -> list[int]:
    """Ranks of one DP group that are in the same step and made different decisions of it."""
    by_step: dict[tuple[int, int], dict[str, list[int]]] = {}
    for beat in beats:
        if beat.decision is not None:
            where = (members.place_in_dp_rank(beat.rank), beat.step)
            by_step.setdefault(where, {}).setdefault(beat.decision, []).append(beat.rank)
    return [rank for sides in by_step.values() if len(sides) > 1 for ranks in sides.values() for rank in ranks]


def _can_end(collectives: Sequence[Collective], idle: int) -> bool:
    """Whether some collective has all of its members in it, as far as its members are known, or may yet have.

    ``idle`` ranks may come to any of them: whose member each of them is, a collective does not say.
    """
    if not collectives or any(one.ranks is None for one in collectives):
        return True
    sends, receives = ({one.group for one in collectives if one.op in ops} for ops in (_SENDS, _RECEIVES))
    if sends & receives or (idle and sends | receives):
        return True
    present = Counter(one.meeting for one in collectives if one.op not in (*_SENDS, *_RECEIVES))
    sizes = {one.meeting: one.ranks[1] for one in collectives if one.ranks is not None}
    return any(count + idle >= sizes[meeting] for meeting, count in present.items())
