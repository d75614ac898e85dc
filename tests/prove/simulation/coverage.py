# SPDX-License-Identifier: Apache-2.0
"""What the schedules were: how often each kind of event, deployment and decision came up."""

from __future__ import annotations

from collections import Counter

from simulation.checker import Outcome
from simulation.schedule import Schedule

# Lower bounds of the classes that sizes are counted in.
_DP_CLASSES = (1, 2, 3, 5, 9, 17)
_EP_CLASSES = (1, 2, 16)
SWITCHES = (
    "lmhead_parallel",
    "mlp_parallel",
    "oproj_parallel",
    "embedding_parallel",
    "sequence_parallel",
    "sequence_pass",
    "context_parallel",
    "recompute",
    "unpadded_drafter",
    "shared_expert_dp",
    "dbo",
    "cpu_group",
    "prefill_mc2",
    "counts_on_device",
)


class Coverage:
    """Counts, as ``{group: {name: count}}`` in `groups`."""

    def __init__(self) -> None:
        self.groups: dict[str, Counter[str]] = {}

    def add(self, schedule: Schedule, outcome: Outcome) -> None:
        """Counts one schedule."""
        one = schedule.deployment
        self._count("schedules", "drawn")
        if outcome.refused:
            self._count("schedules", "refused at start, as on every rank")
            return
        for group, name in (
            ("DP ranks", _class(one.dp, _DP_CLASSES)),
            ("TP ranks", str(one.tp)),
            ("EP ranks", _class(one.ep_size, _EP_CLASSES)),
            ("SoC", one.soc),
            ("mode", one.mode.value),
            ("layers", one.layers.value),
            ("KV role", one.kv_role.value),
            ("drafter", one.drafter.value),
            ("steps that count for loads of experts", one.loads.value),
        ):
            self._count(group, name)
        for name in SWITCHES:
            if getattr(one, name):
                self._count("switches", name)
        self._count("simulated", "steps", len(schedule.steps))
        self._count("simulated", "rank steps", len(schedule.steps) * one.dp)
        self._count("simulated", "collectives of a rank", outcome.collectives)
        if outcome.planted:
            self._count("divergences", outcome.planted)
        for works in schedule.steps:
            for work in works:
                self._count("events", work.kind.value)
                if work.logprobs and one.lmhead_parallel:
                    self._count("events", "prompt logprobs over a parallel lm head")
            if len({work.kind.busy for work in works}) > 1:
                self._count("uneven steps", "idle ranks beside busy ones")
            if any(work.kind.prefills for work in works) and not all(work.kind.prefills for work in works):
                self._count("uneven steps", "prefill beside others")
        for forward in outcome.forwards:
            self._count("forwards", forward.graph.partition(" of ")[0] or "eager")
            self._count("MoE", forward.moe or "none")
            self._count("rows", "uniform" if forward.uniform else "each rank's own")

    def merge(self, groups: dict[str, dict[str, int]]) -> None:
        """Adds the counts of another run."""
        for group, counts in groups.items():
            for name, count in counts.items():
                self._count(group, name, count)

    def _count(self, group: str, name: str, by: int = 1) -> None:
        self.groups.setdefault(group, Counter())[name] += by


def _class(size: int, classes: tuple[int, ...]) -> str:
    number = max(index for index, least in enumerate(classes) if least <= size)
    least = classes[number]
    if number + 1 == len(classes):
        return f"{least} and more"
    last = classes[number + 1] - 1
    return str(least) if last == least else f"{least}-{last}"
