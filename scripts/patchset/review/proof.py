# SPDX-License-Identifier: Apache-2.0
"""The table of defects: of the set's evidence, or else what `make defects` left in build/<set>/."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from patchset.node.errors import UsageError
from patchset.plan.plan import Plan
from patchset.proof import defects, evidence
from patchset.proof.defects import Defect, Evidence
from patchset.sets import facts
from patchset.system import paths


@dataclass(frozen=True)
class Proof:
    """The rows, and what a reader must know of them."""

    # From the report; without one, the defects that the patches say they resolve, with no evidence.
    rows: tuple[Defect, ...]
    note: str  # why the rows prove nothing of this series; empty where they are of its very tree

    @property
    def proven(self) -> int:
        return 0 if self.note else sum(row.proven for row in self.rows)


def load(plan: Plan) -> Proof:
    """Reads evidence.json or, where that is of another tree or other tests, defects.json; raises UsageError."""
    name = plan.patch_set.name
    if plan.tree == plan.patch_set.tree and (cases := evidence.cases(plan.patch_set)):
        return Proof(defects.of_cases(plan.patch_set, cases, evidence.NAME).rows, "")
    file = paths.build_dir(name) / "defects.json"
    command = f"make defects VERSION={name}"
    if not file.is_file():
        resolved = {defect for step in plan.steps for defect in step.patch.header.resolves}
        return Proof(
            tuple(defects.table((), facts.titles(), resolved)), f"Not run: `{command}` has left no report here."
        )
    try:
        report = json.loads(file.read_bytes())
        rows = tuple(_row(row) for row in report["rows"])
        tree = str(report.get("tree", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: {error!r}", hint=f"{command} writes it anew") from error
    if tree != plan.tree:
        of = f"of another tree ({tree[:12]}, not {plan.tree[:12]})" if tree else "of a tree that it does not name"
        return Proof(rows, f"Not run on this tree: the report is {of}. `{command}` makes a new one.")
    return Proof(rows, "")


def _row(row: dict[str, Any]) -> Defect:
    pristine, patched = (msgspec.convert(row[tree], Evidence) for tree in ("pristine", "patched"))
    return Defect(str(row["defect"]), str(row["title"]), pristine, patched, row["shown"] == "not a defect")
