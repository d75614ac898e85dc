# SPDX-License-Identifier: Apache-2.0
"""The one form of a patch file: a function of a commit alone, so that no tool's version or setting shows in it.

An mbox line with a zero commit id, the header's fields in their order, why and how, `---`, the diff with full object
ids, and no signature.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from patchset import header
from patchset.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from patchset.git import Repository

# All that a setting or an attribute could change, said outright.
_DIFF = (
    "--patch",
    "--full-index",
    "--no-renames",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--indent-heuristic",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--no-relative",
    "--ignore-submodules=none",
)
_SIGNATURE = re.compile(rb"\n-- ?\n[^\n]*\n+\Z")
_ABBREVIATED = re.compile(r"index ([0-9a-f]{4,40})\.\.([0-9a-f]{4,40})( 100644| 100755)?")


def diff(repository: Repository, before: str, after: str) -> bytes:
    """The diff between two commits or trees, as a patch file has it."""
    return repository.git_bytes("diff-tree", "-r", *_DIFF, before, after)


def render(fields: Iterable[tuple[str, str]], body: str, diff: bytes) -> bytes:
    """A patch file.

    Args:
        fields: the header's, From, Date and Subject among them; each name once.
        body: why and how.
        diff: of `diff`.
    """
    return header.render(dict(fields), body).encode() + diff


def relax(data: bytes) -> bytes:
    """What `patchfile.parse` can read of a patch that a mail or git format-patch brought.

    A signature, a diffstat and an mbox line are taken away, and abbreviated object ids filled up with zeros: they are
    in no canonical patch, and nothing of the change is in them. What is not UTF-8 is left as it is.
    """
    data = _SIGNATURE.sub(b"\n", data)
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        return data
    if "---" not in lines:
        return data
    rule = lines.index("---") + 1
    first = next((at for at in range(rule, len(lines)) if lines[at].startswith("diff --git ")), rule)
    stat = lines[rule:first]
    if any(line[:1] in ("@", "+", "-", "\\") for line in stat):
        return data  # no diffstat: for the parser to refuse
    rest = (_ABBREVIATED.sub(_fill, line) if line.startswith("index ") else line for line in lines[first:])
    return "\n".join([*lines[:rule], *rest]).encode()


def with_fields(data: bytes, fields: Mapping[str, str]) -> bytes:
    """A patch file whose header has these fields, in place of its own of the same names.

    Raises:
        UsageError: a field is not known.
    """
    if unknown := sorted(fields.keys() - set(header.FIELDS)):
        raise UsageError(f"{unknown[0]} is no field of a header", hint=f"fields: {', '.join(header.FIELDS)}")
    head, empty, rest = data.partition(b"\n\n")
    kept, dropping = [], False
    for line in head.split(b"\n"):
        folded = line[:1] in (b" ", b"\t")
        dropping = dropping if folded else line.partition(b":")[0].decode(errors="replace") in fields
        if not dropping:
            kept.append(line)
    kept += [f"{name}: {value}".encode() for name, value in fields.items()]
    return b"\n".join(kept) + empty + rest


def _fill(match: re.Match[str]) -> str:
    return f"index {match[1]:0<40}..{match[2]:0<40}{match[3] or ''}"
