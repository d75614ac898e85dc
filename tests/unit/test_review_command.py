# SPDX-License-Identifier: Apache-2.0
"""review: its report, what is refused and that nothing is written then; --against: what became of each patch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import PACKAGE, SET, UPSTREAM, World, git, make_sdist, read_tree, sha256

Capture = pytest.CaptureFixture[str]

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_report(world: World, capsys: Capture) -> None:
    before = read_tree(world.root)
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
        "defects": {"rows": 2, "proven": 0, "note": f"Not run: `make defects VERSION={SET}` has left no report here."},
        "range_diff": None,
    }
    assert 'id="ranges"' not in (folder / "index.html").read_text()
    made = {path for path, data in read_tree(world.root).items() if before.get(path) != data}
    written = {path for path in made if not path.startswith(f"build/{SET}/pristine/")}
    assert written == {f"build/{SET}/review/index.html", f"build/{SET}/review/review.md"}


def test_an_empty_series(empty: World) -> None:
    empty.pin()
    assert empty.run("review", SET, "--offline") == 0
    html = (empty.root / "build" / SET / "review" / "index.html").read_text()
    assert "The series is empty." in html and "The patches change no file of upstream." in html


def stale(world: World) -> None:
    file = world.folder / "0001-steps.patch"
    file.write_bytes(file.read_bytes().replace(b" step_4 = 4\n", b" step_4 = 5\n"))


def large_module(world: World) -> None:
    world.overlay({f"{PACKAGE}/data_parallel/data.py": "".join(f"v{n} = 1\n" for n in range(60_000))})


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (large_module, f"60,000 of them in {PACKAGE}/data_parallel/data.py"),
        (stale, "0001-steps.patch does not apply"),
    ],
)
def test_what_cannot_be_reviewed_is_named_and_nothing_is_written(
    world: World, edit: Callable[[World], None], named: str, capsys: Capture
) -> None:
    assert world.run("review", SET, "--offline") == 0
    folder = world.root / "build" / SET / "review"
    before = read_tree(folder)
    edit(world)
    capsys.readouterr()
    assert world.run("review", SET, "--offline") == 3
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


def commit(world: World, message: str) -> str:
    if not (world.root / ".git").exists():
        git(world.root, "init", "-q", "--initial-branch=main")
    git(world.root, "add", "-A", "patches", "overlay")
    git(world.root, "commit", "-qm", message)
    return git(world.root, "rev-parse", "HEAD").strip()


def rewrite(world: World, name: str, old: str, new: str) -> None:
    file = world.folder / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture
def committed(world: World) -> World:
    commit(world, "The set")
    return world


def page(world: World) -> str:
    return (world.root / "build" / SET / "review" / "index.html").read_text()


def fates(world: World, capsys: Capture, against: str = "HEAD") -> object:
    """How many patches met each fate, by the command's document."""
    capsys.readouterr()
    assert world.run("review", SET, "--offline", "--json", "--against", against) == 0
    return json.loads(capsys.readouterr().out)["range_diff"]["patches"]


def test_the_same_series(committed: World, capsys: Capture) -> None:
    assert fates(committed, capsys) == {"same": 4}


def test_each_fate(committed: World, capsys: Capture) -> None:
    """A header edited, a line changed, a patch added, one dropped: against the commit before."""
    rewrite(committed, "0001-steps.patch", "Why: because.", "Why: because it must.")
    (committed.folder / "0003-drop-old.patch").unlink()
    committed.names.remove("0003-drop-old.patch")
    committed.now[f"{PACKAGE}/old.py"] = UPSTREAM[f"{PACKAGE}/old.py"]
    committed.patch("0004-more.patch", {f"{PACKAGE}/comm.py": UPSTREAM[f"{PACKAGE}/comm.py"] + "more = True\n"})
    rewrite(committed, "0002-hook.patch", "+new = True", "+new = False")
    assert committed.run("fmt", SET, "--offline") == 0
    wanted = dict.fromkeys(("same", "header only", "changed", "added", "dropped"), 1)
    assert fates(committed, capsys) == wanted
    html = page(committed)
    assert "because it must." in html and "new = False" in html
    text = (committed.root / "build" / SET / "review" / "review.md").read_text()
    assert "| 1 | 1 | header only | Do 0001-steps.patch |" in text
    assert "|  | 3 | added | Do 0004-more.patch |" in text
    assert "| 3 |  | dropped | Do 0003-drop-old.patch |" in text


