# SPDX-License-Identifier: Apache-2.0
"""Files that one release has and another has under a new path."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from patchset.git import Repository

# Git's own default is 50; a file of a release may be moved and rewritten between two tags.
_ALIKE = "--find-renames=40%"
# What two files need that share no class or function: a licence and some imports make many files half alike.
_NEARLY_THE_SAME = 90
_SHARED = 0.5  # of the top-level names of either file


def find(repository: Repository, before: str, after: str, old: Path, new: Path) -> dict[str, str]:
    """New paths by old ones: where git finds the content alike, else where the same classes and functions are.

    Args:
        repository: has both commits.
        before, after: the releases as commits.
        old, new: the same as folders.
    """
    listing = repository.git("diff", "-z", "--name-status", _ALIKE, "--diff-filter=ADR", before, after)
    alike: dict[str, str] = {}
    gone: list[str] = []
    added: list[str] = []
    fields = iter(listing.split("\0"))
    for status in fields:
        match status[:1]:
            case "R":
                path, moved = next(fields), next(fields)
                if int(status[1:]) >= _NEARLY_THE_SAME or _share_a_name(old / path, new / moved):
                    alike[path] = moved
                else:
                    gone.append(path)
                    added.append(moved)
            case "D":
                gone.append(next(fields))
            case "A":
                added.append(next(fields))
    return alike | dict(_by_names(old, _python(gone), new, _python(added)))


def _python(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path.endswith(".py")]


def _by_names(old: Path, gone: Iterable[str], new: Path, added: Iterable[str]) -> Iterator[tuple[str, str]]:
    candidates = {path: _names(new / path) for path in added}
    for path in gone:
        names = _names(old / path)
        if not names:
            continue
        shared = {
            one: len(names & theirs) / len(names | theirs) for one, theirs in candidates.items() if names & theirs
        }
        best = max(shared, key=lambda one: shared[one], default=None)
        if best and shared[best] >= _SHARED:
            yield path, best


def _share_a_name(before: Path, after: Path) -> bool:
    """Whether two modules have a class or function of the same name."""
    if before.suffix != ".py" or after.suffix != ".py":
        return False
    return bool(_names(before) & _names(after))


def _names(file: Path) -> set[str]:
    """Names of the classes, their methods, and the functions of a module."""
    found: set[str] = set()
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):  # of a newer Python than this one
        return found
    for node in body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return found
