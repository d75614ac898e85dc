# SPDX-License-Identifier: Apache-2.0
"""A manifest: path -> sha256 of each file of a tree, in the format of sha256sum. A tree's digest is the sha256 of its
manifest's text, so two trees are equal where their digests are."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from patchset.node.errors import UsageError

Manifest = dict[str, str]

NO_FILE = "not a regular file"
MAX_MEMBERS, MAX_BYTES = 20_000, 500_000_000
"""What an archive of a release may hold and unpack to: some twenty times what upstream's do."""

_CHUNK = 1 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not be waited for
_NO_FILE = (errno.ELOOP, errno.ENXIO)  # what opening a link, and a socket, says
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return _sha256_open(stream.fileno())


def unsafe_reason(path: str) -> str:
    """Why a path must not name a file of a tree; empty where it may.

    >>> unsafe_reason("vllm_ascend/utils.py")
    ''
    >>> unsafe_reason("../etc/passwd")
    'leaves the tree'
    """
    if not path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "is not a relative path"
    if not path.isprintable() or any(character in path for character in '\\"'):
        return "has a character that no upstream file name has"
    parts = path.split("/")
    if ".." in parts:
        return "leaves the tree"
    if "" in parts or "." in parts:
        return "is not in its plain form"
    if any(part.lower() == ".git" for part in parts):
        return "lies in a .git folder"
    return ""


def parse(text: str, source: str) -> Manifest:
    """Reads sha256sum lines, sorted by path; messages name their file by `source`. Raises UsageError where a line is
    malformed, names an unsafe path, or is out of order."""
    manifest: Manifest = {}
    last = ""
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if not match:
            raise UsageError(f"{source}:{number}: not a sha256sum line: {line[:80]!r}")
        digest, path = match.groups()
        if reason := unsafe_reason(path):
            raise UsageError(f"{source}:{number}: {path!r} {reason}")
        if path <= last:
            raise UsageError(f"{source}:{number}: {path!r} is listed twice or out of order")
        manifest[path] = digest
        last = path
    return manifest


def render(manifest: Mapping[str, str]) -> str:
    """The lines that `sha256sum --check` reads, sorted by path."""
    return "".join(f"{manifest[path]}  {path}\n" for path in sorted(manifest))


def digest(manifest: Mapping[str, str]) -> str:
    return sha256(render(manifest).encode())


def measure(root: Path, paths: Iterable[str]) -> Manifest:
    """Hashes the given files of a tree: a missing file is left out, a link or folder is NO_FILE."""
    found: Manifest = {}
    for path in paths:
        try:
            file = os.open(os.path.join(root, path), _FLAGS)  # noqa: PTH118 - a Path for each of thousands is slow
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            found[path] = NO_FILE
            continue
        try:
            found[path] = _sha256_open(file) if stat.S_ISREG(os.fstat(file).st_mode) else NO_FILE
        finally:
            os.close(file)
    return found


def _sha256_open(file: int) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(file, _CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def walk(root: Path, *, skip: Iterable[str] = (".git",)) -> list[str]:
    """Paths of all files and links under a folder, sorted; folders named in `skip` are not entered."""
    skipped, paths = frozenset(skip), list[str]()
    top = len(os.path.join(root, ""))  # noqa: PTH118 - as in measure
    for folder, names, files in os.walk(root):
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118
        names[:] = [name for name in names if name not in skipped and name not in links]
        paths += [os.path.join(folder, name)[top:] for name in files + links]  # noqa: PTH118
    return sorted(paths)
