# SPDX-License-Identifier: Apache-2.0
"""make: which variables it takes, how .venv comes about, and what clean may remove."""

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SET, Capture, World, git

ROOT = Path(__file__).resolve().parents[2]

# In the place of uv: writes down how it was called, and fails on demand.
UV = """#!/bin/sh
[ "$1" = --version ] && { echo "uv 1 (of today)"; exit 0; }
echo "$*" >> "$UV_CALLS"
[ -e "$UV_CALLS.fails" ] && { echo "no route to the index"; exit 1; }
exit 0
"""


def make(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "VERSON=v1"], "no variable VERSON; is it VERSION?; next: `make help` lists them"),
        (["apply", "TRAGET=/x"], "no variable TRAGET; is it TARGET?"),
        (["apply", "DRYRUN=1"], "no variable DRYRUN; is it DRY_RUN?"),
        (["clean", "DRY_RUN=1"], "DRY_RUN is not for `make clean`"),
        (["wheels", "DRY_RUN=1"], "DRY_RUN is not for `make wheels`"),
        (["pin", "DRY_RUN=1"], "DRY_RUN is not for `make pin`"),
        (["wheels", "TARGET=/x"], "TARGET is not for `make wheels`"),
        (["lint", "VERSION=v1"], "VERSION is not for `make lint`"),
        (["revert", "clean", "DRY_RUN=1"], "DRY_RUN is not for `make clean`"),
        (["apply", "wheels", "TARGET=/x"], "TARGET is not for `make wheels`"),
        (["status", "XQ=1"], "no variable XQ; next: `make help` lists them"),
    ],
)
def test_a_variable_that_would_be_ignored_is_refused(words: list[str], said: str) -> None:
    done = make(ROOT, "-n", *words)
    assert done.returncode == 2 and said in done.stderr
    assert "rm" not in done.stdout and "patchset" not in done.stdout


def test_an_apostrophe_in_a_path_is_one_of_the_path(tmp_path: Path) -> None:
    done = make(ROOT, "-n", "-o", ".venv/.ready", "status", "TARGET=it's here")
    assert "--target 'it'\\''s here'" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["apply", "VERSION=v1", "TARGET=/x", "UPSTREAM=/y", "OFFLINE=1", "DRY_RUN=1", "SMOKE=0", "DEVICE=npu"],
        ["revert", "DRY_RUN=1", "JSON=1"],
        ["port", "FROM=v1", "TO=v2", "COMMIT=a", "STEP=finish", "HISTORY=a", "REVIEWED=1"],
        ["wheels", "FROM=source", "SIGN=key", "LOCAL=dp.2"],
        ["test", "OFFLINE=1", "PYTHON=python3"],
        ["help", "VERSION=v1"],
        ["apply", "status", "SMOKE=0"],
    ],
    ids=lambda words: words[0],
)
def test_a_variable_of_the_target_is_taken(words: list[str]) -> None:
    done = make(ROOT, "-n", "-o", ".venv/.ready", "-o", ".venv/.dev", *words)
    assert done.returncode == 0, done.stderr


def test_the_environment_is_not_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARGET", "/x")
    assert make(ROOT, "-n", "-o", ".venv/.ready", "stats").returncode == 0


def test_a_make_that_another_project_runs_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    done = make(ROOT, "-n", "apply", "VERSON=v1")
    assert done.returncode == 2 and "no variable VERSON" in done.stderr


