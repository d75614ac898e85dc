# SPDX-License-Identifier: Apache-2.0
"""Upstream's commits that changed the lines which a patch changes, from a clone of upstream that has both releases."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from patchset.node.errors import UsageError
from patchset.sets.patchfile import Patch
from patchset.system.git import GitError, Repository

_MOST = 8  # commits that are told of one file


def repository(folder: Path, releases: Iterable[str]) -> Repository:
    """The clone; raises UsageError where it is none, or lacks one of the commits."""
    found = Repository(folder, git_dir=folder / ".git" if (folder / ".git").exists() else folder)
    for commit in releases:
        if not commit or found.ref(commit) is None:
            raise UsageError(
                f"{folder} does not have commit {commit or '(none)'} of a release",
                hint="HISTORY is a clone of vllm-ascend; COMMIT names the new release's commit",
            )
    return found


def of(clone: Repository, patch: Patch, path: str, old: str, new: str) -> tuple[str, ...]:
    """Upstream's commits that changed or removed the old lines of a patch in a file: short ids and subjects.

    `old` and `new` are the commits of the two releases.
    """
    found: dict[str, None] = {}
    for hunk in (hunk for file in patch.lines if file.path == path for hunk in file):
        span = f"{hunk.source_start},+{max(hunk.source_length, 1)}"
        try:
            text = clone.git("blame", "--reverse", "-s", "-l", "--abbrev=40", "-L", span, f"{old}..{new}", "--", path)
        except GitError:
            continue  # the file has other lines there: the patch is not the first one to change it
        for last in dict.fromkeys(line.split()[0].lstrip("^") for line in text.splitlines()):
            after = clone.git(
                "log", "--reverse", "--ancestry-path", "--format=%h %s", f"{last}..{new}", "--", path
            ).splitlines()
            if after:
                found.setdefault(after[0])
    return tuple(found)[:_MOST]
