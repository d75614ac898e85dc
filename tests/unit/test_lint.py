# SPDX-License-Identifier: Apache-2.0
"""Each code of `patchset lint` is found where it should be, and nothing else is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HEADER, PACKAGE, SET, UPSTREAM, VERSION, World, git_diff, read_tree

from patchset.authoring.lint import check, form
from patchset.authoring.lint.findings import Code
from patchset.sets import patchfile, setfile

Capture = pytest.CaptureFixture[str]

RUNNER = f"{PACKAGE}/runner.py"
COMM = f"{PACKAGE}/comm.py"
TODAY = ("--today", "2026-11-24")
OVERLAY_TOML = f"overlay/{SET}/overlay.toml"

BREAKS = f"""\
[[breaks]]
path = "{RUNNER}"
symbol = "step_25"
why = "counted twice"

[[breaks]]
path = "{PACKAGE}/old.py"
why = "old"
"""


@pytest.fixture
def clean(world: World) -> World:
    """The usual set, with a reason for what it takes from upstream's API."""
    file = world.root / OVERLAY_TOML
    file.parent.mkdir()
    file.write_text(BREAKS)
    world.pin()
    return world


def lint(world: World, capsys: Capture, *words: str, code: int = 1) -> list[str]:
    """The findings, one a line, below patches/<set>/ where they are there."""
    capsys.readouterr()
    assert world.run("lint", *words, "--offline", *TODAY) == code
    return [line.removeprefix(f"patches/{SET}/") for line in capsys.readouterr().out.splitlines()]


def test_a_clean_set_has_no_finding(clean: World, capsys: Capture) -> None:
    before = read_tree(clean.root)
    assert lint(clean, capsys, code=0) == []
    assert lint(clean, capsys, SET, code=0) == []
    assert read_tree(clean.root) == before


def change(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return edit


BAD_PATCHES = [
    ("undercounted", lambda text: text + "+SILENTLY LOST\n", "36: PS213 .*SILENTLY LOST"),
    ("overcounted", change("@@ -2,7 +2,7 @@", "@@ -2,8 +2,8 @@"), "(PS201|PS301) "),
    ("outside", lambda text: text.replace(RUNNER, "../../etc/passwd"), "PS301 .*(is not there|git does not apply it)"),
    ("mode", change("index ", "old mode 100644\nnew mode 100755\nindex "), "15: PS206 .*a mode change"),
    ("short-index", lambda text: re.sub(r"index (.{7}).{33}\.\.(.{7}).{33}", r"index \1..\2", text), "16: PS213"),
    ("no-header", lambda text: text[text.index("diff --git") :], ": PS201"),
    ("unknown-field", change("Origin: vendor", "Origin: vendor\nColour: red"), "12: PS402"),
    ("missing-field", change("Origin: vendor\n", ""), "1: PS401"),
    ("twice", change("Origin: vendor\n", "Origin: vendor\nOrigin: vendor\n"), "11: PS403"),
    ("status", change("Pending", "Merged"), "12: PS404"),
    ("no-why", change("Why: because.\n\nHow: so.\n\n", ""), "1: PS401"),
    ("date", change("Mon, 2 Nov 2026 10:00:00 +0000", "yesterday"), "3: PS404"),
    ("mail-header", change("Date:", "Colour: red\nDate:"), "3: PS402"),
    ("stale", change("-step_5 = 5\n", "-step_5 = 6\n"), "19: PS301"),
    ("offset", change("@@ -2,7 +2,7 @@", "@@ -3,7 +3,7 @@"), "19: PS301 .*hunk 1 of 2.*offset -1"),
    ("conflict-marker", change("+step_5 = 50\n", "+<<<<<<< HEAD\n"), "24: PS212"),
    ("trailing-space", change("+step_5 = 50\n", "+step_5 = 50 \n"), "24: PS211"),
    ("carriage-return", change("+step_5 = 50\n", "+step_5 = 50\r\n"), "24: PS204"),
    ("does-not-compile", change("+step_5 = 50\n", "+step_5 = (\n"), "15: PS303"),
    ("resolves", change("D1, D3", "Defect 1"), "10: PS404"),
    ("origin", change("Origin: vendor", "Origin: somewhere"), "11: PS404"),
    ("forwarded", change("Upstream-Status", "Forwarded: maybe\nUpstream-Status"), "12: PS404"),
    ("pending", change("Upstream-Status", "Forwarded: not-needed\nUpstream-Status"), "12: PS405"),
    ("submitted", change("Pending", "Submitted [the list]"), "12: PS405"),
    ("backport", change("Pending", "Backport"), "12: PS404 .*brackets"),
    (
        "inappropriate",
        change("Upstream-Status: Pending", "Forwarded: a/b#1\nUpstream-Status: Inappropriate [x]"),
        "12: PS405",
    ),
    ("related", change("Origin", "Related-PR: #12\nOrigin"), "11: PS404"),
    ("no-day", change("Removal-Plan", "Review-By: 2026-02-30\nRemoval-Plan"), "13: PS404"),
    ("passed", change("Removal-Plan", "Review-By: 2026-11-23\nRemoval-Plan"), "13: PS406"),
    ("before", change("Removal-Plan", "Review-By: 2026-11-01\nRemoval-Plan"), "13: PS405"),
    ("last-update", change("Removal-Plan", "Last-Update: 2026-11-01\nRemoval-Plan"), "13: PS405"),
]


@pytest.mark.parametrize(("spoil", "wanted"), [row[1:] for row in BAD_PATCHES], ids=[row[0] for row in BAD_PATCHES])
def test_a_bad_patch(clean: World, capsys: Capture, spoil: Callable[[str], str], wanted: str) -> None:
    file = clean.folder / "0001-steps.patch"
    text = file.read_text()
    file.write_text(spoil(text), newline="")
    before = read_tree(clean.folder)
    found = lint(clean, capsys)
    assert any(re.search(wanted, line) for line in found), found
    assert all(re.fullmatch(r"[\w./-]+:\d+: PS\d{3} .+", line) for line in found)
    assert read_tree(clean.folder) == before


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (lambda data: data.replace(b"because", b"\xff\xfe"), Code.NOT_UTF8),
        (lambda data: data.replace(b"\n", b"\r\n"), Code.CARRIAGE_RETURN),
        (lambda data: data + b"+" * (50 * 1024 * 1024) + b"\n", Code.TOO_LARGE),
    ],
)
def test_bad_bytes(clean: World, capsys: Capture, data: Callable[[bytes], bytes], code: Code) -> None:
    file = clean.folder / "0001-steps.patch"
    file.write_bytes(data(file.read_bytes()))
    found = lint(clean, capsys)
    assert any(line.startswith("0001-steps.patch:") and f" {code.id} " in line for line in found), found


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (change("-step_5 = 5\n", "-step_5 = 6\n"), "0001-steps.patch:19: PS301 "),
        (lambda text: text + "+SILENTLY LOST\n", "0001-steps.patch:36: PS213 not what git makes of this patch"),
        (change("Origin: vendor\n", ""), "0001-steps.patch:1: PS401 "),
    ],
)
def test_what_is_wrong_is_told_once(clean: World, capsys: Capture, spoil: Callable[[str], str], wanted: str) -> None:
    """What comes after it in the same file is not held against a content that nobody knows."""
    file = clean.folder / "0001-steps.patch"
    file.write_text(spoil(file.read_text()))
    (found,) = lint(clean, capsys)
    assert found.startswith(wanted)


