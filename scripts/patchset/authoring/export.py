# SPDX-License-Identifier: Apache-2.0
"""`patchset export`: the commits of the build tree as patches/<set> and overlay/. Nothing is written before the whole
is proven: git makes of the new files what the tip of the branch holds, byte for byte. What a commit does to overlay
modules goes to overlay/, the rest of it is its patch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.authoring import folder, tree
from patchset.node.errors import PatchDoesNotApply, TargetModified, UsageError
from patchset.plan import commits, history, plan
from patchset.plan.commits import Commit
from patchset.plan.plan import Plan, Recipe
from patchset.sets import header, patchfile, series
from patchset.sets.patchfile import Patch
from patchset.sets.setfile import PatchSet, load_set
from patchset.system import paths
from patchset.system.git import Repository, blob_id
from patchset.system.terminal import Terminal
from patchset.target import apply
from patchset.target.locate import build_tree
from patchset.upstream.pristine import Source

_NUMBER = re.compile(r"(\d{4})-")
_ANEW = "keep your commits (git branch keep), remove the tree, make apply VERSION={}, pick them"
_SQUASHED = ("fixup! ", "squash! ", "amend! ")


@dataclass(frozen=True)
class ExportResult:
    patches: tuple[str, ...]  # the names of the series, in its order
    changed: tuple[str, ...]  # files below the repository that were, or would be, written or removed
    notes: tuple[str, ...]  # what was added to a commit or a patch, and which other sets were pinned anew
    written: bool  # whether they were
    tree: str  # digest of the tree that the patches and the overlay make


def run(
    patch_set: PatchSet, *, upstream: Path | None, offline: bool, dry_run: bool, terminal: Terminal
) -> ExportResult:
    """Writes patches/<set> and overlay/ from the commits; raises PatchsetError, and both are as before then."""
    source = Source(patch_set, given=upstream, offline=offline, terminal=terminal)
    with tree.session(patch_set) as repository:
        if not dry_run:
            folder.recover(patch_set, "export", terminal)
        tree.refuse_underway(repository)
        tree.refuse_changes(repository, patch_set)
        with commits.scratch(repository.root / ".git" / "objects") as bench:
            base = _upstream(repository, patch_set, source.read)
            tip = str(repository.ref("HEAD"))
            applied, shipped = _applied(repository, bench, base, patch_set)
            there = series.read(patch_set.folder)
            written = told(bench, base, tip)
            ours = tree.modules(bench, patch_set, applied, tip, _of_overlay(written))
            patches, notes = as_patches(bench, base, written, ours.paths, there)
            recipe = Recipe(patch_set, tuple(patches), ours.overlay)
            made = plan.proven(recipe, source.read)
            _same(bench, made, tip, ours.paths)
        wanted = folder.with_patches(patch_set, {patch.name: patch.data for patch in patches})
        wanted |= {**ours.files, **folder.with_results(made, ours.files)}
        changed = folder.differing(wanted)
        if changed and list(there.values()) != shipped:
            what = f"{patch_set.folder} has changed since the tree was made; nothing was written"
            hint = "set your edit of patches/ aside (git stash), export, bring it back, make fmt; "
            hint += "or, without commits of yours in the tree: make apply"
            raise TargetModified(what, paths=(), hint=hint)
        others = {f"patches/{name}/set.toml" for name in paths.sets() if name != patch_set.name}
        notes += [f"{file} is pinned anew: it shares a module" for file in changed if file in others]
        if not dry_run:
            folder.write(patch_set, "export", changed, terminal)
            pinned = load_set(patch_set.name)  # as it was just written
            apply.remember(build_tree(pinned), replace(recipe, patch_set=pinned), source)
        names = tuple(patch.name for patch in patches)
        return ExportResult(names, tuple(changed), tuple(notes), not dry_run, made.tree)


def told(repository: Repository, base: str, tip: str) -> tuple[Commit, ...]:
    """The commits from `base` to `tip`, in order; raises UsageError: a merge, another base, one to be squashed."""
    rows = commits.log(repository, base, tip)
    for row in rows:
        if len(row.parents) != 1:
            hint = "git rebase makes it a line"
            raise UsageError(f"{row.title} is a merge; a series is one commit after the other", hint=hint)
        if row.subject.startswith(_SQUASHED):
            hint = "git rebase -i --autosquash upstream, then export"
            raise UsageError(f"{row.title} waits to be squashed", hint=hint)
    if rows and rows[0].parents != (base,):
        raise UsageError("the branch is not made from upstream", hint="git rebase --onto upstream brings it there")
    return rows


def _of_overlay(written: Sequence[Commit]) -> dict[str, str]:
    """Files of the overlay's own commit, which is the first, with git's ids of them."""
    if not written or written[0].subject != history.OVERLAY:
        return {}
    return {file.path: file.after for file in written[0].files}


def _applied(
    repository: Repository, bench: Repository, base: str, patch_set: PatchSet
) -> tuple[dict[str, str], list[bytes]]:
    """What a tree was made from: git's ids of the overlay modules by path, and the patch files in their order."""
    tip = repository.ref(history.SERIES)
    if tip is None:
        text = f"{repository.root} does not say what it was made from"
        raise TargetModified(text, paths=(), hint=_ANEW.format(patch_set.name))
    written = told(bench, base, tip)
    overlaid = _of_overlay(written)
    return overlaid, commits.format_patches(bench, written[0].id if overlaid else base, tip)


