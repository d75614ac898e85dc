# SPDX-License-Identifier: Apache-2.0
"""What the simulator found, and whether that is what a proof needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from patchset.system.terminal import Terminal
from selftest.schedules import MUST_FIND

# As tests/prove/simulation/record.py has it.
DETECTION = "the watchdog is wrong about a wait"


@dataclass(frozen=True)
class Violation:
    """A schedule that violates an invariant, shrunk to the shortest.

    Attributes:
        invariant: what does not hold.
        what: how it shows.
        schedule: the deployment and the steps, one line each.
        after: schedules drawn until it came up.
        defect: the known defect that it shows; empty where there is none, or on the patched tree.
    """

    invariant: str
    what: str
    schedule: tuple[str, ...]
    after: int
    defect: str = ""

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Violation:
        return cls(
            found["invariant"], found["what"], tuple(found["schedule"]), found["after"], found.get("defect") or ""
        )


@dataclass(frozen=True)
class Mutant:
    """The overlay broken in one way, and how that was found; None where it was not.

    Attributes:
        waits: schedules in which ranks then wait for ever, of those that the watchdog was tried on.
        told: those that the watchdog calls a deadlock; the others differ in nothing that it can see.
        watchdog: it is the watchdog that is broken, and that must come to be wrong about a wait.
    """

    name: str
    drawn: int
    violation: Violation | None
    waits: int = 0
    told: int = 0
    watchdog: bool = False


@dataclass(frozen=True)
class ProofReport:
    """The outcome of `make prove`; a model that was not asked for is None.

    Attributes:
        set_name: the set.
        seed: what the schedules were drawn from.
        schedules: how many the patched tree was checked with.
        coverage: counts of what they were, as ``{group: {name: count}}``.
        patched: violations on the patched tree; there must be none.
        pristine: violations on the pristine tree; the set's of `schedules.MUST_FIND` must be among them.
        mutants: the broken overlays; every one must be found.
    """

    set_name: str
    seed: int
    schedules: int
    coverage: Mapping[str, Mapping[str, int]]
    patched: tuple[Violation, ...] | None
    pristine: tuple[Violation, ...] | None
    mutants: tuple[Mutant, ...] | None

    @property
    def problems(self) -> list[str]:
        """What keeps this from being a proof, one line each."""
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
        def violations(found: tuple[Violation, ...] | None) -> list[dict[str, Any]] | None:
            return None if found is None else [vars(one) for one in found]

        return {
            "set": self.set_name,
            "ok": self.ok,
            "problems": self.problems,
            "seed": self.seed,
            "schedules": self.schedules,
            "coverage": self.coverage,
            "patched": violations(self.patched),
            "pristine": violations(self.pristine),
            "mutants": None
            if self.mutants is None
            else [vars(one) | {"violation": one.violation and vars(one.violation)} for one in self.mutants],
        }


def show(report: ProofReport, terminal: Terminal) -> None:
    """Prints the tables and the verdict."""
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
            for one in sorted(report.pristine, key=_by_defect)
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


def _by_defect(one: Violation) -> tuple[int, str]:
    number = one.defect[1:]
    return int(number) if number.isdigit() else 1000, one.invariant
