# SPDX-License-Identifier: Apache-2.0
"""The plan as git commits: pristine upstream, one commit a patch, one for the overlay.

Git applies each patch to the index alone: in a folder of another repository `git apply` skips files without a word.
What it made is read back and compared with the plan: its exit code proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from patchset import manifest, message
from patchset.errors import PatchDoesNotApply
from patchset.fastimport import FastImport
from patchset.git import GitError, Identity, Repository, apply_to_files, blob_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from patchset.plan import Plan, Step
    from patchset.setfile import PatchSet

UPSTREAM = "upstream"
PERSON = "patchset <patchset@noreply.invalid>"
SERIES = "refs/patchset/series"  # the commit that patches/<set> and overlay/ hold; what else HEAD has is the author's
_MADE = "refs/patchset/made"  # what fast-import names, before the branch does
_SCRATCH_INDEX = "patchset-index"


class Underway(Enum):
    """What git is in the middle of; the value is its command."""

    NOTHING = ""
    REBASE = "rebase"
    PICK = "cherry-pick"


def underway(root: Path) -> Underway:
    """What git is in the middle of in a work tree."""
    folder = root / ".git"
    if (folder / "rebase-merge").is_dir() or (folder / "rebase-apply").is_dir():
        return Underway.REBASE
    if (folder / "CHERRY_PICK_HEAD").is_file() or (folder / "sequencer").is_dir():
        return Underway.PICK
    return Underway.NOTHING


@dataclass(frozen=True)
class Authored:
    """What an author has done in a build tree that patches/ does not hold, in words, and the next command."""

    what: str
    next: str


def authored(root: Path, set_name: str) -> Authored | None:
    """What an author has done in the build tree of a set, or None."""
    if not (root / ".git").is_dir():
        return None
    if (what := underway(root)) is not Underway.NOTHING:
        return Authored(f"a {what.value} is under way", f"patchset edit {set_name} --continue, or --abort")
    repository = Repository(root)
    known, head = repository.ref(SERIES), repository.ref("HEAD")
    if known is None or head is None or head in (known, repository.ref(UPSTREAM)):
        return None
    count = int(repository.git("rev-list", "--count", f"{SERIES}..HEAD"))
    commits = "a commit is" if count == 1 else f"{count} commits are"
    return Authored(f"{commits} not in patches/" if count else "commits are dropped", f"patchset export {set_name}")


def write(root: Path, plan: Plan, paths: Iterable[str]) -> str:
    """Makes the commits in root/.git and points the two branches at them; returns the last commit's id.

    Args:
        root: a work tree, of which only the files that the plan does not change are read.
        plan: what to commit.
        paths: the files of pristine upstream.

    Raises:
        PatchDoesNotApply: git made something else of a patch than the plan did.
    """
    patch_set = plan.patch_set
    repository = Repository(root, _SCRATCH_INDEX)
    repository.init(patch_set.name)
    index_file = root / ".git" / _SCRATCH_INDEX
    index_file.unlink(missing_ok=True)
    upstream = repository.ref(f"refs/heads/{UPSTREAM}")
    if upstream is None:
        present = [path for path in paths if (root / path).is_file() and path not in plan.changes]
        repository.git("update-index", "--add", "-z", "--stdin", stdin="\0".join([*present, ""]).encode())
        before = {path: change.before for path, change in plan.changes.items() if change.before is not None}
        _stage(repository, before, {path for path in before if _executable(root / path)})
        upstream = repository.commit(_upstream_message(patch_set), _identity(patch_set), None)
        repository.git("update-ref", f"refs/heads/{UPSTREAM}", upstream)
    repository.git("read-tree", upstream)
    modes = _staged(repository, plan.changes)
    modes |= _agree(repository, plan, lambda: repository.git("read-tree", upstream))
    tip = _commit(repository, plan, upstream, modes)
    before_tip = repository.ref(f"refs/heads/{patch_set.name}")
    if before_tip and before_tip != tip:
        repository.git(
            "update-ref", f"refs/patchset/before/{before_tip}", before_tip
        )  # a user's commits stay reachable
    both = f"update refs/heads/{patch_set.name} {tip}\nupdate {SERIES} {tip}\n"
    repository.git("update-ref", "--stdin", stdin=both.encode())  # at once: one without the other is an author's work
    index_file.unlink(missing_ok=True)
    return tip


def prove(root: Path, plan: Plan) -> None:
    """Lets git apply the series, and makes no commit.

    Args:
        root: an empty folder.
        plan: what git must come to as well.

    Raises:
        PatchDoesNotApply: git made something else of a patch than the plan did.
    """
    before = {path: change.before for path, change in plan.changes.items() if change.before is not None}
    if _applied_to_files(root / "files", before, plan.steps):
        return
    repository = Repository(root, _SCRATCH_INDEX)
    repository.init(plan.patch_set.name)

    def start() -> None:
        (root / ".git" / _SCRATCH_INDEX).unlink(missing_ok=True)
        _stage(repository, before, set())

    start()
    _agree(repository, plan, start)


def point(root: Path, branch: str) -> None:
    """Makes a branch the one that is checked out, without touching a file; can be repeated."""
    repository = Repository(root)
    if repository.ref(f"refs/heads/{branch}") is None:
        return
    repository.git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
    repository.git("read-tree", "HEAD")
    repository.git("update-index", "-q", "--refresh")


def tip(root: Path, branch: str) -> str | None:
    """The commit that a branch of a build tree names, or None."""
    return Repository(root).ref(f"refs/heads/{branch}") if (root / ".git").is_dir() else None


def _agree(repository: Repository, plan: Plan, again: Callable[[], object]) -> dict[str, tuple[str, str]]:
    """Lets git apply the series to the index, and raises where it makes something else of it than the plan does.

    Args:
        repository: with upstream in an index of its own.
        plan: what git must come to.
        again: puts upstream into the index once more.

    Returns:
        Mode and blob id of the files that the series makes or changes.
    """
    whole = b"".join(step.patch.diff for step in plan.steps)
    after = {path: data for step in plan.steps for path, data in step.after.items()}
    try:
        found = _applied(repository, whole, after) if whole else {}
    except GitError:
        found = {}
    if _blobs(found) != _wanted(after):  # patch by patch, so that the message can name one
        again()
        for step in plan.steps:
            _agree_on(repository, step)
        found = _staged(repository, after)
    return found


def _applied_to_files(folder: Path, before: Mapping[str, bytes], steps: Sequence[Step]) -> bool:
    """Whether git, in a folder of no repository, makes of the files what the steps do; four times as fast as an index.

    Where it does not, an index has the last word, patch by patch.
    """
    diff = b"".join(step.patch.diff for step in steps)
    after = {path: data for step in steps for path, data in step.after.items()}
    for path in before.keys() | after.keys():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    for path, data in before.items():
        (folder / path).write_bytes(data)
    try:
        if diff:
            apply_to_files(folder, diff)
    except GitError:
        return False
    wanted = {path: manifest.sha256(data) for path, data in after.items() if data is not None}
    return manifest.measure(folder, after) == wanted


def _agree_on(repository: Repository, step: Step) -> None:
    patch = step.patch
    try:
        found = _blobs(_applied(repository, patch.diff, step.after))
    except GitError as error:
        raise PatchDoesNotApply(
            f"{patch.name}: git does not apply it: {error}", patch=patch.name, hint="write the patch anew with git diff"
        ) from error
    wanted = _wanted(step.after)
    if path := next((path for path in step.after if found.get(path) != wanted.get(path)), ""):
        raise PatchDoesNotApply(
            f"{patch.name}: git makes another {path} of it than an exact reading does",
            patch=patch.name,
            path=path,
            hint="write the patch anew with git diff --full-index",
        )


def _applied(repository: Repository, diff: bytes, paths: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Mode and blob id of files after git has applied a diff to the index."""
    repository.git("apply", "--cached", "--whitespace=nowarn", "-", stdin=diff)
    return _staged(repository, paths)


