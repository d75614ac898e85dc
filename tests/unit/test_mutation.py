# SPDX-License-Identifier: Apache-2.0
"""`make mutate`: what counts as a mutant, what is said of the survivors, and a run of mutmut on a tiny module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mutation import mutants, parts, report
from mutation.__main__ import run
from mutation.mutants import Change, Fate, Mutant
from patchset.errors import Findings, UsageError
from patchset.terminal import Terminal


def function(text: str, parameters: str = "") -> ast.FunctionDef:
    (parsed,) = ast.parse(f"def f({parameters}):\n    {text}").body
    assert isinstance(parsed, ast.FunctionDef)
    return parsed


@pytest.mark.parametrize(
    ("original", "mutant"),
    [
        ('raise Bad("no such file")', 'raise Bad("XXno such fileXX")'),
        ('raise Bad("no such file", a)', 'raise Bad("NO SUCH FILE", a)'),
        ('raise Bad(f"{a} is not there: {len(b) - 1}")', 'raise Bad(f"{a} is not there: {len(b) + 1}")'),
        ('raise Bad(f"expected `{a}`, found {b[:60]!r}")', 'raise Bad(f"expected `{a}`, found {b[:61]!r}")'),
        ('raise Bad(a, hint="reinstall")', 'raise Bad(a, hint="XXreinstallXX")'),
        ('raise Bad(a, hint="reinstall")', "raise Bad(a, hint=None)"),
        ('raise Bad(a, hint="reinstall")', "raise Bad(a)"),
    ],
)
def test_a_mutant_of_words_alone_is_wording(original: str, mutant: str) -> None:
    assert mutants.is_wording(function(original), function(mutant))


@pytest.mark.parametrize(
    ("original", "mutant"),
    [
        ('raise Bad("no such file")', "raise Bad(None)"),
        ('raise Bad("no such file", line + 1)', 'raise Bad("no such file", line + 2)'),
        ('if line.startswith("diff --git "): pass', 'if line.startswith("XXdiff --git XX"): pass'),
        ('if mode == "new": pass', 'if mode == "NEW": pass'),
        ('path = f"{info}/RECORD"', 'path = f"{None}/RECORD"'),
        ('data = b"Version: of it"', 'data = b"VERSION: OF IT"'),
        ('a = "one word" if b else c', 'a = "one word" if b or True else c'),
    ],
)
def test_any_other_mutant_counts(original: str, mutant: str) -> None:
    assert not mutants.is_wording(function(original), function(mutant))


def test_a_mutant_of_a_default_counts() -> None:
    assert not mutants.is_wording(function("pass", "a=1"), function("pass", "a=2"))


GENERATED = """\
def x_half__mutmut_orig(
    value
):
    if value < 0:
        raise ValueError("is below zero")
    return value // 2
def x_half__mutmut_1(
    value
):
    if value <= 0:
        raise ValueError("is below zero")
    return value // 2
def x_half__mutmut_2(
    value
):
    if value < 0:
        raise ValueError("IS BELOW ZERO")
    return value // 2
def x_twice__mutmut_orig(value, times=2):
    return value * times
def x_twice__mutmut_1(value, times=3):
    return value * times
class Sum:
    def x\u01c1Sum\u01c1_add__mutmut_orig(self, value):
        self.value += value
        return value
    def x\u01c1Sum\u01c1_add__mutmut_1(self, value):
        self.value -= value
        return value
"""


def left(folder: Path, codes: dict[str, int | None]) -> Path:
    """What mutmut leaves of the module `deep.sums`, these being pytest's exit codes."""
    file = folder / "mutants" / "src" / "patchset" / "deep" / "sums.py"
    file.parent.mkdir(parents=True)
    file.write_text(GENERATED)
    told = {f"patchset.deep.sums.{name}": code for name, code in codes.items()}
    file.with_name("sums.py.meta").write_text(str({"exit_code_by_key": told}).replace("'", '"').replace("None", "null"))
    return folder


def test_mutants_are_read_back_with_what_they_changed(tmp_path: Path) -> None:
    codes = {"x_half__mutmut_1": 0, "x_half__mutmut_2": 0, "x_twice__mutmut_1": 1, "x\u01c1Sum\u01c1_add__mutmut_1": 36}
    assert mutants.read(left(tmp_path, codes), "deep.sums") == [
        Mutant(
            "patchset.deep.sums.x_half__mutmut_1",
            Change("deep.sums.half", "if value < 0:", "if value <= 0:"),
            Fate.SURVIVED,
        ),
        Mutant(
            "patchset.deep.sums.x_twice__mutmut_1",
            Change("deep.sums.twice", "def (value, times=2):", "def (value, times=3):"),
            Fate.KILLED,
        ),
        Mutant(
            "patchset.deep.sums.x\u01c1Sum\u01c1_add__mutmut_1",
            Change("deep.sums.Sum._add", "self.value += value", "self.value -= value"),
            Fate.TIMED_OUT,
        ),
    ]


