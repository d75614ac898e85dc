# SPDX-License-Identifier: Apache-2.0
"""The commits of a build tree, read as patches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchset import header, message, patchfile
from patchset.authoring import canonical
from patchset.errors import PatchDoesNotApply, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from patchset.git import Repository
    from patchset.message import Message

_FORMAT = "%H%x00%P%x00%an%x00%ae%x00%aD%x00%B"
_NUMBER = re.compile(r"(\d{4})-")
_SHORT = 7  # digits of an id that git shows
_PATCH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.patch")


@dataclass(frozen=True)
class Commit:
    """One commit between upstream and the tip.

    Attributes:
        id, parent: of git, 40 hex digits.
        author: `Name <address>`.
        date: the author's, as a mail has it.
        message: what it says.
    """

    id: str
    parent: str
    author: str
    date: str
    message: Message

    @property
    def title(self) -> str:
        """For messages: the short id and the subject."""
        return f"{self.id[:10]} ({self.message.subject})"


def read(repository: Repository, base: str, tip: str) -> tuple[Commit, ...]:
    """The commits after `base` up to `tip`, the first one first.

    Raises:
        UsageError: `tip` does not come after `base`, or there is a merge on the way.
    """
    options = ("-z", "--reverse", "--topo-order", "--encoding=UTF-8", "--no-show-signature", "--no-color")
    listing = repository.git_bytes("log", *options, f"--format={_FORMAT}", f"{base}..{tip}")
    found = []
    for record in _records(listing):
        identifier, parents, name, address, date, text = record
        if len(parents.split()) != 1:
            raise UsageError(
                f"commit {identifier[:10]} is a merge; a series is one commit after the other",
                hint="git rebase makes it a line",
            )
        found.append(Commit(identifier, parents, header.mailbox(name, address), date, message.parse(text)))
    if found and found[0].parent != repository.ref(base):
        raise UsageError(f"{tip} is not made from {base}", hint=f"git rebase --onto {base} brings the commits there")
    return tuple(found)


def _records(listing: bytes) -> Iterable[list[str]]:
    """Splits what git log printed: six fields a record, and no message has a zero byte."""
    parts = listing.decode(errors="replace").split("\0")
    for at in range(0, len(parts) - 5, 6):
        yield parts[at : at + 6]


def without_overlay(
    repository: Repository, commits: Iterable[Commit], overlay: Mapping[str, frozenset[str]]
) -> tuple[Commit, ...]:
    """The commits but those that only install overlay modules.

    Args:
        repository: theirs.
        commits: in their order.
        overlay: git's ids of the contents that each overlay module has or had, by path.

    Raises:
        UsageError: a commit changes a module of the overlay itself; that is done in overlay/.
    """
    kept = []
    for commit in commits:
        found = after(repository, commit)
        ours = {path for path in found if path in overlay}
        foreign = sorted(path for path in ours if found[path] not in overlay[path])
        if foreign or (ours and ours != found.keys()):
            path = foreign[0] if foreign else sorted(ours)[0]
            raise UsageError(
                f"commit {commit.title} changes {path}, which the overlay installs",
                hint="make that change in overlay/, take it out of the commit (git rebase -i), then export again",
            )
        if not ours:
            kept.append(commit)
    return tuple(kept)


def after(repository: Repository, commit: Commit) -> dict[str, str]:
    """Git's id of each file that a commit changes, after it; zeros for one that it deletes."""
    rows = repository.git("diff-tree", "-r", "-z", "--no-renames", commit.parent, commit.id).split("\0")
    return {path: row.split()[3] for row, path in zip(rows[::2], rows[1::2], strict=False)}


