# SPDX-License-Identifier: Apache-2.0
"""The classes and functions of a Python file: where each one is, and which one a line is in."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from functools import lru_cache

from patchset.node import manifest

_KINDS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Symbol:
    """A class or function: its dotted name, and its first and last line, from 1, decorators included."""

    name: str
    first: int
    last: int


@lru_cache(maxsize=256)
def symbols(source: bytes) -> tuple[Symbol, ...]:
    """Every class and function of a Python file, outer before inner; none where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    found: list[Symbol] = []
    todo: list[tuple[str, ast.AST]] = [("", tree)]
    while todo:
        prefix, parent = todo.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, _KINDS):
                name = f"{prefix}{node.name}"
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found.append(Symbol(name, first, node.end_lineno or node.lineno))
                todo.append((f"{name}.", node))
            else:
                todo.append((prefix, node))
    return tuple(sorted(found, key=lambda symbol: (symbol.first, -symbol.last)))


def at(source: bytes | None, path: str, line: int) -> str:
    """The dotted name of the innermost class or function at a line; empty at the top of a module.

    >>> at(b"class A:\\n    def f(self):\\n        pass\\n", "a.py", 3)
    'A.f'
    """
    if source is None or not path.endswith(".py"):
        return ""
    return next((symbol.name for symbol in reversed(symbols(source)) if symbol.first <= line <= symbol.last), "")


def find(source: bytes, name: str) -> Symbol | None:
    """The symbol of that dotted name; the whole file for an empty name."""
    if not name:
        return Symbol("", 1, max(1, len(source.removesuffix(b"\n").split(b"\n"))))
    return next((symbol for symbol in symbols(source) if symbol.name == name), None)


def text(source: bytes, name: str) -> bytes | None:
    """The lines of a symbol; the whole source for an empty name, None where the module has no such symbol."""
    if not name:
        return source
    symbol = find(source, name)
    return None if symbol is None else b"".join(source.splitlines(keepends=True)[symbol.first - 1 : symbol.last])


def sha256(source: bytes, name: str) -> str | None:
    """Digest of a symbol's lines.

    >>> source = b"class A:\\n    def f(self):\\n        return 1\\n"
    >>> sha256(source, "A.f") == manifest.sha256(b"    def f(self):\\n        return 1\\n")
    True
    >>> sha256(source, "A.g") is None
    True
    """
    lines = text(source, name)
    return None if lines is None else manifest.sha256(lines)
