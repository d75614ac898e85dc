# SPDX-License-Identifier: Apache-2.0
"""A stream for `git fast-import`: many commits with one process. Its format is in git-fast-import(1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from patchset.git import Identity


class FastImport:
    """Commits in a row on a ref, whose blobs the repository has already.

    Args:
        ref: the ref that ends at the last commit.
        parent: id of the commit before the first.
    """

    def __init__(self, ref: str, parent: str) -> None:
        self.ref, self.parent = ref, parent
        self.count = 0
        self._lines: list[bytes] = []

    def commit(self, identity: Identity, date: datetime, message: str) -> None:
        """Begins a commit; `change` says what it does.

        Args:
            identity: author and committer.
            date: with a time zone, to the second.
            message: all of it.
        """
        self.count += 1
        author = identity.environment()
        who = f"{author['GIT_AUTHOR_NAME']} <{author['GIT_AUTHOR_EMAIL']}> {int(date.timestamp())} {date:%z}"
        text = message.encode()
        head = f"commit {self.ref}\nmark :{self.count}\nauthor {who}\ncommitter {who}\ndata {len(text)}\n"
        before = f"from {self.parent}\n" if self.count == 1 else ""
        self._lines += [head.encode(), text, f"\n{before}".encode()]

    def change(self, path: str, blob: str | None, mode: str) -> None:
        """One file of the commit: its blob's id and mode, None where the commit deletes it.

        Args:
            path: without a newline, and not beginning with a quote, as no path of a patch does.
        """
        self._lines.append(f"D {path}\n".encode() if blob is None else f"M {mode} {blob} {path}\n".encode())

    @property
    def stream(self) -> bytes:
        """The whole stream; git prints the last commit's id."""
        last = f"get-mark :{self.count}\n" if self.count else ""
        reset = f"reset {self.ref}\nfrom {self.parent}\n\n"
        return b"".join([reset.encode(), *self._lines, f"{last}done\n".encode()])
