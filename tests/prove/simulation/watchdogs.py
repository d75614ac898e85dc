# SPDX-License-Identifier: Apache-2.0
"""The watchdog broken on purpose, one way at a time: each must come to be wrong about a wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulation import detector
from simulation.mutant import Break, Mutant
from vllm_ascend.data_parallel import verdict
from vllm_ascend.data_parallel.agreement import Members
from vllm_ascend.data_parallel.beats import Collective, State
from vllm_ascend.data_parallel.verdict import Finding, Verdict


def _always(said: Finding) -> Break:
    return lambda _: lambda *_: Verdict(said, (), "")


def _blind_to_work(judge: Any) -> Any:
    """Looks at ranks alone that wait."""

    def broken(members: Members, look: Any, *limits: float) -> Verdict:
        waiting = [rank for rank in members.ranks if look.beats[rank].state is not State.WORKS]
        return judge(Members(waiting), look, *limits)  # type: ignore[no-any-return]

    return broken


def _meeting(of: Callable[[Collective], tuple[object, ...]]) -> Break:
    return lambda _: property(of)


WATCHDOGS = (
    Mutant("every wait is a deadlock", detector, "judge", _always(Finding.DEADLOCK)),
    Mutant("no wait is a deadlock", detector, "judge", _always(Finding.TOGETHER)),
    Mutant("a rank that works is not looked at", detector, "judge", _blind_to_work),
    Mutant("an idle rank comes to no collective", verdict, "_can_end", lambda ends: lambda calls, _: ends(calls, 0)),
    Mutant("collectives of other sizes are one", Collective, "meeting", _meeting(lambda one: (one.op, one.group))),
    Mutant("collectives of other names are one", Collective, "meeting", _meeting(lambda one: (one.group, one.tensor))),
    Mutant("collectives of other groups are one", Collective, "meeting", _meeting(lambda one: (one.op, one.tensor))),
)
