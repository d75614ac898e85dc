# SPDX-License-Identifier: Apache-2.0
"""port and outlook: each fate of a patch and of a replaced symbol, conflicts taken up again, nothing half written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, UPSTREAM, World, git, read_tree, sha256, write_tree
from port_world import (
    COMM,
    HALF_ALIKE,
    METADATA,
    MOVED,
    NEARBY,
    NEW,
    OVERLAPPING,
    RUNNER,
    SHIFTED,
    STEPS_DONE,
    WHEEL,
    Releases,
    offering,
)  # fmt: skip

from patchset.authoring.port import newset, work
from patchset.system import lock

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def releases(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    with offering(world, monkeypatch) as found:
        yield found


@pytest.fixture
def stopped(releases: Releases) -> Releases:
    """A port that has stopped at the first of two conflicts."""
    releases.offer({RUNNER: OVERLAPPING})
    assert releases.port() == 3
    return releases


def outcomes(capsys: Capture, releases: Releases, *words: str) -> dict[str, str]:
    """Outcome of each patch, from the JSON report."""
    capsys.readouterr()
    assert releases.port("--dry-run", "--json", *words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["set"] == NEW
    return {row["name"].removesuffix(".patch"): row["outcome"] for row in report["patches"]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"0001-steps": "clean", "0002-hook": "clean", "0003-drop-old": "clean"}),
        ({RUNNER: SHIFTED}, {"0001-steps": "clean", "0002-hook": "clean"}),
        ({RUNNER: NEARBY}, {"0001-steps": "in conflict"}),
        ({RUNNER: OVERLAPPING}, {"0001-steps": "in conflict", "0002-hook": "in conflict"}),
        ({RUNNER: STEPS_DONE}, {"0001-steps": "absorbed", "0002-hook": "clean"}),
        ({f"{PACKAGE}/old.py": None}, {"0003-drop-old": "absorbed"}),
        ({f"{PACKAGE}/old.py": "gone = 1\n"}, {"0003-drop-old": "in conflict"}),
        ({RUNNER: None}, {"0001-steps": "without its file", "0002-hook": "without its file"}),
        (
            {RUNNER: None, f"{PACKAGE}/other.py": HALF_ALIKE},
            {"0001-steps": "without its file", "0002-hook": "without its file"},
        ),
        (MOVED, {"0001-steps": "merged", "0002-hook": "merged"}),
    ],
)
def test_each_fate_of_a_patch(
    releases: Releases, capsys: Capture, changes: dict[str, str | None], expected: dict[str, str]
) -> None:
    releases.offer(changes)
    found = outcomes(capsys, releases)
    assert found | expected == found
    assert releases.untouched()
    assert not (releases.world.root / "build" / "port" / NEW).exists()


def test_the_report_names_its_exact_baseline(releases: Releases, capsys: Capture) -> None:
    releases.offer({})
    commit = "f" * 40
    capsys.readouterr()
    assert releases.port("--dry-run", "--json", "--commit", commit) == 0
    baseline = json.loads(capsys.readouterr().out)["baseline"]
    name = "vllm_ascend-9.10.0rc1.tar.gz"
    assert (baseline["version"], baseline["commit"], baseline["sdist"]) == ("9.10.0rc1", commit, name)
    assert baseline["sha256"] == sha256(releases.files["vllm-ascend"][name])
    assert releases.port("--dry-run") == 0
    assert f"on vllm-ascend 9.10.0rc1, sdist sha256 {baseline['sha256']}" in capsys.readouterr().out


def test_a_clean_port_is_a_whole_set(releases: Releases, capsys: Capture) -> None:
    files = releases.offer({RUNNER: SHIFTED, f"{PACKAGE}/old.py": None})
    assert releases.port() == 0
    said = capsys.readouterr().out
    assert "left out: 0003-drop-old.patch" in said
    assert (releases.new / "series").read_text() == "0001-steps.patch\n0002-hook.patch\n"
    header, _, diff = (releases.new / "0001-steps.patch").read_text().partition("\ndiff --git ")
    assert header == (releases.world.folder / "0001-steps.patch").read_text().partition("\ndiff --git ")[0]
    assert "@@ -4,7 +4,7 @@" in diff  # two lines further down
    toml = (releases.new / "set.toml").read_text()
    for line in (
        'torch_npu = "2.7.1.dev1"',
        'cann = "8.3.RC2"',
        'python = ">=3.9,<3.12"',
        f'file = "{WHEEL}"',
        'file = "vllm-9.10.0.tar.gz"',
    ):
        assert line in toml
    assert releases.world.run("apply", NEW, "--no-smoke", "--offline") == 0
    tree = read_tree(releases.world.root / "build" / NEW / "vllm-ascend")
    assert tree["PKG-INFO"] == files["PKG-INFO"].encode()
    assert b"step_5 = 50" in tree[RUNNER] and b"answer" in tree[RUNNER] and b"first = 0" in tree[RUNNER]
    assert f"{PACKAGE}/data_parallel/plan.py" in tree
    assert not (releases.world.root / "build" / "port" / NEW / "tree").exists()


def test_a_conflict_has_its_table_in_json_and_as_a_page(releases: Releases, capsys: Capture) -> None:
    releases.offer({RUNNER: OVERLAPPING})
    assert releases.port("--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["command"], found["set"], found["result"]) == ("port", NEW, "stopped")
    assert [row["outcome"] for row in found["patches"]].count("in conflict") == 2
    assert found["error"]["exit_code"] == 3
    page = (releases.tree.parent / "report.html").read_text()
    assert "<td>0002-hook.patch<td>in conflict<td>" in page and "vllm-ascend 9.10.0rc1" in page


FIRST = OVERLAPPING.replace("step_5 = 5\n", "step_5 = 50\n").replace("step_25 = 25\n", "")
SECOND = FIRST.replace("step_6 = 66\n", f"from {PACKAGE}.data_parallel.plan import answer\nstep_6 = answer\n")


def resolve(releases: Releases, text: str, *, stops: bool = False) -> None:
    """As a maintainer does: the file, git add, git rebase --continue."""
    (releases.tree / RUNNER).write_text(text)
    git(releases.tree, "add", RUNNER)
    with pytest.raises(subprocess.CalledProcessError) if stops else nullcontext():
        git(releases.tree, "-c", "core.editor=true", "rebase", "--continue")


def skip_the_rest(releases: Releases) -> None:
    while (releases.tree / ".git" / "rebase-merge").is_dir():
        with suppress(subprocess.CalledProcessError):
            git(releases.tree, "rebase", "--skip")


def test_a_conflict_is_gits_and_then_the_port_is_finished(releases: Releases, capsys: Capture) -> None:
    releases.offer({RUNNER: OVERLAPPING})
    assert releases.port() == 3
    said = capsys.readouterr()
    assert "'Do 0001-steps.patch' conflicts with v9.10.0's upstream" in said.err
    assert f"{releases.tree / RUNNER}" in said.err and "make port STEP=finish" in said.err
    assert "in conflict" in said.out  # all of the patches, at once
    text = (releases.tree / RUNNER).read_text()
    for line in ("<<<<<<< ", "step_6 = 66", "||||||| ", "step_5 = 5\n", "=======", "step_5 = 50", ">>>>>>> "):
        assert line in text
    assert releases.untouched()
    assert releases.world.run("port", "--finish") == 3  # nothing is resolved
    resolve(releases, FIRST, stops=True)
    assert releases.world.run("port", "--finish") == 3
    assert "'Do 0002-hook.patch' conflicts" in capsys.readouterr().err
    assert releases.untouched()
    resolve(releases, SECOND)
    assert releases.world.run("port", "--finish") == 0
    assert releases.world.run("apply", NEW, "--no-smoke", "--offline") == 0
    assert (releases.new / "series").read_text().split() == releases.world.names
    assert work.running() == []


@pytest.mark.parametrize("lost", [["REBASE_HEAD"], ["REBASE_HEAD", "rebase-merge/head-name"], ["rebase-merge"]])
def test_a_rebase_that_was_cut_off_begins_anew(stopped: Releases, lost: list[str], capsys: Capture) -> None:
    git(stopped.tree, "update-ref", "-d", "refs/patchset/carried")  # the first run had not come so far
    for name in lost:
        file = stopped.tree / ".git" / name
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    capsys.readouterr()
    assert stopped.world.run("port", "--finish") == 3
    assert "'Do 0001-steps.patch' conflicts with v9.10.0's upstream" in capsys.readouterr().err
    resolve(stopped, OVERLAPPING, stops=True)
    (stopped.tree / ".git" / "REBASE_HEAD").unlink()  # the maintainer's own git was killed: the tree stays as it is
    assert stopped.world.run("port", "--finish") == 3
    assert "the rebase was cut off" in capsys.readouterr().err
    skip_the_rest(stopped)
    assert stopped.world.run("port", "--finish") == 0


def test_a_patch_may_be_skipped_or_resolved_away(stopped: Releases, capsys: Capture) -> None:
    resolve(stopped, OVERLAPPING, stops=True)
    skip_the_rest(stopped)
    assert stopped.world.run("port", "--finish") == 0
    said = capsys.readouterr().out
    assert "left out: 0001-steps.patch" in said and "left out: 0002-hook.patch" in said
    assert (stopped.new / "series").read_text() == "0003-drop-old.patch\n"


def test_what_is_not_committed_is_not_lost(stopped: Releases, capsys: Capture) -> None:
    skip_the_rest(stopped)
    (stopped.tree / "README.md").write_text("mine\n")
    assert stopped.world.run("port", "--finish") == 4
    assert "has changes that are in no commit" in capsys.readouterr().err
    assert stopped.untouched()


def test_a_resolution_that_does_not_compile_writes_nothing(stopped: Releases) -> None:
    resolve(stopped, "def f(:\n", stops=True)
    skip_the_rest(stopped)
    assert stopped.world.run("port", "--finish") == 3
    assert stopped.untouched()
    assert stopped.world.run("port", "--abort") == 0


def test_upstreams_commits_are_named(releases: Releases, tmp_path: Path, capsys: Capture) -> None:
    clone = write_tree(tmp_path / "clone", UPSTREAM)
    git(clone, "init", "-q")
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", "The old release")
    old = git(clone, "rev-parse", "HEAD").strip()
    for path, text, subject in (("README.md", "other\n", "Elsewhere"), (RUNNER, NEARBY, "Count by 44 (#7)")):
        (clone / path).write_text(text)
        git(clone, "commit", "-qam", subject)
    new = git(clone, "rev-parse", "HEAD").strip()
    toml = releases.world.folder / "set.toml"
    toml.write_text(re.sub(r'commit = "\w+"', f'commit = "{old}"', toml.read_text()))
    releases.offer({RUNNER: NEARBY})
    capsys.readouterr()
    assert releases.port("--dry-run", "--json", "--history", str(clone), "--commit", new) == 0
    first = json.loads(capsys.readouterr().out)["patches"][0]
    assert (first["outcome"], first["files"]) == ("in conflict", {RUNNER: [f"{new[:7]} Count by 44 (#7)"]})
    assert releases.port("--dry-run", "--history", str(clone)) == 2
    assert "COMMIT names the new release's commit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "commit", "why"),
    [
        (SET, "nine", "", "'nine' is no vLLM version"),
        (SET, NEW, "abc", "'abc' is no git commit of 40 hex digits"),
        (SET, SET.removeprefix("v"), "", "is there already"),
        ("v0.0.0", NEW, "", "no patch set 'v0.0.0'"),
    ],
)
def test_names_are_checked_before_anything_is_fetched(
    world: World, capsys: Capture, old: str, new: str, commit: str, why: str
) -> None:
    """There is no index here that could be asked."""
    assert world.run("port", "--from", old, "--to", new, *(["--commit", commit] if commit else [])) == 2
    assert why in capsys.readouterr().err
    assert not list((world.root / "build").glob("port/*/*"))


def test_abort_leaves_the_repository_as_it_was(releases: Releases) -> None:
    before = {path: data for path, data in read_tree(releases.world.root).items() if not path.startswith("build/")}
    releases.offer({RUNNER: OVERLAPPING})
    assert releases.port() == 3
    assert releases.world.run("port", "--abort") == 0
    after = {path: data for path, data in read_tree(releases.world.root).items() if not path.startswith("build/")}
    assert after == before
    assert not (releases.tree.parent).exists()


@pytest.mark.parametrize("step", ["--finish", "--abort"])
def test_a_step_of_a_port_has_no_dry_run(stopped: Releases, step: str, capsys: Capture) -> None:
    before = read_tree(stopped.tree)
    assert stopped.world.run("port", step, "--reviewed", "--dry-run") == 2
    assert f"{step} has no dry run; nothing was changed" in capsys.readouterr().err
    assert read_tree(stopped.tree) == before and stopped.untouched()


@pytest.mark.parametrize("words", [["--finish"], ["--abort"], ["--abort", "--to", NEW]])
def test_a_step_of_no_port(world: World, capsys: Capture, words: list[str]) -> None:
    assert world.run("port", *words) == 2
    assert "is under way" in capsys.readouterr().err


def test_bad_usage(releases: Releases, capsys: Capture) -> None:
    releases.offer({RUNNER: OVERLAPPING})
    assert releases.world.run("port", "--from", SET) == 2
    assert releases.port("--ascend", "1.2.3") == 6
    assert "the newest with one: 9.10.0rc1" in capsys.readouterr().err
    assert releases.port() == 3
    assert releases.port() == 2
    assert "is under way" in capsys.readouterr().err
    with lock.hold(work.folder(NEW).with_name(f".{NEW}.lock")):
        assert releases.world.run("port", "--finish") == 7


def test_an_image_that_is_named_by_arguments(releases: Releases) -> None:
    image = (
        'ARG CANN_URL="quay.example/cann"\nARG CANN_VERSION=8.3.rc2_20260930\nFROM ${CANN_URL}:${CANN_VERSION}-910b\n'
    )
    releases.offer({"Dockerfile": f"{image}ARG VLLM_TAG=v9.10.0\n", RUNNER: SHIFTED})
    assert releases.port() == 0
    assert 'cann = "8.3.RC2"' in (releases.new / "set.toml").read_text()


@pytest.mark.parametrize(
    ("changes", "code", "why"),
    [
        ({"Dockerfile": METADATA["Dockerfile"].replace("v9.10.0", "v9.10.1")}, 5, "Dockerfile:2"),
        ({"Dockerfile": None}, 2, "Dockerfile"),
        ({"Dockerfile": "ARG VLLM_TAG=v9.10.0\n"}, 2, "CANN"),
        ({"requirements.txt": "torch\n"}, 2, "no torch of a certain version"),
        ({"PKG-INFO": "Name: x\n"}, 2, "Requires-Python"),
    ],
)
def test_a_release_for_another_vllm_or_that_does_not_say_its_pins(
    releases: Releases, capsys: Capture, changes: dict[str, str | None], code: int, why: str
) -> None:
    releases.offer(changes)
    assert releases.port() == code
    assert why in capsys.readouterr().err
    assert releases.untouched() and work.running() == []


def test_the_overlay_may_be_mended_under_a_port(stopped: Releases) -> None:
    """In the tree: then it is the new set's own; or in overlay/: then it stays where it is."""
    plan, init = (f"{PACKAGE}/data_parallel/{name}.py" for name in ("plan", "__init__"))
    stopped.world.overlay({init: "# mended\n"})
    skip_the_rest(stopped)
    (stopped.tree / plan).write_text("answer = 43\n")
    git(stopped.tree, "commit", "-qam", "Another answer")
    assert stopped.world.run("port", "--finish") == 0
    overlay = stopped.world.root / "overlay"
    assert (overlay / "shared" / plan).read_text() == "answer = 42\n"
    assert (overlay / NEW / plan).read_text() == "answer = 43\n"
    assert (overlay / "shared" / init).read_text() == "# mended\n" and not (overlay / NEW / init).exists()


