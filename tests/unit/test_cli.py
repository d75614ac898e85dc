# SPDX-License-Identifier: Apache-2.0
"""The command line: one message and one exit code for each failure, and what the Makefile passes on."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SET, Capture, World

from patchset import cli
from patchset.commands import tree
from patchset.system import paths
from selftest.__main__ import build_menu

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["cluster", "smoke", "--nodes", "x"], "next: patchset cluster smoke --help"),
        (["apply"], "required: SET"),
        (["apply", SET, "--fast"], "unrecognized arguments: --fast"),
        (["apply", SET, "--device", "gpu"], "invalid choice: 'gpu'"),
        (["apply", "v0"], "no patch set 'v0'"),
        (["status", SET, "--target", "/nowhere"], "no such folder"),
    ],
)
def test_a_usage_error_is_one_message_and_exit_2(
    world: World, words: list[str], why: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PATCHSET_DEBUG")
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and why in err and "\nnext: " in err
    assert err.count("error:") == 1 and "Traceback" not in err and out == ""


def test_the_one_set_need_not_be_named(world: World, capsys: Capture) -> None:
    assert world.run("status") == 1
    assert capsys.readouterr().out.startswith("absent: ")
    other = world.root / "patches" / "v8"
    other.mkdir()
    (other / "set.toml").write_text("")
    assert world.run("status") == 2
    assert f"name one of: v8, {SET}" in capsys.readouterr().err


def test_errors_are_a_document_too(world: World, capsys: Capture) -> None:
    assert cli.main(["apply", "v0", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {
        "kind": "UsageError",
        "exit_code": 2,
        "message": "no patch set 'v0'",
        "hint": f"name one of: {SET} (vLLM 9.9.9, vllm-ascend 9.9rc1)",
    }


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["apply", "--help"]])
def test_help_and_version_go_to_stdout(words: list[str], capsys: Capture) -> None:
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "patchset" in out and err == ""
    assert words[0] != "apply" or out.startswith("usage: patchset apply [-h]")


def test_an_internal_error_has_a_report_and_no_traceback_an_interrupt_neither(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    ending: BaseException = RuntimeError("a bug")

    def fail(*_: object) -> int:
        raise ending

    monkeypatch.setattr(tree, "status", fail)
    monkeypatch.delenv("PATCHSET_DEBUG")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cli.main(["status", SET]) == 70
    err = capsys.readouterr().err
    assert "internal error: RuntimeError: a bug" in err and "Traceback" not in err
    report = Path(err.split("with the file ")[1].strip())
    assert "Traceback" in report.read_text() and "a bug" in report.read_text()
    monkeypatch.setenv("PATCHSET_DEBUG", "1")
    assert cli.main(["status", SET]) == 70
    assert "Traceback" in capsys.readouterr().err
    ending = KeyboardInterrupt()
    assert cli.main(["status", SET]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(world: World, capsys: Capture) -> None:
    (world.root / "build").rename(world.root / "was")
    (world.root / "build").write_text("a file where the folder should be")
    assert world.run("apply", SET, "--no-smoke") == 6
    assert str(world.root / "build") in capsys.readouterr().err


def test_no_git(world: World, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert world.run("apply", SET, "--no-smoke") == 6
    assert "git is not on PATH" in capsys.readouterr().err


def test_a_broken_pipe_is_quiet(world: World) -> None:
    world.run("apply", SET, "--no-smoke")
    for words in (["--json"], []):
        command = " ".join([sys.executable, "-m", "patchset.cli", "status", SET, *words])
        script = f"set -o pipefail; {{ sleep 1; {command}; }} | true"  # the reader has left before the first line
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_is_shown_of_a_tree_wants_it_as_the_set_makes_it(world: World, capsys: Capture) -> None:
    """A tree that is not there is made; one that was changed is not touched."""
    world.run("apply", SET, "--no-smoke")
    (world.tree / "tiny_ascend" / "comm.py").write_text("changed = True\n")
    for command in ("smoke", "evidence", "upstream-tests", "overlay-tests", "bench"):
        run = world.run if command in ("smoke", "evidence") else world.selftest
        assert run(command, SET) == 1
        assert "is modified, not applied" in capsys.readouterr().err


def make(*words: str) -> list[str]:
    """The patchset lines that a make command would run."""
    stamp = ["-o", ".venv/.ready"]
    done = subprocess.run(["make", "-n", *stamp, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines() if line.startswith(".venv/bin/patchset")]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["apply"], "apply v0.10.1.1 --device cpu"),
        (["apply", "VERSION=v1", "SMOKE=0", "OFFLINE=1"], "apply v1 --offline --no-smoke --device cpu"),
        (
            ["apply", "UPSTREAM=a b", "DRY_RUN=1", "JSON=1"],
            "apply v0.10.1.1 --upstream 'a b' --dry-run --device cpu --json",
        ),
        (["apply", "TARGET=/x", "SMOKE=1", "OFFLINE=0"], "apply v0.10.1.1 --target '/x' --device cpu"),
        (["status", "TARGET=/x", "JSON=1"], "status v0.10.1.1 --target '/x' --json"),
        (["revert", "TARGET=/x"], "revert v0.10.1.1 --target '/x'"),
        (["smoke", "DEVICE=npu"], "smoke v0.10.1.1 --device npu"),
        (["runtime"], "runtime v0.10.1.1"),
        (["pin"], "pin v0.10.1.1"),
    ],
)
def test_each_make_target_is_one_line(words: list[str], line: str) -> None:
    found = make(*words)
    assert [" ".join(one.split()) for one in found] == [f".venv/bin/patchset {line}"]
    cli.build_parser().parse_args(shlex.split(found[0])[1:])


@pytest.mark.parametrize("target", ["upstream-tests", "bench", "prove", "survey", "matrix"])
def test_so_is_each_target_that_holds_the_repository_against_upstream(target: str) -> None:
    stamps = ["-o", ".venv/.ready", "-o", ".venv/.dev"]
    done = subprocess.run(["make", "-n", *stamps, target], cwd=ROOT, capture_output=True, text=True, check=True)
    line = done.stdout.strip().removeprefix("PYTHONPATH=tests .venv/bin/python -m selftest ")
    assert build_menu().parser.parse_args(shlex.split(line)).command == target


def test_the_help_fits_a_screen_and_has_each_command_once(capsys: Capture) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 120
    named = [name for names in cli.READERS.values() for name in names]
    known = re.findall(r"[a-z-]+", next(line for line in cli.build_parser().format_usage().splitlines()))
    assert "patchset" in known and len(set(named)) == len(named)
    for name in named:
        assert [line for line in lines if line.startswith(f"  {name} ")] and cli.main([name, "--help"]) == 0
    examples = [shlex.split(line[:46])[1:] for line in lines if line.startswith("patchset ")]
    assert len(examples) == 3
    for words in examples:
        cli.build_parser().parse_args(words)


@pytest.mark.parametrize(
    ("line", "words"),
    [("patchset rev", {"revert", "review"}), ("patchset status v", {SET}), ("patchset lint --c", {"--codes"})],
)
def test_the_shell_completes_commands_options_and_sets(
    world: World, tmp_path: Path, line: str, words: set[str]
) -> None:
    environ = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    environ |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "said"), "PATCHSET_ROOT": str(world.root)}
    subprocess.run([sys.executable, "-m", "patchset.cli"], env=os.environ | environ, check=False)
    assert {word.strip() for word in (tmp_path / "said").read_text().split("\n")} == words


def test_make_help_names_every_target() -> None:
    out = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("apply", "status", "revert", "smoke", "upstream-tests", "test", "lint", "clean"):
        assert f"\n  {target} " in out
    for variable in ("UPSTREAM", "TARGET", "OFFLINE", "SMOKE", "DRY_RUN", "DEVICE", "JSON"):
        assert variable in out


@pytest.mark.parametrize("version", ["3.10.0", "2.7.18"])
def test_an_old_python_is_refused_with_the_reason(version: str, tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text(f'#!/bin/sh\n[ "$1" = -V ] && echo "Python {version}" && exit 0\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "scripts").mkdir()
    for name in ("Makefile", "pyproject.toml", "scripts/bootstrap.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "requirements").mkdir()
    for name in ("bootstrap.txt", "tool.txt"):
        (tmp_path / "requirements" / name).write_text("")
    command = ["make", "status", f"PYTHON={old}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert f"Python 3.11 or newer is needed; {old} is Python {version}" in done.stderr
    assert not (tmp_path / ".venv" / ".ready").exists()


def test_paths_of_a_set(world: World) -> None:
    assert paths.tree_dir(SET) == world.tree
    overlay = world.root / "overlay"
    assert paths.overlay_dirs(SET) == (overlay / "shared", overlay / SET)
    for name in (f"v1.0+{SET}", f"{SET}+v1.0", f"{SET}.1+v1.0"):
        (overlay / name).mkdir()
    assert paths.overlay_dirs(SET) == (
        overlay / "shared",
        overlay / f"v1.0+{SET}",
        overlay / f"{SET}+v1.0",
        overlay / SET,
    )
    assert paths.overlay_dirs("v1.1") == (overlay / "shared", overlay / "v1.1")
