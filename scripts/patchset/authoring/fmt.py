# SPDX-License-Identifier: Apache-2.0
"""`patchset fmt`: every patch of a set in its canonical form, which is what `export` would write of it."""

from __future__ import annotations

import email.utils
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from patchset import header, history, patchfile, plan, series
from patchset.authoring import canonical, commits, folder
from patchset.errors import PatchDoesNotApply
from patchset.git import Repository
from patchset.source import Source
from patchset.upstream import check_given

if TYPE_CHECKING:
    from collections.abc import Callable

    from patchset.patchfile import Patch
    from patchset.plan import Plan, Step
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal


@dataclass(frozen=True)
class Outcome:
    """What fmt found and did: the patches that were not canonical, and whether they were written."""

    changed: tuple[str, ...]
    written: bool


def run(patch_set: PatchSet, *, upstream: Path | None, offline: bool, dry_run: bool, terminal: Terminal) -> Outcome:
    """Rewrites the patches that are not canonical.

    Raises:
        PatchsetError: a patch is malformed or does not fit, or its canonical form would mean something else; nothing
            is written.
    """
    if upstream:
        check_given(patch_set, upstream)
    if not dry_run:
        folder.recover(patch_set, "fmt", terminal)
    source = Source(patch_set, given=upstream, offline=offline, terminal=terminal)
    files = formatted(patch_set, source.read)
    changed = folder.differing(patch_set, files)
    if changed and not dry_run:
        folder.write(patch_set, "fmt", changed, terminal)
    return Outcome(tuple(changed), bool(changed) and not dry_run)


def formatted(patch_set: PatchSet, read: Callable[[str], bytes]) -> dict[str, bytes]:
    """The canonical form of each patch, by name, in the order of the series.

    Raises:
        PatchDoesNotApply: a patch is malformed or does not fit, or its canonical form would mean something else.
    """
    made = plan.make(patch_set, read, series.load(patch_set.folder, _lenient))
    files = of_plan(made)
    again = plan.make(patch_set, read, [patchfile.parse(name, data) for name, data in files.items()])
    for before, after in zip(made.steps, again.steps, strict=True):
        if _meaning(before) != _meaning(after):
            raise PatchDoesNotApply(
                f"{before.patch.name}: its canonical form would not mean the same; nothing was written",
                patch=before.patch.name,
                hint="report this, with the patch",
            )
    return files


def of_plan(made: Plan) -> dict[str, bytes]:
    """Each step of a plan as a canonical patch, by name, in their order."""
    with tempfile.TemporaryDirectory(prefix="patchset-") as scratch:
        history.write(Path(scratch), made, ())
        repository = Repository(Path(scratch))
        found = commits.read(repository, history.UPSTREAM, made.patch_set.name)
        return commits.patches(repository, found[: len(made.steps)])


def _lenient(name: str, data: bytes) -> Patch:
    return patchfile.parse(name, canonical.relax(data))


def _meaning(step: Step) -> tuple[object, ...]:
    """What must not change: the name, the header, and the bytes of each file after the patch."""
    said = step.patch.header
    fields = {name: value for name, value in said.fields if name not in ("From", "Date", "Subject")}
    paths = {file.path: (step.after[file.path], file.executable) for file in step.patch.files}
    return (
        step.patch.name,
        said.subject,
        email.utils.parseaddr(said.author),
        said.date,
        fields,
        header.plain(said.body),
        paths,
    )
