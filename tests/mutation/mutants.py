# SPDX-License-Identifier: Apache-2.0
"""The mutants of a module, and what became of each, as mutmut left them in its folder."""

from __future__ import annotations

import ast
import copy
import difflib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from patchset.errors import Findings

if TYPE_CHECKING:
    from pathlib import Path

_PROSE = re.compile(r"[A-Za-z]+[,:;`'\")]* [`'\"(]*[A-Za-z]+")  # two words, with a space and punctuation in between


class Fate(StrEnum):
    """What the tests made of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"


# mutmut keeps pytest's exit code: 0 passed, 1 failed, 3 internal error; 5 and its own 33: no test runs the function.
_FATES = {
    0: Fate.SURVIVED,
    1: Fate.KILLED,
    3: Fate.KILLED,
    5: Fate.SURVIVED,
    33: Fate.SURVIVED,
    **dict.fromkeys((-24, 24, 36, 152, 255), Fate.TIMED_OUT),
}


@dataclass(frozen=True)
class Change:
    """What a mutant changed.

    Attributes:
        place: module and function: `exact.apply`, `textdiff._Reader.hunk`.
        was, now: the lines that differ, without white space around them.
    """

    place: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.place}: {self.was}  ->  {self.now}"


@dataclass(frozen=True)
class Mutant:
    """One mutant.

    Attributes:
        name: mutmut's, for `mutmut show`.
        fate: what the tests made of it.
    """

    name: str
    change: Change
    fate: Fate


def read(folder: Path, module: str) -> list[Mutant]:
    """The mutants of a module that change more than wording.

    Args:
        folder: where mutmut ran.
        module: of the package, with dots: `wheels.entry`.

    Raises:
        Findings: a mutant was not tried, or broke the run.
    """
    file = folder / "mutants" / "src" / "patchset" / f"{module.replace('.', '/')}.py"
    codes: dict[str, int | None] = json.loads(file.with_name(f"{file.name}.meta").read_text())["exit_code_by_key"]
    text = file.read_text()
    lines = text.splitlines()
    functions = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    mutants = []
    for name, code in codes.items():
        mangled = name.rpartition(".")[2]
        original, mutant = functions[f"{mangled.partition('__mutmut_')[0]}__mutmut_orig"], functions[mangled]
        if is_wording(original, mutant):
            continue
        if code not in _FATES:
            raise Findings(f"mutmut did not get through {name}: exit code {code}", hint=f"read {folder / 'mutmut.log'}")
        was, now = _differing(_source(lines, original), _source(lines, mutant))
        mutants.append(Mutant(name, Change(f"{module}.{_plain(mangled)}", was, now), _FATES[code]))
    return mutants


def is_wording(original: ast.FunctionDef, mutant: ast.FunctionDef) -> bool:
    """Whether a mutant says the same in other words: it changes nothing but prose and hints.

    Prose is a string with two words in a row, or an f-string with them: what it is made of is for people, too. A hint
    is an argument of that name.
    """
    return _without_prose(original) == _without_prose(mutant)


def _without_prose(function: ast.FunctionDef) -> str:
    parts = [function.args, *function.body]
    return "\n".join(ast.dump(_Wording().visit(copy.deepcopy(part))) for part in parts)


class _Wording(ast.NodeTransformer):
    """Makes all prose alike, and strikes hints."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if isinstance(node.value, str) and _PROSE.search(node.value) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        texts = [str(part.value) if isinstance(part, ast.Constant) else "it" for part in node.values]
        return ast.Constant("") if _PROSE.search("".join(texts)) else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [word for word in node.keywords if word.arg != "hint"]
        return self.generic_visit(node)


def _source(lines: list[str], function: ast.FunctionDef) -> list[str]:
    """The lines of a function, without the name that mutmut gave it."""
    first, *rest = lines[function.lineno - 1 : function.end_lineno]
    return [line.strip() for line in (first.replace(function.name, ""), *rest)]


def _differing(before: list[str], after: list[str]) -> tuple[str, str]:
    blocks = difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes()
    changed = [block for block in blocks if block[0] != "equal"]
    return (
        " ".join(line for _, begin, end, _, _ in changed for line in before[begin:end]),
        " ".join(line for _, _, _, begin, end in changed for line in after[begin:end]),
    )


def _plain(mangled: str) -> str:
    """`x_apply__mutmut_1` is of `apply`, `x\u01c1Reader\u01c1hunk__mutmut_1` of `Reader.hunk`."""
    name = mangled.partition("__mutmut_")[0]
    return name.removeprefix("x_") if name.startswith("x_") else name.removeprefix("x\u01c1").replace("\u01c1", ".")