def patches(repository: Repository, commits: Iterable[Commit]) -> dict[str, bytes]:
    """Each commit as a canonical patch file, by file name, in their order.

    A commit with a `Patch:` trailer keeps that name; another one gets the next number and its subject.

    Raises:
        PatchDoesNotApply: a commit lacks a header field, or has what a patch must not (a rename, a mode, a binary).
        UsageError: two commits are one patch, a name is none, or a commit is waiting to be squashed.
    """
    commits = tuple(commits)
    numbers = [int(match[1]) for commit in commits if (match := _NUMBER.match(commit.message.patch))]
    last = max(numbers, default=0)
    files: dict[str, bytes] = {}
    origin: dict[str, Commit] = {}
    for commit in commits:
        if commit.message.subject.startswith(("fixup! ", "squash! ", "amend! ")):
            raise UsageError(
                f"commit {commit.title} waits to be squashed", hint="git rebase -i --autosquash upstream, then export"
            )
        name = commit.message.patch
        if not name:
            last += 1
            name = f"{last:04d}-{slug(commit.message.subject)}.patch"
        if not _PATCH_NAME.fullmatch(name):
            raise UsageError(f"commit {commit.title}: `Patch: {name}` is no file name of a patch")
        if name in files:
            raise UsageError(
                f"commits {origin[name].title} and {commit.title} are both {name}",
                hint="squash them, or take the `Patch:` trailer out of one (git commit --amend): it gets its own name",
            )
        files[name] = patch(repository, commit, name)
        origin[name] = commit
    return files


def patch(repository: Repository, commit: Commit, name: str) -> bytes:
    """One commit as a canonical patch file.

    Raises:
        PatchDoesNotApply: a header field is missing or malformed, or the diff is not what a patch may have.
    """
    diff = canonical.diff(repository, commit.parent, commit.id)
    if not diff:
        raise PatchDoesNotApply(
            f"commit {commit.title} changes nothing", patch=name, hint="patchset drop, or commit a change"
        )
    fields = [
        ("From", commit.author),
        ("Date", commit.date),
        ("Subject", commit.message.subject),
        *commit.message.fields,
    ]
    names = [field for field, _ in fields]
    twice = next((field for field in names if names.count(field) > 1), "")
    if twice:
        raise _refused(commit, name, f"the trailer {twice} is there twice")
    if "---" in commit.message.body.split("\n"):
        raise _refused(commit, name, "a line `---` in the message would end the header")
    data = canonical.render(fields, commit.message.body, diff)
    try:
        patchfile.parse(name, data)
    except PatchDoesNotApply as error:
        raise _refused(commit, name, error.message) from error
    return data


def _refused(commit: Commit, name: str, why: str) -> PatchDoesNotApply:
    return PatchDoesNotApply(
        f"commit {commit.title} is no patch yet: {why}",
        patch=name,
        hint="mend the commit: its trailers are the header's fields (git commit --amend, git rebase -i)",
    )


def find(series: Iterable[Commit], name: str) -> Commit:
    """The commit of a patch: by its file name, with or without the ending, its number, or the commit's id.

    Raises:
        UsageError: there is none, or more than one.
    """
    rows = tuple(series)
    number = f"{int(name):04d}-" if name.isdecimal() else ""
    found = [
        row
        for row in rows
        if row.message.patch in (name, f"{name}.patch")
        or (number and row.message.patch.startswith(number))
        or (len(name) >= _SHORT and row.id.startswith(name))
    ]
    if len(found) != 1:
        names = "".join(f"\n  {row.message.patch or row.title}" for row in rows)
        why = "more than one patch is" if found else "no patch of the tree is"
        raise UsageError(f"{why} {name}; there are{names}", hint="give the whole name")
    return found[0]


def next_name(series: Iterable[Commit], subject: str) -> str:
    """A file name for a patch after the others."""
    numbers = [int(match[1]) for row in series if (match := _NUMBER.match(row.message.patch))]
    return f"{max(numbers, default=0) + 1:04d}-{slug(subject)}.patch"


def slug(subject: str) -> str:
    """A subject as part of a file name.

    >>> slug("Idle ranks' replay: the graph (D4)")
    'idle-ranks-replay-the-graph-d4'
    """
    words = re.sub(r"[^a-z0-9]+", "-", subject.replace("'", "").lower())
    return words[:52].strip("-") or "patch"
