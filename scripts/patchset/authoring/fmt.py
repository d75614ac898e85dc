# SPDX-License-Identifier: Apache-2.0
"""`patchset fmt`: every patch of a set as git writes it; hunks that were edited by hand are counted anew."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from patchset.authoring import export, folder
from patchset.authoring.export import ExportResult
from patchset.node.errors import PatchDoesNotApply
from patchset.plan import commits, plan
from patchset.plan.plan import Recipe
from patchset.sets import header, overlay, series
from patchset.sets.patchfile import NAMED
from patchset.sets.setfile import PatchSet
from patchset.system.git import GitError, Identity, Repository
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import Source

_DROPPED = re.compile(rf"^({'|'.join(header.TRAILERS)}):", re.MULTILINE)
_APPLY = ("apply", "--cached", "--whitespace=nowarn")


def run(
    patch_set: PatchSet, *, upstream: Path | None, offline: bool, dry_run: bool, terminal: Terminal
) -> ExportResult:
    """Rewrites the patches that are not as git writes them; raises PatchsetError, and nothing is written then."""
    source = Source(patch_set, given=upstream, offline=offline, terminal=terminal)
    if not dry_run:
        folder.recover(patch_set, "fmt", terminal)
    there = series.read(patch_set.folder)
    named = {path.decode() for data in there.values() for path in NAMED.findall(data)} & patch_set.sources().keys()
    notes: list[str] = []
    with commits.scratch() as bench:
        bench.stage({path: source.read(path) for path in sorted(named)})
        base = tip = bench.commit("upstream\n", commits.identity(patch_set), None)
        for name, data in there.items():
            tip, added = _commit(bench, tip, name, data)
            notes += [f"{name}: added {', '.join(added)}"] if added else []
        files = {patch.name: patch for patch in export.settled(bench, base, tip, list(there))}
    wanted = folder.with_patches(patch_set, {name: patch.data for name, patch in files.items()})
    made = plan.proven(Recipe(patch_set, tuple(files.values()), overlay.load(patch_set)), source.read)
    changed = folder.differing(wanted | folder.with_results(made, {}))
    if changed and not dry_run:
        folder.write(patch_set, "fmt", changed, terminal)
    return ExportResult(tuple(files), tuple(changed), tuple(notes), bool(changed) and not dry_run, made.tree)


def _commit(bench: Repository, parent: str, name: str, data: bytes) -> tuple[str, list[str]]:
    """Commits a patch as `git am` does, its hunks counted anew where they can be; and the trailers that were added."""
    top = data.partition(b"\n\n")[0].decode(errors="replace")
    if dropped := _DROPPED.search(top):
        text = f"{name}: git drops the mail header {dropped[1]}: a field is a trailer, below the text"
        raise PatchDoesNotApply(text, patch=name, hint="move it below the text")
    try:
        with tempfile.TemporaryDirectory(prefix="patchset-") as scratch:  # what `git am` reads in a mail
            files = [Path(scratch) / name for name in ("message", "diff")]
            rows = bench.git("mailinfo", "-b", "--no-scissors", "--encoding=UTF-8", *map(str, files), stdin=data)
            said = dict(row.split(": ", 1) for row in rows.split("\n") if ": " in row)
            message, diff = files[0].read_text(encoding="utf-8", errors="replace"), files[1].read_bytes()
        try:
            bench.git(*_APPLY, "--recount", "-", stdin=diff)
        except GitError:
            bench.git(*_APPLY, "-", stdin=diff)
    except GitError as error:
        raise commits.refused(bench, parent, name, data, error) from error
    if not all(said.get(key) for key in ("Author", "Email", "Date", "Subject")):
        raise PatchDoesNotApply(f"{name}: it does not say who, when and what", patch=name, hint="give it a mail header")
    before, after = bench.git("rev-parse", f"{parent}^{{tree}}").strip(), bench.git("write-tree").strip()
    rows = bench.git("diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after)
    found = {path for path in rows.split("\0") if path}
    if found != (named := {path.decode() for path in NAMED.findall(diff)}):
        text = f"{name}: git changes other files than its `diff --git` lines name: {', '.join(sorted(found ^ named))}"
        raise PatchDoesNotApply(text, patch=name, hint="mend the lines that name the files")
    text, added = export.with_defaults(f"{said['Subject']}\n\n{message}")
    return bench.commit(text, Identity(f"{said['Author']} <{said['Email']}>", said["Date"]), parent), added