@pytest.mark.parametrize("target", ["test", "coverage"])
def test_what_would_be_run_is_shown_and_not_run(target: str, tmp_path: Path) -> None:
    """What is measured so far stays, also where these tests are part of the measured run."""
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    measured = tmp_path / "build" / "coverage" / "data.1"
    measured.parent.mkdir(parents=True)
    measured.write_text("")
    needed = [f"requirements/{name}.txt" for name in ("bootstrap", "tool", "dev")]
    for name in [*needed, "pyproject.toml", "patches/v0.10.1.1/set.toml"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    done = make(tmp_path, "-n", target)
    assert done.returncode == 0 and "rm -rf build/coverage" in done.stdout, done.stderr
    assert measured.is_file()


def test_what_set_up_leaves_is_no_change_to_the_repository() -> None:
    left = [".venv/x", ".venv.lock", ".venv.old/x"]
    done = subprocess.run(["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == left


def test_each_target_that_the_list_names_is_there() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = {
        line.partition(":")[0] for line in text.splitlines() if "##" in line and not line.startswith(("#", "\t"))
    }
    for line in text.splitlines():
        if line.startswith("#: "):
            named = line[line.rindex("(") + 1 : line.rindex(")")].removeprefix("any").removeprefix(" but ")
            assert {name for name in named.split(", ") if name} <= targets, line


@dataclass(frozen=True)
class Checkout:
    """A folder in which `bootstrap.py` works, with a .venv whose uv is not one."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    def start(self, *words: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(self.root / "scripts" / "bootstrap.py"), *words]
        environ = os.environ | {"UV_CALLS": str(self.root / "calls"), "PIP_NO_INDEX": "1"}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ)

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        said = process.communicate()[1]
        return process.returncode, said

    def calls(self) -> list[str]:
        """How uv was called since the last time."""
        file = self.root / "calls"
        found = file.read_text().splitlines() if file.is_file() else []
        file.unlink(missing_ok=True)
        return found


@pytest.fixture(scope="module")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = Checkout(tmp_path_factory.mktemp("checkout") / "repo")
    (made.root / "scripts").mkdir(parents=True)
    (made.root / "scripts" / "bootstrap.py").write_bytes((ROOT / "scripts" / "bootstrap.py").read_bytes())
    (made.root / "pyproject.toml").write_text('[build-system]\nrequires = []\n[project]\nname = "x"\nversion = "1"\n')
    (made.root / "requirements").mkdir()
    for name in ("bootstrap.txt", "tool.txt", "dev.txt"):
        (made.root / "requirements" / name).write_text("")
    venv.create(made.venv, with_pip=True)
    (made.venv / "bin" / "uv").write_text(UV)
    (made.venv / "bin" / "uv").chmod(0o755)
    (made.venv / "bin" / "patchset").write_text("")
    (made.venv / ".made-for").write_text(f"{made.root}\n")
    return made


@pytest.fixture
def checkout(prototype: Checkout) -> Checkout:
    """As after a first run."""
    (prototype.root / "requirements" / "tool.txt").write_text("")
    (prototype.root / "calls.fails").unlink(missing_ok=True)
    (prototype.venv / ".ready").unlink(missing_ok=True)
    assert prototype.run("tool")[0] == 0
    prototype.calls()
    return prototype


def test_a_touched_file_costs_nothing(checkout: Checkout) -> None:
    """A change to the settings of tools in pyproject.toml neither, and the stamp is newer than the file afterwards."""
    project = checkout.root / "pyproject.toml"
    project.write_text(project.read_text() + "[tool.x]\ny = 1\n")
    os.utime(checkout.venv / ".ready", (0, 0))
    assert checkout.run("tool")[0] == 0
    assert checkout.calls() == []
    assert (checkout.venv / ".ready").stat().st_mtime > project.stat().st_mtime - 1


def test_another_lock_is_installed(checkout: Checkout) -> None:
    (checkout.root / "requirements" / "tool.txt").write_text("# other\n")
    assert checkout.run("tool")[0] == 0
    assert len(checkout.calls()) == 2
    assert checkout.run("dev", "--offline")[0] == 0
    (only,) = checkout.calls()
    assert only.startswith("--quiet --offline pip install --require-hashes") and only.endswith("dev.txt")


def test_without_a_network_the_tool_stays(checkout: Checkout) -> None:
    (checkout.root / "requirements" / "tool.txt").write_text("# other\n")
    (checkout.root / "calls.fails").write_text("")
    files = sorted(checkout.venv.rglob("*"))
    code, said = checkout.run("tool")
    assert code == 6
    assert "no route to the index" in said and "PIP_FIND_LINKS=DIR" in said and "bin/patchset still runs" in said
    assert sorted(checkout.venv.rglob("*")) == files
    (checkout.root / "calls.fails").unlink()
    assert checkout.run("tool")[0] == 0  # taken up again


@pytest.mark.parametrize("killed", [False, True])
def test_a_venv_of_another_python_is_kept_until_the_new_one_is_whole(checkout: Checkout, killed: bool) -> None:
    """The index of these runs is none and bootstrap.txt asks for a package, so that the new one cannot be filled."""
    python, bootstrap = checkout.venv / "bin" / "python", checkout.root / "requirements" / "bootstrap.txt"
    kept = python.rename(checkout.root / "python")
    python.write_text("#!/bin/sh\necho '(3, 1)'\n")
    python.chmod(0o755)
    (checkout.venv / ".ready").unlink()
    bootstrap.write_text(f"uv==0.0.0 --hash=sha256:{'0' * 64}\n")
    if killed:
        checkout.venv.rename(checkout.root / ".venv.old")
        checkout.venv.mkdir()
    code, said = checkout.run("tool")
    bootstrap.write_text("")
    assert code == 6 and "bin/patchset still runs" in said
    assert (checkout.venv / "bin" / "patchset").is_file() and "(3, 1)" in python.read_text()
    assert not (checkout.root / ".venv.old").exists()
    kept.replace(python)


def test_a_checkout_that_was_copied_has_a_venv_of_its_own(checkout: Checkout, tmp_path: Path) -> None:
    """Without a network, too: uv is the one that was there. The first one is as it was."""
    before = sorted(checkout.venv.rglob("*"))
    copy = Checkout(shutil.copytree(checkout.root, tmp_path / "a copy", symlinks=True))
    locked = copy.root / "requirements" / "bootstrap.txt"
    locked.write_text(f"uv==2 --hash=sha256:{'0' * 64}\n")
    code, said = copy.run("tool", "--offline")
    assert code == 6 and "No matching distribution found for uv==2" in said and "still runs" not in said
    assert (copy.venv / ".made-for").read_text() == f"{checkout.root}\n"
    locked.write_text(f"uv==1 --hash=sha256:{'0' * 64}\n")
    code, said = copy.run("tool", "--offline")
    assert code == 0 and f".venv was not made for {copy.root}" in said
    assert len(copy.calls()) == 2 and copy.run("tool")[0] == 0 and copy.calls() == []
    assert (copy.venv / ".made-for").read_text() == f"{copy.root}\n"
    assert str(copy.venv) in (copy.venv / "bin" / "activate").read_text()
    assert not (copy.root / ".venv.old").exists()
    assert sorted(checkout.venv.rglob("*")) == before


def test_a_venv_that_is_a_link_is_set_aside_once(checkout: Checkout, tmp_path: Path) -> None:
    copy = Checkout(shutil.copytree(checkout.root, tmp_path / "copy", ignore=lambda *_: {".venv"}))
    copy.venv.symlink_to(checkout.venv)
    (copy.root / "requirements" / "bootstrap.txt").write_text("uv==1 \n")
    assert copy.run("tool", "--offline")[0] == 0
    assert not copy.venv.is_symlink() and not (copy.root / ".venv.old").is_symlink()
    assert (checkout.venv / ".ready").is_file()


def test_make_asks_for_which_folder_the_venv_was_made(tmp_path: Path) -> None:
    root = tmp_path / "a folder"
    for name in ("pyproject.toml", "requirements/bootstrap.txt", "requirements/tool.txt", ".venv/.ready"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    for told, made in ((root, False), (tmp_path / "another", True), (None, True)):
        (root / ".venv" / ".made-for").write_text(f"{told}\n") if told else (root / ".venv" / ".made-for").unlink()
        done = make(root, "-n", "status")
        assert ("bootstrap.py tool" in done.stdout) == made, done.stderr


def test_a_checkout_that_cannot_be_written_is_named(checkout: Checkout) -> None:
    """A folder in the place of the lock stops root, too."""
    lock = checkout.root / ".venv.lock"
    lock.unlink()
    lock.mkdir()
    code, said = checkout.run("tool")
    lock.rmdir()
    assert code == 6 and "Traceback" not in said
    assert said.startswith("error: could not bring .venv up to date") and f"{lock}: Is a directory" in said
    assert "next: run the same command as a user who may write there" in said


def test_two_first_runs_at_once(checkout: Checkout) -> None:
    (checkout.venv / ".ready").unlink()
    runs = [checkout.start("tool") for _ in range(2)]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert len(checkout.calls()) == 2  # the tool's packages and the tool itself, once


def test_clean_keeps_work(world: World, capsys: Capture) -> None:
    assert world.run("unsaved") == 0
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    assert world.run("unsaved") == 0
    (world.tree / "tiny_ascend" / "comm.py").write_text("mine = True\n")
    dist = world.root / "dist" / SET
    dist.mkdir(parents=True)
    (dist / "SHA256SUMS.minisig").write_text("")
    port = world.root / "build" / "port" / "v9.9.10"
    port.mkdir(parents=True)
    (port / "report.json").write_text("{}")
    assert world.run("unsaved") == 4
    said = capsys.readouterr().err
    assert "1 file changed by hand" in said and "a port is under way" in said and "signed wheels" in said
    assert "make clean-all" in said


def test_clean_keeps_the_tree_of_a_set_of_another_branch(world: World, capsys: Capture) -> None:
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    world.folder.rename(world.root / "elsewhere")
    assert world.run("unsaved") == 4
    assert "a set that is not in patches/ here" in capsys.readouterr().err


def test_clean_keeps_commits(world: World, capsys: Capture) -> None:
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    (world.tree / "tiny_ascend" / "comm.py").write_text("mine = True\n")
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "-qam", "Mine"]
    subprocess.run(commit, cwd=world.tree, check=True)
    assert world.run("unsaved") == 4
    assert "a commit is not in patches/; keep them with patchset export" in capsys.readouterr().err


def test_clean_keeps_new_files(world: World, capsys: Capture) -> None:
    """Staged or not; what Python and builds leave there goes."""
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    cached = world.tree / "tiny_ascend" / "__pycache__" / "new.cpython-311.pyc"
    cached.parent.mkdir()
    cached.write_text("")
    assert world.run("unsaved") == 0
    (world.tree / "tiny_ascend" / "mine.py").write_text("mine = True\n")
    assert world.run("unsaved") == 4
    said = f"{world.tree}: 1 file that neither upstream nor the set has, tiny_ascend/mine.py among them"
    assert said in capsys.readouterr().err
    git(world.tree, "add", "tiny_ascend/mine.py")
    assert world.run("unsaved") == 4
    assert said in capsys.readouterr().err


def test_clean_keeps_what_is_stashed(world: World, capsys: Capture) -> None:
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    (world.tree / "tiny_ascend" / "comm.py").write_text("mine = True\n")
    git(world.tree, "stash")
    assert world.run("unsaved") == 4
    assert "changes that git has stashed" in capsys.readouterr().err


def commit(world: World, text: str, *how: str) -> None:
    """Commits a change as its author."""
    (world.tree / "tiny_ascend" / "comm.py").write_text(text)
    git(world.tree, "commit", "-qam", "Mine\n\nWhy: so.\n\nHow: so.", *how)


def test_clean_keeps_commits_of_another_branch(world: World, capsys: Capture) -> None:
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    git(world.tree, "checkout", "-qb", "mine")
    commit(world, "mine = True\n")
    git(world.tree, "checkout", "-q", SET)
    assert world.run("status", SET) == 0
    assert world.run("unsaved") == 4
    assert f"{world.tree}: 1 commit on mine that patches/ does not hold" in capsys.readouterr().err
    git(world.tree, "cherry-pick", "mine")  # as it was on the branch
    assert world.run("export", SET, "--offline") == 0
    assert world.run("unsaved") == 0


def test_clean_keeps_commits_that_apply_took_off_the_sets_branch(world: World, capsys: Capture) -> None:
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    commit(world, "mine = True\n")
    mine = git(world.tree, "rev-parse", "HEAD").strip()
    git(world.tree, "checkout", "-q", "upstream")
    assert world.run("unsaved") == 4
    assert f"1 commit on {SET} that" in capsys.readouterr().err
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    assert world.run("unsaved") == 4
    assert f"1 commit on refs/patchset/before/{mine} that" in capsys.readouterr().err


def test_clean_takes_the_branches_that_exports_left_behind(world: World) -> None:
    """The first one changes a module, too, which is in no patch; the second changes that commit."""
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    git(world.tree, "checkout", "-qb", "mine")
    (world.tree / "tiny_ascend" / "data_parallel" / "plan.py").write_text("answer = 43\n")
    commit(world, "mine = True\n")
    assert world.run("export", SET, "--offline") == 0
    assert world.run("unsaved") == 0
    commit(world, "mine = 1\n", "--amend")
    assert world.run("export", SET, "--offline") == 0
    commit(world, "mine = 2\n", "--amend")
    assert world.run("export", SET, "--offline") == 0
    assert git(world.tree, "rev-parse", "mine") != git(world.tree, "rev-parse", "HEAD")
    assert world.run("unsaved") == 0


@pytest.mark.parametrize("name", ["build", "dist"])
def test_nothing_is_rescued_to_where_clean_removes_it(world: World, name: str, capsys: Capture) -> None:
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    (world.tree / "tiny_ascend" / "comm.py").write_text("mine = True\n")
    rescue = world.root / name / "kept"
    assert world.run("revert", SET, "--offline", "--rescue", str(rescue)) == 2
    said = capsys.readouterr().err
    assert (
        f"{rescue} is in {name}/, which `make clean` removes" in said and f"RESCUE={world.root.parent / 'kept'}" in said
    )
    assert not rescue.exists() and (world.tree / "tiny_ascend" / "comm.py").read_text() == "mine = True\n"