@pytest.mark.parametrize(
    ("code", "fate"), [(1, Fate.KILLED), (3, Fate.KILLED), (33, Fate.SURVIVED), (-24, Fate.TIMED_OUT)]
)
def test_an_exit_code_is_a_fate(tmp_path: Path, code: int, fate: Fate) -> None:
    (mutant,) = mutants.read(left(tmp_path, {"x_half__mutmut_1": code}), "deep.sums")
    assert mutant.fate is fate


@pytest.mark.parametrize("code", [None, 2, -11])
def test_a_mutant_that_was_not_tried_is_an_error(tmp_path: Path, code: int | None) -> None:
    with pytest.raises(Findings, match=f"did not get through patchset.deep.sums.x_half__mutmut_1: exit code {code}$"):
        mutants.read(left(tmp_path, {"x_half__mutmut_1": code}), "deep.sums")


KILLED = Mutant("a.x_f__mutmut_1", Change("a.f", "x + 1", "x - 1"), Fate.KILLED)
SURVIVOR = Mutant("a.x_f__mutmut_2", Change("a.f", "x < 1", "x <= 1"), Fate.SURVIVED)


def test_survivors_that_are_explained_are_none_of_the_tests_fault(capsys: pytest.CaptureFixture[str]) -> None:
    report.show([report.Module("a", [KILLED, SURVIVOR], 50.0)], {SURVIVOR.change: "x is never 1"}, Terminal())
    row = next(line for line in capsys.readouterr().out.splitlines() if " a " in line)
    assert row.split()[1::2] == ["a", "2", "1", "0", "0", "1", "50.0", "50.0"]


@pytest.mark.parametrize(
    ("listed", "explained", "lowest", "why", "line"),
    [
        (
            [KILLED, SURVIVOR],
            {},
            50.0,
            "1 survivors are not explained",
            "survived  a.f: x < 1  ->  x <= 1  (a.x_f__mutmut_2)",
        ),
        (
            [KILLED],
            {SURVIVOR.change: "x"},
            50.0,
            "1 explanations explain nothing",
            "no survivor any more  a.f: x < 1  ->  x <= 1",
        ),
        (
            [KILLED],
            {KILLED.change: "x"},
            50.0,
            "1 explanations explain nothing",
            "no survivor any more  a.f: x + 1  ->  x - 1",
        ),
        ([KILLED, SURVIVOR], {SURVIVOR.change: "x"}, 50.1, r"a scores 50\.0 %, below 50\.1", "mutants"),
        ([], {}, 50.0, r"a scores 0\.0 %, below 50\.0", "mutants"),
    ],
    ids=["a survivor", "none such", "killed since", "too many are explained", "no mutants"],
)
def test_what_the_run_fails_for(
    capsys: pytest.CaptureFixture[str],
    listed: list[Mutant],
    explained: dict[Change, str],
    lowest: float,
    why: str,
    line: str,
) -> None:
    with pytest.raises(Findings, match=f"^{why}$") as caught:
        report.show([report.Module("a", listed, lowest)], explained, Terminal())
    assert caught.value.exit_code == 1
    assert line in capsys.readouterr().out.splitlines()


def test_what_is_committed_is_of_the_modules_that_are_mutated() -> None:
    root = Path(__file__).parents[2]
    written = parts.load(root / "tests" / "mutation" / "parts.toml")
    modules = [module for part in written.parts for module in part.lowest]
    for module in modules:
        assert (root / "scripts" / "patchset" / f"{module.replace('.', '/')}.py").is_file()
    for part in written.parts:
        assert all((root / "tests" / "unit" / test).is_file() for test in part.tests)
    assert written.chosen([]) == written
    assert all(why and change.place.startswith(tuple(modules)) for change, why in written.explained.items())
    with pytest.raises(UsageError, match="no part 'riter'"):
        written.chosen(["riter"])


HALF = """\
def half(value):
    if value < 0:
        raise ValueError("is below zero")
    return value // 2
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One module, its tests, and no patience with survivors."""
    for path, text in {
        "scripts/patchset/__init__.py": "",
        "scripts/patchset/sums.py": HALF,
        "tests/unit/test_sums.py": "from patchset.sums import half\n\n\ndef test_half():\n    assert half(5) == 2\n",
        "tests/mutation/parts.toml": '[tiny]\ntests = ["test_sums.py"]\n[tiny.lowest]\nsums = 0.0\n',
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_mutmut_finds_what_no_test_notices(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Findings, match="survivors are not explained"):
        run(project, [], 1, Terminal())
    said = capsys.readouterr()
    assert "survived  sums.half: if value < 0:  ->  if value <= 0:" in said.out
    assert "return value // 2" not in said.out and "BELOW" not in said.out
    assert [line.partition(" ")[0] for line in said.err.splitlines()] == ["*", "*"] and "\r" not in said.err
    log = project / "build" / "mutate" / "tiny" / "mutmut.log"
    assert str(log) in said.err and "Running mutation testing" in log.read_text()


def test_tests_that_fail_without_a_mutant_end_the_run(project: Path) -> None:
    (project / "tests" / "unit" / "test_sums.py").write_text("def test_half():\n    raise AssertionError\n")
    with pytest.raises(Findings, match="mutmut ended with 1 on the tiny") as caught:
        run(project, ["tiny"], 1, Terminal())
    assert "mutmut.log" in caught.value.hint