def test_a_state_that_cannot_be_read_can_be_aborted(stopped: Releases) -> None:
    (stopped.tree.parent / "report.json").write_text("{")
    assert stopped.world.run("port", "--finish") == 2
    assert stopped.world.run("port", "--abort") == 0


def replacing(world: World) -> None:
    """The overlay's plan.py takes the place of Comm.size and of choose."""
    own = world.root / "overlay" / SET
    own.mkdir()
    rows = "".join(f'[[module.replaces]]\npath = "{COMM}"\nsymbol = "{symbol}"\n' for symbol in ("Comm.size", "choose"))
    (own / "overlay.toml").write_text(f'[[module]]\npath = "{PACKAGE}/data_parallel/plan.py"\n{rows}')
    world.pin()


CHOOSE, SIZE = (f"{text.rstrip()}\n" for text in UPSTREAM[COMM].split("\n\n\n"))
REWRITTEN = (
    "def choose(batch):\n    return batch.kind\n\n\nclass Comm:\n    def size(self):\n        return len(self)\n"
)


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({}, ["same", "same"]),
        ({COMM: UPSTREAM[COMM].replace("return 1", "return 2")}, ["changed", "same"]),
        ({COMM: UPSTREAM[COMM].partition("class")[0]}, ["gone", "same"]),
        ({COMM: None, f"{PACKAGE}/deep/comm.py": UPSTREAM[COMM]}, ["moved", "moved"]),
        ({COMM: UPSTREAM[COMM].replace("def choose", "def select")}, ["same", "gone"]),
        ({COMM: CHOOSE, f"{PACKAGE}/sizes.py": SIZE}, ["moved", "same"]),
        ({COMM: CHOOSE, f"{PACKAGE}/sizes.py": SIZE.replace(" 1", " 1  # one")}, ["changed", "same"]),
        ({COMM: CHOOSE, f"{PACKAGE}/sizes.py": f"# size\n{SIZE}", f"{PACKAGE}/new.txt": "size"}, ["moved", "same"]),
        ({COMM: CHOOSE, f"{PACKAGE}/sizes.py": "def size(:\n"}, ["gone", "same"]),
        ({COMM: None, f"{PACKAGE}/deep.py": REWRITTEN, f"{PACKAGE}/odd.py": "def f(:\n"}, ["changed", "gone"]),
    ],
)
def test_what_becomes_of_replaced_code(
    releases: Releases, capsys: Capture, changes: dict[str, str | None], findings: list[str]
) -> None:
    replacing(releases.world)
    releases.offer(changes)
    capsys.readouterr()
    assert releases.port("--dry-run", "--json") == 0
    symbols = json.loads(capsys.readouterr().out)["symbols"]
    assert [one["finding"] for one in symbols] == findings
    assert all(bool(one["diff"]) == (one["finding"] == "changed") for one in symbols)


