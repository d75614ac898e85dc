# SPDX-License-Identifier: Apache-2.0
"""review: what is refused, and that nothing is written then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from conftest import PACKAGE, SET, World, read_tree

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_report(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert world.run("review", SET, "--offline", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    folder = world.root / "build" / SET / "review"
    assert report == {
        "command": "review",
        "set": SET,
        "html": str(folder / "index.html"),
        "markdown": str(folder / "review.md"),
        "patches": 3,
        "files": 3,
        "added": 4,
        "removed": 4,
        "overlay_modules": 2,
        "overlay_lines": 1,
        "defects": {
            "rows": 2,
            "proven": 0,
            "note": f"Not run: `make defects VERSION={SET}` has left no report here.",
        },
        "range_diff": None,
    }
    assert sorted(read_tree(folder)) == ["index.html", "review.md"]


def test_only_the_review_is_written(world: World) -> None:
    before = read_tree(world.root)
    assert world.run("review", SET, "--offline") == 0
    made = {path for path, data in read_tree(world.root).items() if before.get(path) != data}
    written = {path for path in made if not path.startswith(f"build/{SET}/pristine/")}
    assert written == {f"build/{SET}/review/index.html", f"build/{SET}/review/review.md"}


def test_an_empty_series(empty: World) -> None:
    empty.record()
    assert empty.run("review", SET, "--offline") == 0
    html = (empty.root / "build" / SET / "review" / "index.html").read_text()
    assert "The series is empty." in html and "The patches change no file of upstream." in html


def stale(world: World) -> None:
    file = world.folder / "0001-steps.patch"
    file.write_bytes(file.read_bytes().replace(b" step_4 = 4\n", b" step_4 = 5\n"))


def many_lines(world: World) -> None:
    lines = "".join(f"v{n} = 1\n" for n in range(60_000))
    world.patch("0004-data.patch", {f"{PACKAGE}/data.py": lines})


def large_module(world: World) -> None:
    world.overlay({f"{PACKAGE}/data_parallel/data.py": "".join(f"v{n} = 1\n" for n in range(60_000))})


@pytest.mark.parametrize(
    ("edit", "code", "named"),
    [
        (many_lines, 3, "0004-data.patch"),
        (large_module, 3, f"60,000 of them in {PACKAGE}/data_parallel/data.py"),
        (stale, 3, "0001-steps.patch does not apply"),
    ],
)
def test_what_cannot_be_reviewed_is_named_and_nothing_is_written(
    world: World, edit: Callable[[World], None], code: int, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run("review", SET, "--offline") == 0
    folder = world.root / "build" / SET / "review"
    before = read_tree(folder)
    edit(world)
    capsys.readouterr()
    assert world.run("review", SET, "--offline") == code
    error = capsys.readouterr().err
    assert named in error and "next: " in error
    assert read_tree(folder) == before


def test_the_wheel_of_the_tool_has_the_templates(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in ZipFile(wheel).namelist() if "/review/templates/" in name}
    folder = REPOSITORY / "scripts" / "patchset" / "review" / "templates"
    assert packed == {f"patchset/review/templates/{file.name}" for file in folder.iterdir()}
