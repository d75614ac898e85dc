# SPDX-License-Identifier: Apache-2.0
"""A set as git commits: pristine upstream, one commit for the overlay, one per patch. Git makes and reads all of them.

A patch file is good if `git am` applies it to its pinned base and `git format-patch` of the result gives the same
bytes. That rule sees a hunk that is miscounted, moved or torn, a lost line, a path or a mode that lies, and text that
git drops; what git says by its exit code proves nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from patchset.node.errors import PatchDoesNotApply
from patchset.node.manifest import unsafe_reason
from patchset.plan import misfit
from patchset.sets import patchfile
from patchset.sets.patchfile import Patch
from patchset.sets.setfile import PatchSet
from patchset.system.git import GitError, Identity, Repository

PERSON = "patchset <patchset@noreply.invalid>"
NOBODY = Identity(PERSON, "2000-01-01T00:00:00+0000")
_NONE = "0" * 40
_MODES = ("000000", "100644", "100755")
_AM = (
    "am --quiet --patch-format=mbox --keep-cr --keep-non-patch --no-scissors --no-3way --no-message-id --no-gpg-sign "
    "--committer-date-is-author-date --whitespace=nowarn"
)
# All that a setting or an attribute could change, said outright.
DIFF = (
    "--full-index --no-renames --unified=3 --inter-hunk-context=0 --diff-algorithm=myers --indent-heuristic "
    "--src-prefix=a/ --dst-prefix=b/ --no-color --no-ext-diff --no-textconv --no-relative --ignore-submodules=none"
)
_FORMAT = ("--keep-subject", "--no-stat", "--no-signature", "--zero-commit", "--no-encode-email-headers", "--no-notes")


@dataclass(frozen=True)
class File:
    path: str  # in the tree, with slashes
    # Git's ids of the contents; all zeros where there is none.
    before: str
    after: str
    modes: tuple[str, str]  # before and after, as git has them

    @property
    def executable(self) -> bool:
        return self.modes[1] == "100755"


@dataclass(frozen=True)
class Commit:
    id: str
    parents: tuple[str, ...]
    author: Identity  # who, and when
    text: str  # the whole message
    files: tuple[File, ...]  # what it does to each

    @property
    def subject(self) -> str:
        """The first paragraph, on one line."""
        return " ".join(self.text.strip("\n").partition("\n\n")[0].split())

    @property
    def title(self) -> str:
        return f"commit {self.id[:10]} ({self.subject})"


@contextmanager
def scratch(objects: Path | None = None) -> Iterator[Repository]:
    """A repository for one `with` block; its work tree is empty, and git takes the files to patch from the index. The
    commits are made in `objects`, where that names the object folder of another repository."""
    with tempfile.TemporaryDirectory(prefix="patchset-") as folder:
        root = Path(folder) / "tree"
        root.mkdir()
        repository = Repository(root, git_dir=Path(folder) / "git", objects=objects)
        repository.init("scratch")
        yield repository


def apply(repository: Repository, base: str, patches: Sequence[Patch]) -> tuple[Commit, ...]:
    """Lets git apply patches to a commit of a `scratch` repository, one commit each; HEAD is the last one then. Raises
    PatchDoesNotApply: git refuses one, or takes one for another number of patches; it says where the lines fit."""
    repository.git("update-ref", "--no-deref", "HEAD", base)
    repository.git("read-tree", base)
    for leftover in repository.root.iterdir():  # of earlier patches: git takes no new file over one
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    am(repository, patches)
    made = log(repository, base, "HEAD")
    if len(made) != len(patches):
        text = f"git reads {len(made)} patches in the {len(patches)} of the series"
        raise PatchDoesNotApply(text, patch="series", hint="a line of a message begins with `From `; word it otherwise")
    return made


def am(repository: Repository, patches: Sequence[Patch]) -> None:
    """Lets git apply patches to HEAD, which the index holds; raises PatchDoesNotApply where git refuses one."""
    if not patches:
        return
    mails = b"".join(patch.data for patch in patches)
    try:
        repository.git(*_AM.split(), stdin=mails, identity=Identity(PERSON, "", committer_alone=True))
    except GitError as error:
        raise _refused(repository, patches, error) from error


def _refused(repository: Repository, patches: Sequence[Patch], error: GitError) -> PatchDoesNotApply:
    """What is wrong with the patch that `git am` has stopped at, or with one before it."""
    stopped = repository.folder / "rebase-apply" / "next"
    number = int(stopped.read_text()) if stopped.is_file() else 0
    if not 0 < number <= len(patches):
        return _not_applied("series", error)
    patch = patches[number - 1]
    if before := log(repository, base := f"HEAD~{number - 1}", "HEAD"):
        try:
            refuse_lies(repository, base, patches[: number - 1], before)
        except PatchDoesNotApply as lie:
            return lie
    return _misfit(repository, "HEAD", patch) or _not_applied(patch.name, error)


def refused(repository: Repository, commit: str, name: str, data: bytes, error: GitError) -> PatchDoesNotApply:
    """What is wrong with a file that git does not apply to a commit as a patch."""
    try:
        patch = patchfile.parse(name, data)
    except PatchDoesNotApply as malformed:
        return malformed
    return _misfit(repository, commit, patch) or _not_applied(name, error)


def _not_applied(name: str, error: GitError) -> PatchDoesNotApply:
    said = "; ".join(line.removeprefix("error: ") for line in error.said if not line.startswith("hint: "))
    hint = "mend its lines, then make fmt; or make the change in the tree and export it"
    return PatchDoesNotApply(f"{name}: git does not apply it: {said}", patch=name, hint=hint)


def _misfit(repository: Repository, commit: str, patch: Patch) -> PatchDoesNotApply | None:
    """Where a patch does not fit the files of a commit at its very lines; None where unidiff sees no such place."""

    def read(path: str) -> bytes | None:
        try:
            return repository.git_bytes("cat-file", "blob", f"{commit}:{path}")
        except GitError:
            return None

    try:
        return misfit.find(patch, read)
    except PatchDoesNotApply:
        return None


def refuse_lies(repository: Repository, base: str, patches: Sequence[Patch], made: Sequence[Commit]) -> None:
    """Raises PatchDoesNotApply unless git format-patch of each commit gives the patch file's exact bytes."""
    before = base
    for patch, wanted, commit in zip(patches, format_patches(repository, base), made, strict=True):
        refuse_odd(patch.name, commit)
        if patch.data != wanted:
            raise _misfit(repository, before, patch) or difference(patch.name, wanted, patch.data)
        before = commit.id