def test_an_executable_that_is_no_script(clean: World, capsys: Capture, tmp_path: Path) -> None:
    for number, text in enumerate(("#!/bin/sh\n", "data\n"), start=4):
        diff = git_diff(clean.now, {**clean.now, f"x{number}": text}, tmp_path / str(number))
        diff = diff.replace("new file mode 100644", "new file mode 100755")
        clean.add(f"000{number}-x.patch", HEADER.format(subject=f"Do {number}") + diff)
    assert clean.run("fmt", SET, "--offline") == 0
    assert lint(clean, capsys) == ["0005-x.patch:15: PS206 x5 is executable, but no script"]


def test_review_by_is_held_against_the_day(clean: World, capsys: Capture) -> None:
    file = clean.folder / "0001-steps.patch"
    file.write_text(file.read_text().replace("Removal-Plan", "Review-By: 2026-12-31\nRemoval-Plan"))
    clean.pin()
    assert lint(clean, capsys, code=0) == []
    assert clean.run("lint", "--offline", "--today", "2027-01-01") == 1
    assert "0001-steps.patch:13: PS406 Review-By 2026-12-31 has passed" in capsys.readouterr().out
    assert clean.run("apply", SET, "--no-smoke", "--offline") == 0


def test_series_and_folder_agree_both_ways(clean: World, capsys: Capture) -> None:
    folder = clean.folder
    (folder / "series").write_text("# ours\n0001-steps.patch\n0009-none.patch\n0001-steps.patch\n0003-drop-old.patch\n")
    shutil.copy(folder / "0003-drop-old.patch", folder / "0004-again.patch")
    found = lint(clean, capsys)
    assert found[:3] == [
        "0002-hook.patch:1: PS103 the series does not list this patch",
        "0004-again.patch:1: PS103 the series does not list this patch",
        "series:3: PS102 0009-none.patch is listed and not in the folder",
    ]
    assert found[3] == "series:4: PS104 0001-steps.patch is listed twice"
    (folder / "series").write_text("0001-steps.patch\n0002-hook.patch\n0003-drop-old.patch\n0004-again.patch\n")
    assert "0004-again.patch:1: PS105 the same as 0003-drop-old.patch" in lint(clean, capsys)
    (folder / "series").unlink()
    assert any(line.startswith("series:1: PS101") for line in lint(clean, capsys))


