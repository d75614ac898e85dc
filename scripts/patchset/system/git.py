# SPDX-License-Identifier: Apache-2.0
"""Git, run so that nothing of the user's or the system's configuration, and no repository around, can matter."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchset.node.errors import Unavailable
from patchset.system import disk

OLDEST = "2.29.2"
"""The oldest git that all tests pass with; its commits and patches are, byte for byte, those of today's."""

_CONFIG = {
    "core.autocrlf": "false",
    "core.fileMode": "true",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.symlinks": "true",
    "core.quotePath": "false",
    "core.looseCompression": "1",
    "apply.whitespace": "nowarn",
    "mailinfo.quotedCr": "nowarn",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
_ENVIRONMENT = {
    "LC_ALL": "C",
    "TZ": "UTC",
    "HOME": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
}


class GitError(Unavailable):
    """Git refused; `said` is what it wrote to its standard error, line by line."""

    def __init__(self, command: str, said: str) -> None:
        hint = f"git {OLDEST} or newer is needed, and room on the disk"
        super().__init__(f"git {command}: {said}".replace("\n", "\n  "), hint=hint)
        self.said = said.splitlines()


@dataclass(frozen=True)
class Identity:
    """Author and committer: `Name <address>`, and a date that git understands, or empty where it knows it otherwise.
    With `committer_alone` the author is another, whom git is told otherwise."""

    person: str
    date: str
    committer_alone: bool = False

    def environment(self) -> dict[str, str]:
        """The environment variables of name, address and date for git. < and > are dropped from a name, as git does."""
        name, _, address = self.person.removesuffix(">").rpartition(" <")
        name, address = (part.translate({ord("<"): None, ord(">"): None}) for part in (name, address))
        return {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")[self.committer_alone :]
            for key, value in (("NAME", name.strip('"')), ("EMAIL", address), ("DATE", self.date))
            if value
        }


@dataclass(frozen=True)
class Repository:
    """A work tree and the repository in its .git folder."""

    root: Path  # the work tree
    index: str = "index"  # the index file to use; relative to .git
    git_dir: Path | None = None  # the repository, where it is not in the work tree
    objects: Path | None = None  # the folder of its objects, where that is another repository's

    @property
    def folder(self) -> Path:
        """The repository: objects, refs and index."""
        return self.git_dir or self.root / ".git"

    @property
    def _objects(self) -> Path:
        return self.objects or self.folder / "objects"

    def git(self, *arguments: str, stdin: bytes = b"", identity: Identity | None = None) -> str:
        """Runs git and returns what it prints, as text; raises GitError, or Unavailable where there is none."""
        return self.git_bytes(*arguments, stdin=stdin, identity=identity).decode(errors="replace")

    def git_bytes(self, *arguments: str, stdin: bytes = b"", identity: Identity | None = None) -> bytes:
        """Runs git and returns what it prints; raises as `git` does."""
        environment = {key: os.environ[key] for key in ("PATH", "TMPDIR", "LD_LIBRARY_PATH") if key in os.environ}
        environment |= _ENVIRONMENT | {
            "GIT_CEILING_DIRECTORIES": str(self.root.parent),
            "GIT_DIR": str(self.folder),
            "GIT_WORK_TREE": str(self.root),
            "GIT_INDEX_FILE": str(self.folder / self.index),
            "GIT_OBJECT_DIRECTORY": str(self._objects),
        }
        environment |= identity.environment() if identity else {}
        command = ["git", *(word for key, value in _CONFIG.items() for word in ("-c", f"{key}={value}")), *arguments]
        how: dict[str, Any] = {"env": environment, "umask": 0o022}  # of what git writes into a work tree
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, cwd=self.root, check=False, **how)
        except FileNotFoundError:
            raise Unavailable("git is not on PATH", hint="install git") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
            raise GitError(next((word for word in arguments if not word.startswith("-") and "=" not in word), ""), said)
        output: bytes = done.stdout
        return output

    def init(self, branch: str) -> None:
        """Makes the repository where there is none; upstream's attributes never change a byte."""
        if (self.folder / "HEAD").is_file():
            return
        for name in ("objects", "refs/heads"):  # all that a repository needs, without a process
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        info = self.folder / "info"
        info.mkdir(exist_ok=True)
        attributes = "* -text -filter -ident -working-tree-encoding !diff !merge !whitespace !conflict-marker-size\n"
        (info / "attributes").write_text(attributes, encoding="utf-8")
        (info / "exclude").write_text("__pycache__/\n*.pyc\n*.so\n_build_info.py\n", encoding="utf-8")
        # A line of a commit's message may begin with #.
        config = '[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tcommentChar = ";"\n'
        (self.folder / "config").write_text(config, encoding="utf-8")
        (self.folder / "HEAD").write_text(f"ref: refs/heads/{branch}\n", encoding="utf-8")

    def version(self) -> tuple[int, ...]:
        words = self.git("version").split()[2].split(".")
        return tuple(int(word) for word in words[:2])

    def unlock(self) -> None:
        """Removes the lock files of a git that was killed with an interrupted run; called by the next run only."""
        for file in self.folder.rglob("*.lock"):
            file.unlink()

    def stage(self, files: Mapping[str, bytes], executable: frozenset[str] = frozenset()) -> None:
        """Puts content into the index, whatever the work tree holds."""
        if not files:
            return
        with tempfile.TemporaryDirectory(prefix="patchset-") as folder:
            for path, data in files.items():
                file = Path(folder) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                with disk.naming(file):
                    file.write_bytes(data)
                file.chmod(0o755 if path in executable else 0o644)
            place = Repository(Path(folder), self.index, self.folder, self._objects)
            place.git("add", "--force", "--ignore-removal", ".")

    def ref(self, name: str) -> str | None:
        """The commit that a ref names, or None."""
        try:
            return self.git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
        except GitError:
            return None

    def commit(self, message: str, identity: Identity, parent: str | None) -> str:
        tree = self.git("write-tree").strip()
        parents = ("-p", parent) if parent else ()
        return self.git("commit-tree", tree, *parents, stdin=message.encode(), identity=identity).strip()

    def commit_index(self, message: str, identity: Identity) -> None:
        """Commits the index to the branch that is checked out."""
        options = ("--quiet", "--no-verify", "--allow-empty", "--cleanup=verbatim", "--file=-")
        self.git("commit", *options, stdin=message.encode(), identity=identity)

    def files(self, commit: str, *folders: str) -> dict[str, str]:
        """Git's id of each file of a commit, by path; of the files and folders that are named, where some are."""
        rows = self.git("ls-tree", "-r", "-z", "--full-tree", commit, "--", *folders).split("\0")
        entries = (row.partition("\t") for row in rows if row)
        return {path: fields.split()[2] for fields, _, path in entries if fields.split()[1] == "blob"}

    def blobs(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Contents by their ids, with one git process."""
        wanted = sorted(set(ids))
        said = self.git_bytes("cat-file", "--batch", stdin="".join(f"{name}\n" for name in wanted).encode())
        found, at = {}, 0
        for name in wanted:
            end = said.index(b"\n", at)
            size = int(said[at:end].split()[2])
            found[name] = said[end + 1 : end + 1 + size]
            at = end + size + 2
        return found


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
