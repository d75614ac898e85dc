# SPDX-License-Identifier: Apache-2.0
"""The plan as git commits: pristine upstream, one commit a patch, one for the overlay.

Git applies each patch to the index alone: in a folder of another repository `git apply` skips files without a word.
What it made is read back and compared with the plan: its exit code proves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset import message
from patchset.errors import PatchDoesNotApply
from patchset.git import GitError, Identity, Repository, blob_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from patchset.plan import Plan, Step
    from patchset.setfile import PatchSet

UPSTREAM = "upstream"
PERSON = "patchset <patchset@noreply.invalid>"
SERIES = "refs/patchset/series"  # the commit that patches/<set> and overlay/ hold; what else HEAD has is the author's
_SCRATCH_INDEX = "patchset-index"


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
    tip = upstream
    for step in plan.steps:
        tip = _commit_patch(repository, step, tip)
    if plan.overlay.files:
        _stage(repository, plan.overlay.files, set())
        tip = repository.commit(_overlay_message(plan), _overlay_identity(plan), tip)
    before_tip = repository.ref(f"refs/heads/{patch_set.name}")
    if before_tip and before_tip != tip:
        repository.git(
            "update-ref", f"refs/patchset/before/{before_tip}", before_tip
        )  # a user's commits stay reachable
    both = f"update refs/heads/{patch_set.name} {tip}\nupdate {SERIES} {tip}\n"
    repository.git("update-ref", "--stdin", stdin=both.encode())
    index_file.unlink(missing_ok=True)
    return tip


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


def _commit_patch(repository: Repository, step: Step, parent: str) -> str:
    patch = step.patch
    try:
        repository.git("apply", "--cached", "--whitespace=nowarn", "-", stdin=patch.diff)
    except GitError as error:
        raise PatchDoesNotApply(
            f"{patch.name}: git does not apply it: {error}", patch=patch.name, hint="write the patch anew with git diff"
        ) from error
    listing = repository.git("ls-files", "-s", "-z", "--", *step.after)
    made = {row.partition("\t")[2]: row.split()[1] for row in listing.split("\0") if row}
    for path, data in step.after.items():
        if made.get(path) != (None if data is None else blob_id(data)):
            raise PatchDoesNotApply(
                f"{patch.name}: git makes another {path} of it than an exact reading does",
                patch=patch.name,
                path=path,
                hint="write the patch anew with git diff --full-index",
            )
    header = patch.header
    text = message.compose(header.subject, header.body, dict(header.fields), patch.name).render()
    return repository.commit(text, Identity(header.author, header.get("Date")), parent)


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