def _blobs(staged: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    return {path: blob for path, (_, blob) in staged.items()}


def _wanted(after: Mapping[str, bytes | None]) -> dict[str, str]:
    return {path: blob_id(data) for path, data in after.items() if data is not None}


def _staged(repository: Repository, paths: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Mode and blob id of those paths that the index has."""
    named = list(paths)
    listed = repository.git("ls-files", "-s", "-z", "--", *named) if named else ""
    rows = (row.partition("\t") for row in listed.split("\0") if row)
    return {path: (fields.split()[0], fields.split()[1]) for fields, _, path in rows}


def _commit(repository: Repository, plan: Plan, upstream: str, modes: Mapping[str, tuple[str, str]]) -> str:
    """Makes all commits with one git process; the last one's id."""
    stream = FastImport(_MADE, upstream)
    for step in plan.steps:
        header = step.patch.header
        text = message.compose(header.subject, header.body, dict(header.fields), step.patch.name).render()
        stream.commit(Identity(header.author, header.get("Date")), header.date, text)
        for path, data in step.after.items():
            mode, _ = modes.get(path, ("100644", ""))
            stream.change(path, None if data is None else repository.add_blob(data), mode)
    if plan.overlay.files:
        identity = _overlay_identity(plan)
        stream.commit(identity, datetime.fromisoformat(identity.date), _overlay_message(plan))
        for path, data in sorted(plan.overlay.files.items()):
            stream.change(path, repository.add_blob(data), "100644")
    return repository.fast_import(stream)


def _stage(repository: Repository, files: Mapping[str, bytes], executable: set[str]) -> None:
    """Puts content into the index, whatever the work tree holds."""
    lines = []
    for path, data in sorted(files.items()):
        mode = "100755" if path in executable else "100644"
        lines.append(f"{mode} {repository.add_blob(data)}\t{path}\0")
    repository.git("update-index", "--add", "-z", "--index-info", stdin="".join(lines).encode())


def _executable(file: Path) -> bool:
    return file.is_file() and bool(file.stat().st_mode & 0o100)


def _identity(patch_set: PatchSet) -> Identity:
    released = patch_set.ascend.released
    return Identity(PERSON, f"{released.isoformat() if released else '2000-01-01'}T00:00:00+0000")


def _overlay_identity(plan: Plan) -> Identity:
    """The date of the last patch, so that the history reads in order."""
    dates = [step.patch.header.date for step in plan.steps]
    return Identity(PERSON, max(dates).isoformat()) if dates else _identity(plan.patch_set)


def _upstream_message(patch_set: PatchSet) -> str:
    release = patch_set.ascend
    commit = f"\n\nTag v{release.version}, commit {release.commit}." if release.commit else ""
    return (
        f"vllm-ascend {release.version} as released{commit}\n\nsha256 of {release.sdist.file}: {release.sdist.sha256}\n"
    )


def _overlay_message(plan: Plan) -> str:
    modules = "\n".join(f"  {path}" for path in sorted(plan.overlay.files))
    replaced = "\n".join(f"  {row.path} {row.symbol}, by {row.module}" for row in plan.overlay.replaces)
    return f"Install the overlay\n\nModules:\n{modules}\n" + (f"\nThey replace:\n{replaced}\n" if replaced else "")