def test_replaced_code_that_differs_must_have_been_read(releases: Releases, capsys: Capture) -> None:
    replacing(releases.world)
    releases.offer({COMM: UPSTREAM[COMM].replace("return 1", "return 2")})
    assert releases.port() == 1
    assert f"{COMM} Comm.size: changed" in capsys.readouterr().err
    assert releases.untouched()
    assert releases.world.run("port", "--finish", "--reviewed") == 0
    text = (releases.world.root / "overlay" / NEW / "overlay.toml").read_text()
    assert sha256(b"    def size(self):\n        return 2\n") in text
    assert releases.world.run("apply", NEW, "--no-smoke", "--offline") == 0


def test_what_the_overlay_declares_comes_along(releases: Releases) -> None:
    world, old = releases.world, f"{PACKAGE}/old.py"
    replacing(world)
    own = world.root / "overlay" / SET
    text = (own / "overlay.toml").read_text()
    breaks = "".join(
        f'[[breaks]]\npath = "{path}"\nsymbol = "{symbol}"\nwhy = "because"\n'
        for path, symbol in ((COMM, "choose"), (COMM, "Comm.gone"), (old, ""))
    )
    (own / "overlay.toml").write_text(text + breaks)
    (own / PACKAGE / "data_parallel").mkdir(parents=True)
    (own / PACKAGE / "data_parallel" / "own.py").write_text("of = 'this set'\n")
    few = {f"{PACKAGE}/data_parallel/{name}.py": "of = 'few sets'\n" for name in ("few", "own")}
    write_tree(world.root / "overlay" / f"v9.9.8+{SET}", few)
    world.pin()
    releases.offer({old: None})
    assert releases.port() == 0
    new = world.root / "overlay" / NEW
    assert (new / PACKAGE / "data_parallel" / "own.py").read_text() == "of = 'this set'\n"
    assert (new / PACKAGE / "data_parallel" / "few.py").read_text() == "of = 'few sets'\n"
    declared = tomllib.loads((new / "overlay.toml").read_text())
    assert declared["breaks"] == [{"path": COMM, "symbol": "choose", "why": "because"}]
    assert declared["module"] == tomllib.loads((own / "overlay.toml").read_text())["module"]