def test_a_stale_record(clean: World, capsys: Capture) -> None:
    overlay = clean.root / "overlay" / "shared" / PACKAGE / "data_parallel" / "plan.py"
    overlay.write_text("answer = 43\n")
    (found,) = lint(clean, capsys)
    line = found.split(":")[1]
    text = (clean.folder / "set.toml").read_text().splitlines()
    assert text[int(line) - 1] == f'[result.files."{PACKAGE}/data_parallel/plan.py"]'
    assert f"PS106 {PACKAGE}/data_parallel/plan.py: patchset pin v9.9.9" in found
    clean.pin()
    file = clean.folder / "set.toml"
    file.write_text(re.sub(r'tree = "..', 'tree = "00', file.read_text()))
    assert "PS106 the tree's digest" in lint(clean, capsys)[0]
    file.write_text("format = 9\n")
    assert "set.toml:1: PS101" in lint(clean, capsys)[0]


def test_a_pinned_symbol_that_has_changed(clean: World, capsys: Capture) -> None:
    module = f'[[module]]\npath = "{PACKAGE}/data_parallel/plan.py"\n\n[[module.replaces]]\npath = "{COMM}"\n'
    toml = clean.root / OVERLAY_TOML
    toml.write_text(f'{BREAKS}{module}symbol = "Comm.size"\n')
    (found,) = lint(clean, capsys)
    assert found.startswith(f"{OVERLAY_TOML}:14: PS501 {COMM} Comm.size: pinned nothing, found ")
    clean.pin()
    assert lint(clean, capsys, code=0) == []
    toml.write_text(re.sub(r'sha256 = ".{8}', 'sha256 = "00000000', toml.read_text()))
    assert ": PS501 " in lint(clean, capsys)[0] and "pinned 00000000" in lint(clean, capsys)[0]
    toml.write_text(f'{BREAKS}{module}symbol = "Comm.gone"\n')
    assert lint(clean, capsys) == [f"{OVERLAY_TOML}:14: PS501 {COMM} has no Comm.gone"]
    toml.write_text("[[module]]\nfile = 1\n")
    assert ": PS101 " in lint(clean, capsys)[0]


def test_public_names_are_kept_or_explained(clean: World, capsys: Capture) -> None:
    after = UPSTREAM[COMM].replace("def choose():", "def choose(size):").replace("def size(self)", "def _size(self)")
    clean.patch("0004-api.patch", {COMM: after})
    clean.pin()
    assert lint(clean, capsys) == [
        f"{OVERLAY_TOML}:1: PS502 {COMM}: Comm.size is gone; say why in [[breaks]]",
        f"{OVERLAY_TOML}:1: PS503 {COMM}: choose parameter was added as required (size); say why in [[breaks]]",
    ]
    rows = "".join(f'[[breaks]]\npath = "{COMM}"\nsymbol = "{name}"\nwhy = "so"\n' for name in ("choose", "Comm.size"))
    (clean.root / OVERLAY_TOML).write_text(BREAKS + rows)
    clean.pin()
    assert lint(clean, capsys, code=0) == []
    stale = f'[[breaks]]\npath = "{COMM}"\nsymbol = "Comm"\nwhy = "so"\n'
    (clean.root / OVERLAY_TOML).write_text(BREAKS + rows + stale)
    clean.pin()
    assert lint(clean, capsys) == [
        f"{OVERLAY_TOML}:19: PS504 [[breaks]] explains {COMM} Comm, which keeps its name and signature"
    ]
    (clean.root / OVERLAY_TOML).write_text(BREAKS.replace('why = "old"', ""))
    assert "breaks[2].why is missing" in lint(clean, capsys)[0]