def as_patches(
    bench: Repository, base: str, written: Sequence[Commit], overlaid: Iterable[str], there: Mapping[str, bytes]
) -> tuple[list[Patch], list[str]]:
    """The commits as patches without their overlay files, and notes on the trailers that were added. A commit keeps the
    name of the patch of `there` that has its subject, or its very change; another one gets the next number. Raises
    PatchDoesNotApply: a commit is no patch yet; UsageError: two commits have one subject."""
    notes: list[str] = []
    kept: list[Commit] = []
    tip = base
    bench.git("read-tree", base)
    for one in written:
        files = [file for file in one.files if file.path not in overlaid]
        if not files:
            if one.files:
                continue  # the overlay's own commit, or a change of it
            hint = "git rebase -i upstream drops it; or commit a change"
            raise PatchDoesNotApply(f"{one.title} changes nothing", patch=one.title, hint=hint)
        commits.refuse_odd(one.title, replace(one, files=tuple(files)))
        rows = [f"{file.modes[1].replace('000000', '0')} {file.after}\t{file.path}\0" for file in files]
        bench.git("update-index", "--add", "-z", "--index-info", stdin="".join(rows).encode())
        text, added = with_defaults(one.text)
        notes += [f"{one.title}: added {', '.join(added)}"] if added else []
        tip = bench.commit(text, one.author, tip)
        kept.append(one)
    found = settled(bench, base, tip, [one.title for one in kept])
    return named(found, there), notes


def settled(bench: Repository, base: str, tip: str, titles: Sequence[str]) -> list[Patch]:
    """The commits as patches of which git makes the same commits, and the same patches, again. Raises
    PatchDoesNotApply: a commit is no patch; a line of its message reads as a diff, a header, or another mail."""
    found: list[Patch] = []
    for _ in range(2):
        data = commits.format_patches(bench, base, tip)
        found = [patchfile.parse(title, one) for title, one in zip(titles, data, strict=True)]
        made = commits.apply(bench, base, found)
        again = commits.format_patches(bench, base)
        if again == data:
            return found
        tip = made[-1].id  # git has joined the lines of a subject, say
    one, wanted = next((one, wanted) for one, wanted in zip(found, again, strict=True) if one.data != wanted)
    raise commits.difference(one.name, wanted, one.data)


def named(patches: Sequence[Patch], there: Mapping[str, bytes]) -> list[Patch]:
    """The patches with their file names: as before where the subject or the change is, else the next number."""
    before = {name: patchfile.parse(name, data) for name, data in there.items()}
    by_subject = {patch.header.subject: name for name, patch in before.items()}
    subjects = [patch.header.subject for patch in patches]
    if twice := next((subject for subject in subjects if subjects.count(subject) > 1), ""):
        raise UsageError(f"two commits have the subject {twice!r}", hint="git rebase -i upstream; reword one of them")
    free = {patch.diff: name for name, patch in before.items() if patch.header.subject not in subjects}
    last = max((int(match[1]) for name in before if (match := _NUMBER.match(name))), default=0)
    found = []
    for patch in patches:
        subject = patch.header.subject
        name = by_subject.get(subject) or free.pop(patch.diff, "")
        if not name:
            last += 1
            name = f"{last:04d}-{slug(subject)}.patch"
        found.append(replace(patch, name=name))
    return found


def with_defaults(text: str) -> tuple[str, list[str]]:
    r"""A commit's message with the trailers that every patch has, and the names of those that were added.

    >>> with_defaults("Do it\n\nWhy.\n\nOrigin: other\nUpstream-Status: Pending\n")
    ('Do it\n\nWhy.\n\nOrigin: other\nUpstream-Status: Pending\nRemoval-Plan: when upstream does the same\n', ['Removal-Plan'])
    """  # noqa: E501 - a doctest's output is one line
    text = text.strip("\n")
    rows = header.split(text.partition("\n\n")[2])[1]
    added = [name for name in header.DEFAULTS if not dict(rows).get(name)]
    lines = "".join(f"{name}: {header.DEFAULTS[name]}\n" for name in added)
    gap = "\n" if lines and not rows else ""
    return f"{text}\n{gap}{lines}", added


def slug(subject: str) -> str:
    """A subject as part of a file name.

    >>> slug("Idle ranks' replay: the graph (D4)")
    'idle-ranks-replay-the-graph-d4'
    """
    words = re.sub(r"[^a-z0-9]+", "-", subject.replace("'", "").lower())
    return words[:52].strip("-") or "patch"


def _upstream(repository: Repository, patch_set: PatchSet, read: Callable[[str], bytes]) -> str:
    """The commit of upstream; raises TargetModified where it is not the pinned release."""
    base = repository.files(history.UPSTREAM)
    for path in patch_set.sources():
        if base.get(path) != blob_id(read(path)):
            raise _differs(f"{path} on branch {history.UPSTREAM}", patch_set)
    return str(repository.ref(history.UPSTREAM))


def _same(bench: Repository, made: Plan, tip: str, overlaid: Iterable[str]) -> None:
    """Raises TargetModified where the tip holds something else than the plan makes, beside the overlay."""
    found = bench.files(tip)
    for path, change in sorted(made.changes.items()):
        wanted = None if change.after is None else blob_id(change.after)
        if path not in overlaid and found.get(path) != wanted:
            raise _differs(f"{path} at HEAD", made.patch_set)


def _differs(what: str, patch_set: PatchSet) -> TargetModified:
    text = f"{what} is not what the pinned release and the patches make; nothing was written"
    return TargetModified(text, paths=[what.split()[0]], hint=_ANEW.format(patch_set.name))