def test_a_small_patch_that_changes_wholly_is_still_that_patch(committed: World, capsys: Capture) -> None:
    """Git's range-diff takes it for one that goes and one that comes; the patch's name says otherwise."""
    committed.overlay({f"{PACKAGE}/data_parallel/plan.py": "nothing = 'the same'\n"})
    committed.pin()
    assert fates(committed, capsys) == {"same": 3, "changed": 1}
    assert "nothing = " in page(committed).partition('id="patches"')[0]


def other_release(world: World, folder: Path) -> Path:
    """Another repository, whose set is on an upstream that has other lines around the patched ones."""
    root = shutil.copytree(world.root, folder, ignore=shutil.ignore_patterns(".git", "build"))
    patches = root / "patches" / SET
    upstream = UPSTREAM | {
        f"{PACKAGE}/runner.py": UPSTREAM[f"{PACKAGE}/runner.py"].replace("step_4 = 4", "step_4 = 44")
    }
    data = make_sdist(folder.parent / "other.tar.gz", upstream)
    shutil.copytree(world.cached.parent, world.cached.parent.with_name(sha256(data)))
    (world.cached.parent.with_name(sha256(data)) / world.cached.name).write_bytes(data)
    manifest = "".join(f"{sha256(text.encode())}  {path}\n" for path, text in sorted(upstream.items()))
    (patches / "upstream.sha256").write_text(manifest)
    toml = (patches / "set.toml").read_text()
    toml = toml.replace(sha256(world.sdist), sha256(data))
    pinned = toml.partition('manifest = "')[2][:64]
    (patches / "set.toml").write_text(toml.replace(pinned, sha256(manifest.encode())))
    for file in patches.glob("*.patch"):
        file.write_text(file.read_text().replace(" step_4 = 4\n", " step_4 = 44\n"))
    return patches


def test_a_folder_on_another_upstream_differs_in_context_only(
    committed: World, tmp_path: Path, capsys: Capture
) -> None:
    folder = other_release(committed, tmp_path / "other")
    assert fates(committed, capsys, str(folder)) == {"same": 2, "context only": 2}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("no-such-ref", "neither a set in patches/, nor a folder with a set.toml, nor a commit"),
        ("--output=x", "neither a set"),
        ("bare", f"has no set {SET}"),
        ("HEAD", "git checkout"),
    ],
)
def test_nothing_to_compare_with(committed: World, asked: str, why: str, capsys: Capture) -> None:
    nothing = git(committed.root, "mktree").strip()
    git(committed.root, "tag", "bare", git(committed.root, "commit-tree", nothing, "-m", "Nothing").strip())
    if asked == "HEAD":
        shutil.rmtree(committed.root / ".git")
    assert committed.run("review", SET, "--offline", f"--against={asked}") == 2
    error = capsys.readouterr().err
    assert asked in error and why in error and "next: " in error
    assert not (committed.root / "build" / SET / "review").exists()


def test_a_series_that_does_not_apply_is_named(committed: World, capsys: Capture) -> None:
    good = (committed.folder / "0001-steps.patch").read_bytes()
    rewrite(committed, "0001-steps.patch", " step_4 = 4\n", " step_4 = 99\n")
    bad = commit(committed, "A broken patch")
    (committed.folder / "0001-steps.patch").write_bytes(good)
    assert committed.run("review", SET, "--offline", "--against", bad) == 3
    error = capsys.readouterr().err
    assert f"{SET} at {bad}" in error and "0001-steps.patch does not apply" in error
    assert not (committed.root / "build" / SET / "review").exists()
