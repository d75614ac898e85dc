# SPDX-License-Identifier: Apache-2.0
"""What the mutants say of the tests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mutation.mutants import Fate
from patchset.errors import Findings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mutation.mutants import Change, Mutant
    from patchset.terminal import Terminal

_COLUMNS = ("module", "mutants", "killed", "timed out", "survived", "explained", "score", "lowest")


@dataclass(frozen=True)
class Module:
    """One module, its mutants, and the score that it must have, in per cent."""

    name: str
    mutants: Sequence[Mutant]
    lowest: float

    @property
    def survivors(self) -> list[Mutant]:
        """In the order of the code."""
        return [mutant for mutant in self.mutants if mutant.fate is Fate.SURVIVED]

    @property
    def score(self) -> float:
        """Per cent of the mutants that the tests noticed; explained ones count against it."""
        return 100 * (1 - len(self.survivors) / len(self.mutants)) if self.mutants else 0.0

    def row(self, explained: Mapping[Change, str]) -> tuple[str, ...]:
        """Its line in the table."""
        fates = Counter(mutant.fate for mutant in self.mutants)
        excused = sum(mutant.change in explained for mutant in self.survivors)
        counts = (len(self.mutants), fates[Fate.KILLED], fates[Fate.TIMED_OUT], fates[Fate.SURVIVED] - excused, excused)
        return (self.name, *map(str, counts), f"{self.score:.1f}", f"{self.lowest:.1f}")


def show(modules: Sequence[Module], explained: Mapping[Change, str], terminal: Terminal) -> None:
    """Prints the table and the survivors.

    Raises:
        Findings: a survivor that is not explained, a score below the lowest, or an explanation of no survivor.
    """
    terminal.table("mutants", _COLUMNS, [one.row(explained) for one in modules], right=" ".join(_COLUMNS[1:]))
    unexplained = [mutant for one in modules for mutant in one.survivors if mutant.change not in explained]
    for mutant in unexplained:
        terminal.note(f"survived  {mutant.change}  ({mutant.name})")
    survived = {mutant.change for one in modules for mutant in one.survivors}
    stale = [change for change in explained if change not in survived]
    for change in stale:
        terminal.note(f"no survivor any more  {change}")
    low = [f"{one.name} scores {one.score:.1f} %, below {one.lowest:.1f}" for one in modules if one.score < one.lowest]
    faults = [f"{len(unexplained)} survivors are not explained"] if unexplained else []
    faults += [f"{len(stale)} explanations explain nothing"] if stale else []
    if faults := [*faults, *low]:
        raise Findings("; ".join(faults), hint="test what the mutant changes, or mend tests/mutation/parts.toml")
