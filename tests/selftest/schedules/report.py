# SPDX-License-Identifier: Apache-2.0
"""What the simulator found, and whether that is what a proof needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from patchset.sets import facts
from patchset.system.terminal import Terminal
from selftest.schedules import MUST_FIND

# As tests/prove/simulation/record.py has it.
DETECTION = "the watchdog is wrong about a wait"


@dataclass(frozen=True)
class Violation:
    """A schedule that violates an invariant, shrunk to the shortest."""

    invariant: str  # what does not hold
    what: str  # how it shows
    schedule: tuple[str, ...]  # the deployment and the steps, one line each
    after: int  # schedules drawn until it came up
    defect: str = ""  # the known defect that it shows; empty where there is none, or on the patched tree


@dataclass(frozen=True)
class Mutant:
    """The overlay broken in one way, and how that was found; None where it was not."""

    name: str
    drawn: int
    violation: Violation | None
    waits: int = 0  # schedules in which ranks then wait for ever, of those that the watchdog was tried on
    told: int = 0  # those that the watchdog calls a deadlock; the others differ in nothing that it can see
    watchdog: bool = False  # it is the watchdog that is broken, and that must come to be wrong about a wait


@dataclass(frozen=True)
class ProofReport:
    """The outcome of `make prove`; a model that was not asked for is None."""

    set_name: str
    seed: int  # what the schedules were drawn from
    schedules: int  # how many the patched tree was checked with
    coverage: Mapping[str, Mapping[str, int]]  # counts of what they were, as ``{group: {name: count}}``
    patched: tuple[Violation, ...] | None  # violations on the patched tree; there must be none
    # Violations on the pristine tree; the set's of `schedules.MUST_FIND` must be among them.
    pristine: tuple[Violation, ...] | None
    mutants: tuple[Mutant, ...] | None  # the broken overlays; every one must be found

    @property
    def problems(self) -> list[str]:
        found = [f"the patched tree: {one.invariant}: {one.what}" for one in self.patched or ()]
        if self.pristine is not None:
            known = {one.defect for one in self.pristine}
            found += [
                f"{name} was not found on the pristine tree" for name in MUST_FIND[self.set_name] if name not in known
            ]
        for one in self.mutants or ():
            if one.violation is None:
                found.append(f"not found: {one.name}")
            elif one.violation.invariant == DETECTION and not one.watchdog:
                found.append(f"{one.name}: {DETECTION}: {one.violation.what}")
        return found

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        return {"set": found.pop("set_name"), "ok": self.ok, "problems": self.problems, **found}


def show(report: ProofReport, terminal: Terminal) -> None:
    if report.patched is not None:
        counts = [
            (group if number == 0 else "", name, f"{count:,}")
            for group, names in report.coverage.items()
            for number, (name, count) in enumerate(sorted(names.items(), key=lambda one: -one[1]))
        ]
        title = f"{report.set_name}, patched: what {report.schedules:,} schedules covered (seed {report.seed})"
        terminal.table(title, ("of", "what", "count"), counts, right="count")
        for one in report.patched:
            terminal.note("\n    ".join((f"{one.invariant}: {one.what}", *one.schedule)))
    if report.pristine is not None:
        found = [
            (one.defect or "-", f"{one.invariant}: {one.what}", "\n".join(one.schedule), f"{one.after:,}")
            for one in sorted(report.pristine, key=lambda one: (not one.defect, facts.order(one.defect), one.invariant))
        ]
        columns = ("defect", "what the checker saw", "shortest schedule", "drawn")
        terminal.table(f"{report.set_name}, pristine: found without being told", columns, found, right="drawn")
    if report.mutants is not None:
        broken = [
            (
                one.name,
                "not found" if one.violation is None else one.violation.invariant,
                "" if one.violation is None else one.violation.schedule[-1],
                f"{one.drawn:,}",
                f"{one.told} of {one.waits}" if one.waits else "",
            )
            for one in report.mutants
        ]
        last = "last step of the shortest schedule"
        titles = ("the overlay, broken on purpose", "found as", last, "drawn", "deadlocks told")
        terminal.table(f"{report.set_name}: mutants", titles, broken, right="drawn")
    for problem in report.problems:
        terminal.note(f"FAILED: {problem}")
    if report.ok:
        terminal.note("no schedule violates an invariant" if report.patched is not None else "found what must be found")
