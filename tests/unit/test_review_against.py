# SPDX-License-Identifier: Apache-2.0
"""review --against: what became of each patch, from real git."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from conftest import PACKAGE, SET, UPSTREAM, World, git, make_sdist, sha256

if TYPE_CHECKING:
    from pathlib import Path

Report = dict[str, object]


def review(world: World, capsys: pytest.CaptureFixture[str], *words: str) -> Report:
    capsys.readouterr()
    assert world.run("review", SET, "--offline", "--json", *words) == 0
    made: Report = json.loads(capsys.readouterr().out)
    return made


def fates(report: Report) -> dict[str, int]:
    found = report["range_diff"]
    assert isinstance(found, dict)
    return dict(found["patches"])


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


def test_the_same_series(committed: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert fates(review(committed, capsys, "--against", "HEAD")) == {"same": 4}


def test_without_it_there_is_no_range_diff(committed: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert review(committed, capsys)["range_diff"] is None
    assert 'id="ranges"' not in page(committed)


def test_each_fate(committed: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A header edited, a line changed, a patch added, one dropped: against the commit before."""
    rewrite(committed, "0001-steps.patch", "Why: because.", "Why: because it must.")
    (committed.folder / "0003-drop-old.patch").unlink()
    committed.names.remove("0003-drop-old.patch")
    committed.now[f"{PACKAGE}/old.py"] = UPSTREAM[f"{PACKAGE}/old.py"]
    committed.patch("0004-more.patch", {f"{PACKAGE}/comm.py": UPSTREAM[f"{PACKAGE}/comm.py"] + "more = True\n"})
    rewrite(committed, "0002-hook.patch", "+new = True", "+new = False")
    assert committed.run("fmt", SET, "--offline") == 0
    assert fates(review(committed, capsys, "--against", "HEAD")) == {
        "same": 1,
        "header only": 1,
        "changed": 1,
        "added": 1,
        "dropped": 1,
    }
    html = page(committed)
    assert "because it must." in html and "new = False" in html
    text = (committed.root / "build" / SET / "review" / "review.md").read_text()
    assert "| 1 | 1 | header only | Do 0001-steps.patch |" in text
    assert "|  | 3 | added | Do 0004-more.patch |" in text
    assert "| 3 |  | dropped | Do 0003-drop-old.patch |" in text


def test_a_small_patch_that_changes_wholly_is_still_that_patch(
    committed: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Git's range-diff takes it for one that goes and one that comes; the patch's name says otherwise."""
    committed.overlay({f"{PACKAGE}/data_parallel/plan.py": "nothing = 'the same'\n"})
    committed.record()
    assert fates(review(committed, capsys, "--against", "HEAD")) == {"same": 3, "changed": 1}
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
    committed: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = other_release(committed, tmp_path / "other")
    report = review(committed, capsys, "--against", str(folder))
    assert fates(report) == {"same": 2, "context only": 2}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("no-such-ref", "neither a set in patches/, nor a folder with a set.toml, nor a commit"),
        ("--output=x", "neither a set"),
        ("bare", f"has no set {SET}"),
        ("HEAD", "git checkout"),
    ],
)
def test_nothing_to_compare_with(committed: World, asked: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = git(committed.root, "mktree").strip()
    git(committed.root, "tag", "bare", git(committed.root, "commit-tree", nothing, "-m", "Nothing").strip())
    if asked == "HEAD":
        shutil.rmtree(committed.root / ".git")
    assert committed.run("review", SET, "--offline", f"--against={asked}") == 2
    error = capsys.readouterr().err
    assert asked in error and why in error and "next: " in error
    assert not (committed.root / "build" / SET / "review").exists()


def test_a_series_that_does_not_apply_is_named(committed: World, capsys: pytest.CaptureFixture[str]) -> None:
    good = (committed.folder / "0001-steps.patch").read_bytes()
    rewrite(committed, "0001-steps.patch", " step_4 = 4\n", " step_4 = 99\n")
    bad = commit(committed, "A broken patch")
    (committed.folder / "0001-steps.patch").write_bytes(good)
    assert committed.run("review", SET, "--offline", "--against", bad) == 3
    error = capsys.readouterr().err
    assert f"{SET} at {bad}" in error and "0001-steps.patch does not apply" in error
    assert not (committed.root / "build" / SET / "review").exists()
