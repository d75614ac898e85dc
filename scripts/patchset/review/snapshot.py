# SPDX-License-Identifier: Apache-2.0
"""Files of this repository as they were in a commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from patchset.node.errors import UsageError
from patchset.system import paths
from patchset.system.git import Repository


def repository() -> Repository | None:
    """This repository's git, or None where it is no git checkout."""
    root = paths.repo_root()
    return Repository(root) if (root / ".git").exists() else None


def commit(repository: Repository, ref: str) -> str:
    """The id of the commit that a ref names.

    Raises:
        UsageError: it names none.
    """
    found = None if ref.startswith("-") else repository.ref(ref)
    if found is None:
        raise UsageError(
            f"{ref!r} is neither a set in patches/, nor a folder with a set.toml, nor a commit of this repository",
            hint="git log --oneline -- patches/ lists the commits that changed a set",
        )
    return found


def listing(repository: Repository, commit: str, folders: Iterable[str]) -> dict[str, str]:
    """Blob ids by path of the files below some folders."""
    rows = repository.git("ls-tree", "-r", "-z", "--full-tree", commit, "--", *folders).split("\0")
    parts = [row.partition("\t") for row in rows if row]
    return {path: meta.split()[2] for meta, _, path in parts if meta.split()[1] == "blob"}


def blobs(repository: Repository, ids: Iterable[str]) -> dict[str, bytes]:
    """The contents of blobs, read by one process."""
    wanted = sorted(set(ids))
    output = repository.git_bytes("cat-file", "--batch", stdin="".join(f"{name}\n" for name in wanted).encode())
    return dict(_batch(output))


def _batch(output: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(output):
        end = output.index(b"\n", at)
        name, _, size = output[at:end].decode().split()
        yield name, output[end + 1 : end + 1 + int(size)]
        at = end + 2 + int(size)
