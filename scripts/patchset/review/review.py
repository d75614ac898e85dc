# SPDX-License-Identifier: Apache-2.0
"""Everything that a reviewer is shown of a set, worked out before a byte is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from patchset.node.errors import UsageError
from patchset.plan.plan import Plan
from patchset.proof import defects, evidence
from patchset.proof.defects import Defect, Evidence
from patchset.review import code, diff
from patchset.review.code import Line
from patchset.review.diff import FileDiff
from patchset.review.rangediff import Commits, RangeDiff, Row
from patchset.sets import facts, symbols
from patchset.sets.overlay import Overlay
from patchset.sets.patchfile import Patch
from patchset.system import paths

Content = Mapping[str, bytes | None]
_KEPT = re.compile(r"[-*+] |\d+[.)] |\s")  # how a line begins that is not to be joined with the one above
_LABEL = re.compile(r"(Why|How): *")


@dataclass(frozen=True)
class PatchReview:
    number: int  # in the series, from 1
    anchor: str  # of the patch in the page: its file's name without `.patch`
    patch: Patch  # as it was read
    says: Mapping[str, Sequence[str]]  # paragraphs: `why` and `how`, from these labels on, and `more` before the first
    files: tuple[FileDiff, ...]  # what it does

    @property
    def status(self) -> str:
        return self.patch.header.get("Upstream-Status").split()[0]


@dataclass(frozen=True)
class Touch:
    """What one patch changes at one place: counts of lines, and the address of the first one in the page."""

    anchor: str
    added: int = 0
    removed: int = 0


Overlaps = Mapping[str, Mapping[str, Mapping[int, Touch]]]
"""By path, class or function (empty at the top of a module), and number of the patch."""


@dataclass(frozen=True)
class Excerpt:
    anchor: str  # of the excerpt in the page; a line's is the anchor, `:R`, and the number
    path: str  # of the file
    symbol: str  # what of the file it is; empty for the whole of it
    first: int  # the number of its first line
    lines: tuple[Line, ...]  # the coloured lines


@dataclass(frozen=True)
class Module(Excerpt):
    replaces: tuple[Excerpt, ...]


@dataclass(frozen=True)
class Proof:
    # From the report; without one, the defects that the patches say they resolve, with no evidence.
    rows: tuple[Defect, ...]
    note: str  # why the rows prove nothing of this series; empty where they are of its very tree

    @property
    def proven(self) -> int:
        return 0 if self.note else sum(row.proven for row in self.rows)


@dataclass(frozen=True)
class Review:
    plan: Plan  # what the set does
    patches: tuple[PatchReview, ...]  # in the order of the series
    net: tuple[FileDiff, ...]  # what all patches together change in upstream's files
    modules: tuple[Module, ...]  # the overlay
    overlaps: Overlaps  # which patches meet
    proof: Proof  # the table of defects
    ranges: RangeDiff | None  # what became of an older series; None where none was named

    @property
    def added(self) -> int:
        return sum(file.added for file in self.net)

    @property
    def resolved_by(self) -> dict[str, list[int]]:
        """Numbers of the patches that resolve each row of the table of defects; D6 resolves D6a too."""
        names = {row.name: {row.name, facts.whole(row.name)} for row in self.proof.rows}
        said = {one.number: {*one.patch.header.resolves} for one in self.patches}
        return {row: [number for number in said if said[number] & meant] for row, meant in names.items()}

    @property
    def fates(self) -> dict[int, Row]:
        """What became of each patch since the older series, by number; empty where none was named."""
        return {row.after: row for row in self.ranges.rows if row.after} if self.ranges else {}

    @property
    def removed(self) -> int:
        return sum(file.removed for file in self.net)


def review(plan: Plan, read: Callable[[str], bytes], commits: Commits, ranges: RangeDiff | None = None) -> Review:
    """Puts the review of a plan together, with what became of an older series."""
    patches: list[PatchReview] = []
    sides: list[tuple[tuple[FileDiff, ...], Content, Content]] = []
    now: dict[str, bytes | None] = {path: change.before for path, change in plan.changes.items()}
    for number, step in enumerate(plan.steps, start=1):
        before, now = now, now | dict(step.after)
        anchor = step.patch.name.removesuffix(".patch")
        files = diff.read(step.patch.diff.decode(), anchor, before, now)
        patches.append(PatchReview(number, anchor, step.patch, explain(step.patch.header.body), files))
        sides.append((files, before, now))
    net = diff.read(commits.net_diff(), "net", {path: change.before for path, change in plan.changes.items()}, now)
    return Review(
        plan=plan,
        patches=tuple(patches),
        net=net,
        modules=modules(plan.overlay, read),
        overlaps=overlaps(sides),
        proof=prove(plan),
        ranges=ranges,
    )


def modules(overlay: Overlay, read: Callable[[str], bytes]) -> tuple[Module, ...]:
    """The modules by path; raises UsageError where upstream has no such symbol."""
    found = []
    for path, data in sorted(overlay.files.items()):
        anchor = f"overlay/{path}"
        replaces = tuple(
            _excerpt(f"{anchor}/replaces/{row.path}", row.path, row.symbol, read(row.path))
            for row in overlay.replaces
            if row.module == path
        )
        found.append(Module(**vars(_excerpt(anchor, path, "", data)), replaces=replaces))
    return tuple(found)


def _excerpt(anchor: str, path: str, name: str, data: bytes) -> Excerpt:
    symbol = symbols.find(data, name)
    if symbol is None:
        raise UsageError(f"{path} has no {name}", hint="mend overlay.toml")
    return Excerpt(anchor, path, name, symbol.first, code.excerpt(path, data, symbol.first, symbol.last))


def overlaps(patches: Iterable[tuple[tuple[FileDiff, ...], Content, Content]]) -> Overlaps:
    """Which patches meet: of each patch its diffs, and the contents by path before and after it."""
    found: dict[str, dict[str, dict[int, Touch]]] = {}
    for number, (files, before, after) in enumerate(patches, start=1):
        for file in files:
            for line in (line for hunk in file.hunks for line in hunk.changed):
                side, at = ("R", line.new) if line.new else ("L", line.old)
                symbol = symbols.at((after if line.new else before).get(file.path), file.path, at)
                touches = found.setdefault(file.path, {}).setdefault(symbol, {})
                last = touches.get(number, Touch(f"{file.anchor}:{side}{at}"))
                touches[number] = Touch(last.anchor, last.added + (side == "R"), last.removed + (side == "L"))
    return {path: dict(sorted(places.items())) for path, places in sorted(found.items())}


def prove(plan: Plan) -> Proof:
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
        rows = []
        for row in report["rows"]:
            pristine, patched = (msgspec.convert(row[tree], Evidence) for tree in ("pristine", "patched"))
            refuted = row["shown"] == "not a defect"
            rows.append(Defect(str(row["defect"]), str(row["title"]), pristine, patched, refuted))
        tree = str(report.get("tree", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: {error!r}", hint=f"{command} writes it anew") from error
    if tree != plan.tree:
        of = f"of another tree ({tree[:12]}, not {plan.tree[:12]})" if tree else "of a tree that it does not name"
        return Proof(tuple(rows), f"Not run on this tree: the report is {of}. `{command}` makes a new one.")
    return Proof(tuple(rows), "")


def templates(**how: Any) -> Environment:
    """What renders the page's and the Markdown's templates, which differ in how they escape."""
    loader = PackageLoader("patchset.review")
    how |= {"loader": loader, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(**how)  # noqa: S701 - said by the caller


def lines_of(paragraph: str) -> list[str]:
    """A paragraph as one line, for it flows; a list, or indented text, line by line.

    >>> lines_of("one\\ntwo"), lines_of("- one\\n- two")
    (['one two'], ['- one', '- two'])
    """
    lines = paragraph.split("\n")
    return lines if any(_KEPT.match(line) for line in lines) else [" ".join(lines)]


def explain(body: str) -> dict[str, list[str]]:
    """Splits the body of a header at its labels.

    >>> explain("Why: it hangs.\\n\\nOften.\\n\\nHow: no more.")
    {'more': [], 'why': ['it hangs.', 'Often.'], 'how': ['no more.']}
    """
    parts: dict[str, list[str]] = {"more": [], "why": [], "how": []}
    label = "more"
    for paragraph in re.split(r"\n\s*\n", body.strip()):
        if found := _LABEL.match(paragraph):
            label = found[1].lower()
            paragraph = paragraph[found.end() :]
        if paragraph:
            parts[label].append(paragraph)
    return parts