def refuse_odd(name: str, commit: Commit) -> None:
    """Raises PatchDoesNotApply where a commit makes a link or changes a mode, or a path is no path of a tree."""
    for file in commit.files:
        reason = unsafe_reason(file.path)
        if not reason and not {*file.modes} <= {*_MODES}:
            reason = f"has mode {' to '.join(file.modes)}: only plain files are supported"
        elif not reason and _NONE not in (file.before, file.after) and file.modes[0] != file.modes[1]:
            reason = f"has another mode ({' to '.join(file.modes)}): a mode change is not supported"
        if reason:
            hint = "take that out of the patch"
            raise PatchDoesNotApply(f"{name}: {file.path!r} {reason}", patch=name, path=file.path, hint=hint)


def difference(name: str, wanted: bytes, found: bytes) -> PatchDoesNotApply:
    """The error for a patch file that git would write otherwise, at the first line that differs."""
    rows = zip_longest(wanted.split(b"\n"), found.split(b"\n"))
    line, (git, ours) = next((number, row) for number, row in enumerate(rows, start=1) if row[0] != row[1])
    git_says, file_says = (repr(row.decode(errors="replace")[:120]) if row else "no more" for row in (git, ours))
    text = f"{name}:{line}: not what git makes of this patch\n  the file: {file_says}\n  git:      {git_says}"
    hint = "make fmt writes the patch as git does; was a hunk edited by hand, look at what it changes"
    return PatchDoesNotApply(text, patch=name, hint=hint)


def format_patches(repository: Repository, base: str, tip: str = "HEAD") -> list[bytes]:
    """The patch file of each commit between two, as `git format-patch` writes it whatever its version and settings."""
    with tempfile.TemporaryDirectory(prefix="patchset-") as folder:
        where = ("--numbered-files", "--output-directory", folder)
        repository.git("format-patch", *_FORMAT, *DIFF.split(), *where, f"{base}..{tip}")
        names = sorted((file.name for file in Path(folder).iterdir()), key=int)
        return [(Path(folder) / name).read_bytes() for name in names]


def log(repository: Repository, base: str, tip: str) -> tuple[Commit, ...]:
    """The commits after `base` up to `tip`, the first one first."""
    options = ("-z", "--reverse", "--topo-order", "--encoding=UTF-8", "--no-show-signature", "--no-color", "--date=raw")
    raw = ("--raw", "--no-abbrev", "--no-renames", "--ignore-submodules=none")
    said = repository.git("log", *options, *raw, "--format=commit%n%H %P%n%an <%ae>%n@%ad%n%B", f"{base}..{tip}")
    found: list[Commit] = []
    fields = iter(said.split("\0"))
    for field in fields:
        row = field.lstrip("\n")
        if row.startswith("commit\n"):
            _, ids, person, date, text = row.split("\n", 4)
            identifier, *parents = ids.split()
            found.append(Commit(identifier, tuple(parents), Identity(person, date), text, ()))
        elif row:
            before, after, *blobs = row[1:].split()[:4]
            file = File(next(fields), blobs[0], blobs[1], (before, after))
            found[-1] = replace(found[-1], files=(*found[-1].files, file))
    return tuple(found)


def contents(repository: Repository, commits: Sequence[Commit]) -> dict[str, bytes]:
    """The content of every file after each commit, by git's id."""
    return repository.blobs({file.after for commit in commits for file in commit.files} - {_NONE})


def upstream_message(patch_set: PatchSet) -> str:
    release = patch_set.ascend
    commit = f"\n\nTag v{release.version}, commit {release.commit}." if release.commit else ""
    sdist = f"sha256 of {release.sdist.file}: {release.sdist.sha256}"
    return f"vllm-ascend {release.version} as released{commit}\n\n{sdist}\n"


def identity(patch_set: PatchSet) -> Identity:
    """Who makes the commits that no author has made: upstream's and the overlay's, on the day of the release."""
    released = patch_set.ascend.released
    return Identity(PERSON, f"{released.isoformat()}T00:00:00+0000") if released else NOBODY