def stopped_between_the_folders(releases: Releases, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A port whose patches/<set> could not be put in place; where both its folders were made."""
    releases.offer({RUNNER: SHIFTED})
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if target == releases.new:
            raise OSError(28, "No space left on device", str(target))
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        assert releases.port() == 6
    staging = releases.tree.parent / "set"
    return staging / "overlay" / NEW, staging / "patches" / NEW


@pytest.mark.parametrize(
    ("moved", "step", "code"),
    [(0, "--finish", 0), (1, "--finish", 0), (1, "--abort", 0), (2, "--finish", 0), (2, "--abort", 2)],
)
def test_a_run_that_ends_while_it_puts_the_set_in_place(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, capsys: Capture, moved: int, step: str, code: int
) -> None:
    """Before its two folders, between them, after both: the next step takes half a set back, and a whole one stays."""
    made = stopped_between_the_folders(releases, monkeypatch)
    assert "No space left on device" in capsys.readouterr().err
    assert releases.untouched() and all(folder.is_dir() for folder in made)
    for folder, place in list(zip(made, (releases.world.root / "overlay" / NEW, releases.new), strict=True))[:moved]:
        folder.rename(place)
        work.folder(NEW).with_name(f".{NEW}.lock").write_text("1\n")  # as of a run that was killed
    assert releases.world.run("port", step) == code
    assert ("is written already" in capsys.readouterr().err) == bool(code)
    assert work.running() == [] and not releases.tree.exists()
    whole = step == "--finish" or moved == 2
    assert releases.untouched() != whole
    if whole:
        assert releases.world.run("apply", NEW, "--no-smoke", "--offline") == 0


def test_an_index_without_digests(releases: Releases, capsys: Capture) -> None:
    releases.offer({})
    page = releases.world.served / "simple" / "vllm-ascend" / "index.html"
    page.write_text(re.sub("#sha256=[0-9a-f]*", "", page.read_text()))
    assert releases.port() == 6
    assert "gives no sha256 for" in capsys.readouterr().err
    assert releases.untouched() and work.running() == []


def test_a_vllm_that_no_release_is_named_after(releases: Releases, capsys: Capture) -> None:
    releases.offer({})
    assert releases.world.run("port", "--from", SET, "--to", "v3.0.0") == 2
    assert "no vllm-ascend is named after vLLM 3.0.0" in capsys.readouterr().err


def test_outlook_looks_at_every_newer_final_release_and_the_newest_of_all(releases: Releases, capsys: Capture) -> None:
    releases.offer({RUNNER: SHIFTED}, "9.10.0")
    releases.offer({RUNNER: STEPS_DONE}, "9.11.0")
    releases.offer(MOVED, "9.11.0.post1")
    releases.offer({}, "9.12.0rc1")
    releases.offer({RUNNER: OVERLAPPING}, "9.12.0rc2")
    before = read_tree(releases.world.root / "patches")
    capsys.readouterr()
    assert releases.world.run("outlook", SET, "--json") == 0
    found = json.loads(capsys.readouterr().out)["releases"]
    assert [one["baseline"]["version"] for one in found] == ["9.10.0", "9.11.0.post1", "9.12.0rc2"]
    assert [one["counts"] for one in found][:2] == [{"clean": 3}, {"clean": 1, "merged": 2}]
    assert "in conflict" in found[2]["counts"]
    assert releases.world.run("outlook", SET, "--against", "9.11.0") == 0
    assert "absorbed" in capsys.readouterr().out
    assert read_tree(releases.world.root / "patches") == before


def test_outlook_writes_its_table_into_a_document(releases: Releases, capsys: Capture) -> None:
    releases.offer({RUNNER: OVERLAPPING}, "9.12.0rc2")
    document = releases.world.root / "outlook.md"
    document.write_text(f"Before.\n\n<!-- outlook: {SET} -->\nold\n<!-- end -->\n\nAfter.\n")
    assert releases.world.run("outlook", SET, "--into", str(document)) == 0
    text = document.read_text()
    assert text.startswith("Before.\n") and text.endswith("<!-- end -->\n\nAfter.\n") and "old\n" not in text
    assert f"{SET} on vllm-ascend 9.12.0rc2" in text and f"| in conflict | {RUNNER} |" in text
    assert releases.world.run("outlook", SET, "--into", str(document)) == 0
    assert document.read_text() == text
    document.write_text("no marks\n")
    assert releases.world.run("outlook", SET, "--into", str(document)) == 2
    assert "has no place for this" in capsys.readouterr().err
    assert releases.world.run("outlook", SET, "--into", str(document.with_name("none"))) == 2


def test_outlook_without_a_newer_release(releases: Releases) -> None:
    assert releases.world.run("outlook", SET) == 2


def test_the_modules_that_a_set_omits_are_omitted_by_the_next() -> None:
    assert tomllib.loads(newset.overlay_toml([], [], ["a/b.py", "c.py"]))["omits"] == ["a/b.py", "c.py"]
    assert "omits" not in tomllib.loads(newset.overlay_toml([], []))