def test_the_same_patch_in_two_sets_differs_in_context_only(clean: World, capsys: Capture) -> None:
    clean.another("v9.9.10")
    assert lint(clean, capsys, code=0) == []
    clean.another("v9.9.11")
    for file in (clean.root / "patches" / "v9.9.11").glob("*.patch"):
        file.write_text(re.sub(r"^([+ ]step_5 = )50$", r"\g<1>51", file.read_text(), flags=re.MULTILINE))
    assert clean.run("fmt", "v9.9.11", "--offline") == 0
    (found,) = lint(clean, capsys)
    assert found == (
        "patches/v9.9.11/0001-steps.patch:4: PS601 changes other lines of tiny_ascend/runner.py ('+step_5 = 51') "
        "than in v9.9.9/0001-steps.patch; if that must be, say why in Set-Specific"
    )
    assert lint(clean, capsys, SET, code=0) == []
    file = clean.root / "patches" / "v9.9.11" / "0001-steps.patch"
    file.write_text(file.read_text().replace("Removal-Plan", "Set-Specific: another number there\nRemoval-Plan"))
    assert clean.run("pin", "v9.9.11", "--offline") == 0
    assert lint(clean, capsys, code=0) == []


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ('version = "9.9.9"', 'version = "9.9.10"', r"set.toml:\d+: PS107 vLLM 9.9.10 in set v9.9.9"),
        ('version = "9.9.9"', 'version = "9.9.10"', "vllm-9.9.9.tar.gz is of version 9.9.9, the release is 9.9.10"),
        ('"vllm-9.9.9.tar.gz"', '"vllm.tar.gz"', "vllm.tar.gz is of version None"),
        (f'version = "{VERSION}"', 'version = "9.9rc2"', f"is of version {VERSION}, the release is 9.9rc2"),
    ],
)
def test_versions_that_disagree(clean: World, capsys: Capture, old: str, new: str, wanted: str) -> None:
    file = clean.folder / "set.toml"
    file.write_text(change(old, new)(file.read_text()))
    assert any(re.search(wanted, line) for line in lint(clean, capsys))


@pytest.mark.parametrize(("asked", "said"), [("torch==2.6.0", "torch 2.7.1"), ("torch_npu ==2.5", "torch_npu ")])
def test_a_pin_that_upstream_does_not_ask_for(asked: str, said: str) -> None:
    patch_set = setfile.load_set("v0.10.1.1")
    assert not list(check.pins(patch_set, lambda _: b"torch>=2.7.1\nvllm\n-r other.txt\n"))
    (finding,) = check.pins(patch_set, lambda _: asked.encode())
    assert finding.code is Code.PINS_DISAGREE and finding.message.startswith(said) and "asks for ==" in finding.message


def test_text_and_json_say_the_same(clean: World, capsys: Capture) -> None:
    file = clean.folder / "0001-steps.patch"
    file.write_text(file.read_text().replace("+step_5 = 50\n", "+step_5 = 50 \n") + "+LOST\n")
    (clean.folder / "series").write_text("0001-steps.patch\n0002-hook.patch\n")
    lines = lint(clean, capsys)
    assert clean.run("lint", "--offline", "--json", *TODAY) == 1
    document = json.loads(capsys.readouterr().out)
    rows = [f"{row['file']}:{row['line']}: {row['code']} {row['message']}" for row in document["findings"]]
    assert [row.removeprefix(f"patches/{SET}/") for row in rows] == lines
    assert (document["sets"], document["patches"]) == ([SET], 2)


def test_codes_are_documented(world: World, capsys: Capture) -> None:
    capsys.readouterr()
    assert world.run("lint", "--codes") == 0
    out = capsys.readouterr().out
    assert all(f"{code.id}  {code.label}" in out and code.summary in out for code in Code)


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["v1"], 2, "no set 'v1' in patches/"),
        (["--today", "soon"], 2, "--today"),
        (["--upstream", "/nowhere"], 2, "no such file or directory"),
    ],
)
def test_usage(world: World, capsys: Capture, words: list[str], code: int, why: str) -> None:
    assert world.run("lint", *words) == code
    assert why in capsys.readouterr().err


def test_lint_needs_upstream(clean: World) -> None:
    clean.cached.unlink()
    shutil.rmtree(clean.root / "build", ignore_errors=True)
    assert clean.run("lint", "--offline") == 6
    assert clean.run("lint", "--upstream", str(clean.served / f"{PACKAGE}-9.9rc1.tar.gz")) == 0


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("comm.py", "other.py", "does not change tiny_ascend/comm.py, other"),
        ("+    return 'allgather'", "+    return 'all'", "changes other lines of tiny_ascend/comm.py"),
        (" def choose():", " def chosen():", ""),
    ],
)
def test_what_differs_between_two_sets_is_named(empty: World, tmp_path: Path, old: str, new: str, why: str) -> None:
    edited = UPSTREAM[COMM].replace("'alltoall'", "'allgather'")
    text = HEADER.format(subject="Choose") + git_diff(UPSTREAM, {**UPSTREAM, COMM: edited}, tmp_path / "d")
    rows = {}
    for name, data in (("v9.9.9", text), ("v9.10.0", text.replace(old, new))):
        file = empty.root / "patches" / name / "0001-choose.patch"
        file.parent.mkdir(exist_ok=True)
        rows[name] = [form.Read(file, patchfile.parse(file.name, data.encode()))]
        assert old in text
    found = list(check.across(rows))
    assert [finding.message.partition(" than in ")[0].partition(" (")[0] for finding in found] == ([why] if why else [])
    assert all(finding.file == "patches/v9.10.0/0001-choose.patch" for finding in found)
