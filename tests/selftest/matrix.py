# SPDX-License-Identifier: Apache-2.0
"""Sets by defects: the tables of defects of all sets side by side, made from their evidence or runs alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from patchset.node.errors import UsageError
from patchset.proof import defects, evidence
from patchset.sets import facts
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal

_NONE = "-"


@dataclass(frozen=True)
class Cell:
    """One defect in one set, as its run has it."""

    shown: str  # on the pristine tree
    fixed: str  # on the patched one
    why: str  # what the tests saw of it on the pristine tree, or why the release does not have it
    proven: bool  # whether the run proves what the cell says

    def __str__(self) -> str:
        if self.shown == "yes":
            return self.fixed if self.proven else f"shown, {self.fixed} fixed"
        return f"{self.shown}" + (f" ({self.why})" if self.why else "") + ("" if self.proven else ": not proven")


@dataclass(frozen=True)
class Matrix:
    """Cells by defect and set; a set without one has no test or patch that names the defect."""

    sets: tuple[str, ...]
    titles: Mapping[str, str]
    cells: Mapping[tuple[str, str], Cell]

    @property
    def ok(self) -> bool:
        """Whether every cell is proven, and every set has one for each defect."""
        everywhere = all((name, one) in self.cells for name in self.titles for one in self.sets)
        return bool(self.cells) and everywhere and all(cell.proven for cell in self.cells.values())

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "sets": list(self.sets),
            "defects": [
                {
                    "defect": name,
                    "title": title,
                    "sets": {one: vars(self.cells[name, one]) for one in self.sets if (name, one) in self.cells},
                }
                for name, title in self.titles.items()
            ],
        }


def gather(sets: Sequence[PatchSet], terminal: Terminal, *, offline: bool = False, again: bool = False) -> Matrix:
    """The matrix of some applied sets; also in build/matrix.json.

    With `again`, tests of defects run also where evidence or the last run is of the very tree that the set makes.
    """
    documents = {}
    for patch_set in sets:
        known = None if again else _known(patch_set)
        documents[patch_set.name] = known or defects.run(patch_set, terminal, offline=offline).as_dict()
    matrix = make(documents)
    folder = paths.repo_root() / "build"
    (folder / "matrix.json").write_text(json.dumps(matrix.as_dict(), indent=2) + "\n", encoding="utf-8")
    return matrix


def _known(patch_set: PatchSet) -> dict[str, Any] | None:
    """The table of a set's evidence, or of its last run of the defects, where that is of the tree that it makes now."""
    if cases := evidence.cases(patch_set):
        return defects.of_cases(patch_set, cases, evidence.NAME).as_dict()
    file = paths.build_dir(patch_set.name) / "defects.json"
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}", hint=f"make defects VERSION={patch_set.name}") from error
    return document if document.get("tree") == patch_set.tree else None


def make(documents: Mapping[str, Mapping[str, Any]]) -> Matrix:
    titles: dict[str, str] = {}
    cells = {}
    for name, document in documents.items():
        for row in document["rows"]:
            titles.setdefault(row["defect"], row["title"])
            pristine = row["pristine"]
            passes = (_NONE, "right") if row["absent"] else (_NONE, "fixed")
            proven = row["fixed"] in passes and bool(row["absent"] or pristine["passed"])
            why = row["absent"] or "; ".join(pristine["seen"])
            cells[row["defect"], name] = Cell(row["shown"], row["fixed"], why, proven)
    return Matrix(tuple(documents), {name: titles[name] for name in sorted(titles, key=facts.order)}, cells)


def show(matrix: Matrix, terminal: Terminal) -> None:
    rows = [
        [f"{name}: {title}", *(str(matrix.cells.get((name, one), "no test")) for one in matrix.sets)]
        for name, title in matrix.titles.items()
    ]
    terminal.table("defects by set", ("defect", *matrix.sets), rows)
