# SPDX-License-Identifier: Apache-2.0
"""apply, status and revert in place: on a checkout, and on an installation in site-packages."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import GENERATED, PACKAGE, SET, UPSTREAM, VERSION, Capture, World, git, read_tree, sha256, write_tree

from patchset.commands import summary
from patchset.node.errors import UsageError
from patchset.system.terminal import Terminal
from patchset.target import distinfo
from patchset.target.locate import Kind, Target
from patchset.target.revert import RevertResult

INFO = f"{PACKAGE}-{VERSION}.dist-info"


@pytest.fixture
def checkout(world: World) -> Path:
    """A git checkout, in which nobody has committed anything but upstream."""
    folder = world.checkout(world.root.parent / "checkout")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "upstream")
    return folder


@pytest.fixture
def installed(world: World) -> Path:
    return world.site_packages(world.root.parent / "site-packages")


def record_rows(folder: Path) -> list[list[str]]:
    with (folder / INFO / "RECORD").open(newline="") as file:
        return list(csv.reader(file))


def test_a_checkout_is_patched_and_given_back(world: World, checkout: Path, capsys: Capture) -> None:
    before, head = read_tree(checkout), git(checkout, "rev-parse", "HEAD")
    target = ("--target", str(checkout))
    assert world.run("status", SET, *target) == 0
    assert capsys.readouterr().out.startswith("pristine: ")
    assert not (checkout / ".git" / "patchset").exists()
    assert world.run("apply", SET, *target, "--offline") == 0
    assert read_tree(checkout) == {path: data for path, data in world.expected().items() if path not in GENERATED}
    assert git(checkout, "rev-parse", "HEAD") == head, "nothing is committed there"
    assert (checkout / "run.sh").stat().st_mode & 0o777 == 0o755
    capsys.readouterr()
    assert world.run("status", SET, *target) == 0
    assert capsys.readouterr().out.startswith("applied: ")
    assert world.run("apply", SET, *target) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert world.run("revert", SET, *target) == 0
    assert read_tree(checkout) == before
    assert git(checkout, "status", "--porcelain") == ""
    assert not (checkout / ".git" / "patchset").exists()
    assert not world.tree.exists()


def test_a_pristine_target_needs_no_network_and_no_cache(world: World, checkout: Path) -> None:
    shutil.rmtree(world.cached.parent)
    shutil.rmtree(world.root / "build")
    assert world.run("apply", SET, "--target", str(checkout), "--offline") == 0
    assert world.run("revert", SET, "--target", str(checkout), "--offline") == 0


def test_a_bare_package_folder_is_a_target(world: World, tmp_path: Path) -> None:
    folder = world.checkout(tmp_path / "bare")
    for name in ("pyproject.toml", "setup.py", "README.md", "run.sh"):
        (folder / name).unlink()
    before = read_tree(folder)
    assert world.run("apply", SET, "--target", str(folder)) == 0
    assert (folder / PACKAGE / "new.py").exists()
    assert world.run("revert", SET, "--target", str(folder)) == 0
    assert read_tree(folder) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_checkout_of_another_user_keeps_its_owner(world: World, checkout: Path) -> None:
    for path in [checkout, *checkout.rglob("*")]:
        os.chown(path, 1001, 118)
    assert world.run("apply", SET, "--target", str(checkout)) == 0
    for path in (
        PACKAGE + "/runner.py",
        PACKAGE + "/new.py",
        PACKAGE + "/data_parallel",
        PACKAGE + "/data_parallel/plan.py",
    ):
        assert ((checkout / path).stat().st_uid, (checkout / path).stat().st_gid) == (1001, 118), path
    state = checkout / ".git" / "patchset"
    kept = [state, *state.rglob("*")]  # so that this user can take the set back
    assert len(kept) > 4 and {(path.stat().st_uid, path.stat().st_gid) for path in kept} == {(1001, 118)}
    assert world.run("revert", SET, "--target", str(checkout)) == 0
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (checkout / PACKAGE).rglob("*")} == {(1001, 118)}


def test_modes_of_changed_files_stay(world: World, checkout: Path) -> None:
    (checkout / PACKAGE / "runner.py").chmod(0o640)
    assert world.run("apply", SET, "--target", str(checkout)) == 0
    assert (checkout / PACKAGE / "runner.py").stat().st_mode & 0o777 == 0o640


def test_edits_in_a_checkout_are_named_and_kept(world: World, checkout: Path, capsys: Capture) -> None:
    (checkout / PACKAGE / "comm.py").write_text("mine = True\n")
    before = read_tree(checkout)
    assert world.run("apply", SET, "--target", str(checkout)) == 4
    assert "tiny_ascend/comm.py: neither upstream's nor the set's" in capsys.readouterr().err
    assert read_tree(checkout) == before
    assert not (checkout / ".git" / "patchset").exists()


def test_a_link_is_never_written_through(world: World, checkout: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (checkout / PACKAGE / "data_parallel").symlink_to(outside)
    assert world.run("apply", SET, "--target", str(checkout)) == 4
    assert list(outside.iterdir()) == []
    (checkout / PACKAGE / "data_parallel").unlink()
    shared = tmp_path / "runner.py"
    shared.write_bytes((checkout / PACKAGE / "runner.py").read_bytes())
    (checkout / PACKAGE / "runner.py").unlink()
    (checkout / PACKAGE / "runner.py").symlink_to(shared)
    assert world.run("apply", SET, "--target", str(checkout)) == 4
    assert shared.read_text() == UPSTREAM[f"{PACKAGE}/runner.py"]


def test_a_dry_run_refuses_the_links_that_the_run_would(world: World, checkout: Path, capsys: Capture) -> None:
    target, package = ("--target", str(checkout)), checkout / PACKAGE
    for command in ("apply", "revert"):
        package.symlink_to(package.rename(checkout.with_name("elsewhere")))
        for words in (["--dry-run"], []):
            assert world.run(command, SET, *target, *words) == 4
            assert "is a link; nothing is written through links" in capsys.readouterr().err
        package.unlink()
        checkout.with_name("elsewhere").rename(package)
        assert world.run(command, SET, *target) == 0


def test_a_hard_link_is_not_written_through(world: World, installed: Path, tmp_path: Path) -> None:
    """uv links installed files to its cache."""
    twin = tmp_path / "twin.py"
    os.link(installed / PACKAGE / "runner.py", twin)
    assert world.run("apply", SET, "--target", str(installed)) == 0
    assert twin.read_text() == UPSTREAM[f"{PACKAGE}/runner.py"]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_an_installation_is_patched_with_its_record(world: World, tmp_path: Path, ending: str, capsys: Capture) -> None:
    folder = world.site_packages(tmp_path / "sp", ending)
    before, rows = read_tree(folder), record_rows(folder)
    target = ("--target", str(folder))
    assert world.run("apply", SET, *target) == 0
    after = {path: data for path, data in read_tree(folder).items() if ".tiny_ascend.patchset" not in path}
    package = {path: data for path, data in world.expected().items() if path.startswith(f"{PACKAGE}/")}
    assert {path: data for path, data in after.items() if path in package} == package
    assert f"{PACKAGE}/old.py" not in after
    now = {row[0]: row for row in record_rows(folder)}
    for path, data in package.items():
        assert now[path] == distinfo.row(path, data)
    assert f"{PACKAGE}/old.py" not in now and "a,comma.txt" in now
    assert len(now) == len(record_rows(folder)) == len(rows) - 1 + 1 + 2
    assert (ending == "\r\n") == (b"\r\n" in (folder / INFO / "RECORD").read_bytes())
    capsys.readouterr()
    assert world.run("status", SET, *target, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["kind"], status["untracked"]) == ("applied", "site-packages", [])
    assert world.run("revert", SET, *target) == 0
    assert read_tree(folder) == before


def test_bytecode_of_removed_modules_goes(world: World, installed: Path) -> None:
    assert world.run("apply", SET, "--target", str(installed)) == 0
    subprocess.run(["python3", "-m", "compileall", "-q", str(installed / PACKAGE)], check=True)
    assert world.run("revert", SET, "--target", str(installed)) == 0
    assert not (installed / PACKAGE / "data_parallel").exists()


def test_an_edited_record_is_a_modification(world: World, installed: Path, capsys: Capture) -> None:
    assert world.run("apply", SET, "--target", str(installed)) == 0
    with (installed / INFO / "RECORD").open("a") as file:
        file.write("more.py,,\n")
    assert world.run("revert", SET, "--target", str(installed)) == 4
    assert "RECORD" in capsys.readouterr().err


def test_a_reinstalled_package_is_pristine_whatever_its_record(world: World, installed: Path, tmp_path: Path) -> None:
    """pip does not know the state folder; what it leaves behind must not stand in the way."""
    assert world.run("apply", SET, "--target", str(installed)) == 0
    for name in (PACKAGE, INFO):
        shutil.rmtree(installed / name)
    world.site_packages(installed, "\r\n")
    before = {path: data for path, data in read_tree(installed).items() if "patchset" not in path}
    assert world.run("status", SET, "--target", str(installed)) == 0
    assert world.run("apply", SET, "--target", str(installed)) == 0
    assert world.run("revert", SET, "--target", str(installed)) == 0
    assert read_tree(installed) == before


def test_the_state_of_another_release_does_not_outlive_an_upgrade(
    world: World, installed: Path, capsys: Capture
) -> None:
    """pip has replaced a release, to which its set was applied; the state of that one is still there."""
    assert world.run("apply", SET, "--target", str(installed)) == 0
    state = installed / f".{PACKAGE}.patchset" / "state.json"
    past = json.loads(state.read_text())
    row = {"before": sha256(b"a"), "after": sha256(b"b"), "executable": False}
    past |= {"set": "v9.9.8", "files": {f"{PACKAGE}-9.8.dist-info/RECORD": row, f"{PACKAGE}/gone.py": row}}
    state.write_text(json.dumps(past))
    for name in (PACKAGE, INFO):
        shutil.rmtree(installed / name)
    world.site_packages(installed)
    before = {path: data for path, data in read_tree(installed).items() if "patchset" not in path}
    capsys.readouterr()
    assert world.run("status", SET, "--target", str(installed)) == 0
    assert capsys.readouterr().out.startswith("pristine: ")
    assert world.run("apply", SET, "--target", str(installed)) == 0
    assert json.loads(state.read_text())["set"] == SET
    assert world.run("revert", SET, "--target", str(installed)) == 0
    assert read_tree(installed) == before


def test_an_installation_that_came_patched_can_be_reverted(world: World, installed: Path) -> None:
    """As from a patched wheel: no state beside it. Upstream's bytes come from the pinned sdist."""
    before = read_tree(installed)
    assert world.run("apply", SET, "--target", str(installed)) == 0
    shutil.rmtree(installed / f".{PACKAGE}.patchset")
    assert world.run("status", SET, "--target", str(installed)) == 0
    assert world.run("revert", SET, "--target", str(installed), "--offline") == 0
    after = read_tree(installed)
    record = f"{INFO}/RECORD"
    assert sorted(after.pop(record).splitlines()) == sorted(before.pop(record).splitlines())
    assert after == before


OTHER = f"{PACKAGE}-9.8.dist-info"


@pytest.mark.parametrize(
    ("spoil", "code", "why"),
    [
        (lambda site: (site / OTHER).mkdir(), 2, "more than one installation"),
        (lambda site: (site / INFO).rename(site / OTHER), 5, "expected: 9.9rc1\n  found:    9.8"),
        (lambda site: (site / INFO / "RECORD").unlink(), 2, "has no RECORD"),
        (lambda site: (site / INFO / "RECORD").write_text("one,two\n"), 2, "RECORD:1: not a RECORD row"),
        (lambda site: (site / INFO / "RECORD").write_text("a,,\nb,,\na,,\n"), 2, "a file is listed twice"),
    ],
)
def test_an_installation_that_is_not_right(
    world: World, installed: Path, spoil, code: int, why: str, capsys: Capture
) -> None:  # type: ignore[no-untyped-def]
    spoil(installed)
    before = read_tree(installed)
    assert world.run("apply", SET, "--target", str(installed)) == code
    assert why in capsys.readouterr().err
    assert read_tree(installed) == before


def test_an_editable_installation_names_its_target(world: World, installed: Path, capsys: Capture) -> None:
    shutil.rmtree(installed / PACKAGE)
    (installed / INFO / "direct_url.json").write_text('{"url": "file:///src/vllm-ascend", "dir_info": {}}')
    assert world.run("apply", SET, "--target", str(installed)) == 2
    assert "the installation is editable: TARGET=/src/vllm-ascend" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["apply", "status", "revert"])
def test_an_installed_patched_wheel_is_told_for_what_it_is(
    world: World, installed: Path, command: str, capsys: Capture
) -> None:
    (installed / INFO).rename(installed / INFO.replace(VERSION, f"{VERSION}+dp.1"))
    before = read_tree(installed)
    assert world.run(command, SET, "--target", str(installed)) == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"has the patched wheel {VERSION}+dp.1" in said and "patchset verify --installed" in said
    assert f"pip install --no-deps --force-reinstall tiny-ascend=={VERSION}" in said
    assert read_tree(installed) == before


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere", "no such folder"),
        ("", "holds no tiny_ascend/"),
        (f"site-packages/{PACKAGE}", "is the package itself"),
        ("site-packages/other/__init__.py", "no such folder"),
    ],
)
def test_a_target_that_is_none(world: World, installed: Path, path: str, why: str, capsys: Capture) -> None:
    for command in ("apply", "status", "revert"):
        assert world.run(command, SET, "--target", str(installed.parent / path)) == 2
        assert why in capsys.readouterr().err


def test_a_hint_can_be_pasted(world: World, tmp_path: Path, capsys: Capture) -> None:
    folder = world.checkout(tmp_path / "two words")
    (folder / COMM).write_text("mine = True\n")
    assert world.run("apply", SET, "--target", str(folder)) == 4
    assert f"make status VERSION={SET} TARGET='{folder}' shows" in " ".join(capsys.readouterr().err.split("\n  "))
    assert world.run("status", SET, "--target", str(folder / PACKAGE)) == 2
    assert f"TARGET='{folder}'" in capsys.readouterr().err


def test_the_build_tree_named_as_target_is_the_build_tree(world: World, capsys: Capture) -> None:
    world.run("apply", SET, "--no-smoke")
    capsys.readouterr()
    assert world.run("status", SET, "--target", str(world.tree), "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "build"


def test_a_state_that_cannot_be_read_is_not_guessed(world: World, checkout: Path, capsys: Capture) -> None:
    assert world.run("apply", SET, "--target", str(checkout)) == 0
    state = checkout / ".git" / "patchset" / "state.json"
    for text in (
        "{",
        '{"format": 99}',
        '{"format": 1, "set": "v"}',
        '{"format": 1, "set": "", "tree": "", "series": "", "files": {"../x": {}}}',
    ):
        state.write_text(text)
        assert world.run("revert", SET, "--target", str(checkout)) == 2
        assert "state.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "changes", "expected"),
    [
        ("p/a.py,x,1\np/z.py,x,1\n", {"p/b.py": b""}, ["p/a.py", "p/z.py", "p/b.py"]),
        ("p/a.py,x,1\nq.py,,\n", {"p/sub/c.py": b""}, ["p/a.py", "p/sub/c.py", "q.py"]),
        ("p/a.py,x,1\n", {"p/a.py": None}, []),
        ("", {"new.py": b""}, ["new.py"]),
        ('"p/a,b.py",x,1\n', {"p/c,d.py": b""}, ["p/a,b.py", "p/c,d.py"]),
    ],
)
def test_record_rows(record: str, changes: dict[str, bytes | None], expected: list[str]) -> None:
    updated = distinfo.update(record.encode(), changes, "RECORD").decode()
    assert [row[0] for row in csv.reader(updated.splitlines())] == expected


def test_a_record_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(UsageError, match="RECORD: not UTF-8"):
        distinfo.update(b"\xff,,\n", {}, "RECORD")


def test_whoever_reads_the_package_reads_what_is_added(world: World, tmp_path: Path) -> None:
    """A umask of 077 is the administrator's, the service that imports the package another user."""
    site = world.site_packages(tmp_path / "site")
    (site / PACKAGE).chmod(0o755)
    before = os.umask(0o077)
    try:
        assert world.run("apply", SET, "--no-smoke", "--offline", "--target", str(site)) == 0
    finally:
        os.umask(before)
    added = site / PACKAGE / "data_parallel"
    assert added.stat().st_mode & 0o777 == 0o755
    assert (added / "plan.py").stat().st_mode & 0o777 == 0o644
    assert world.run("revert", SET, "--offline", "--target", str(site)) == 0
    (site / PACKAGE).chmod(0o750)
    assert world.run("apply", SET, "--no-smoke", "--offline", "--target", str(site)) == 0
    assert (added.stat().st_mode & 0o777, (added / "plan.py").stat().st_mode & 0o777) == (0o750, 0o640)


@pytest.mark.parametrize("kind", ["build", "checkout", "site-packages"])
def test_a_dry_run_of_revert_changes_nothing(world: World, tmp_path: Path, kind: str, capsys: Capture) -> None:
    folder = {"checkout": world.checkout, "site-packages": world.site_packages}.get(kind, lambda _: world.tree)(
        tmp_path / "target"
    )
    words = [] if kind == "build" else ["--target", str(folder)]
    assert world.run("apply", SET, "--no-smoke", "--offline", *words) == 0
    before = read_tree(folder)
    capsys.readouterr()
    assert world.run("revert", SET, "--dry-run", "--offline", *words, "--json") == 0
    forecast = json.loads(capsys.readouterr().out)
    assert forecast["result"] == "would revert"
    assert read_tree(folder) == before
    assert world.run("revert", SET, "--offline", *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] == forecast["changed"]
    assert world.run("revert", SET, "--dry-run", "--offline", *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["result"] == "unchanged"


COMM = f"{PACKAGE}/comm.py"


def told(world: World, folder: Path, capsys: Capture) -> str:
    """What status and apply say of a target that neither takes."""
    capsys.readouterr()
    assert world.run("status", SET, "--target", str(folder)) == 1
    said = capsys.readouterr().out
    assert world.run("apply", SET, "--target", str(folder)) == 4
    err = capsys.readouterr().err
    looks = [line for line in said.splitlines() if re.match(r"  (this is|only line endings|links)", line)]
    assert all(line in err for line in looks)
    return said


@pytest.mark.parametrize("patched", [False, True])
def test_a_checkout_of_another_sets_release_is_named(
    world: World, checkout: Path, capsys: Capture, patched: bool
) -> None:
    other = world.root / "patches" / "v9.9.11"
    shutil.copytree(world.folder, other)
    (checkout / COMM).write_text("another = True\n")
    file = other / "upstream.sha256"
    before = file.read_bytes()
    file.write_text(before.decode().replace(sha256(UPSTREAM[COMM].encode()), sha256(b"another = True\n")))
    pins = (other / "set.toml").read_text().replace(sha256(before), sha256(file.read_bytes()))
    assert COMM not in pins, "the set leaves it as upstream has it"
    (other / "set.toml").write_text(pins.replace('version = "9.9.9"', 'version = "9.9.11"'))
    if patched:
        made = {path: data for path, data in world.expected().items() if path != COMM and path not in GENERATED}
        for path, data in made.items():
            (checkout / path).parent.mkdir(parents=True, exist_ok=True)
            (checkout / path).write_bytes(data)
        for path in UPSTREAM.keys() - world.expected().keys() - set(GENERATED):
            (checkout / path).unlink()
    with_set = ", with the set applied" if patched else ""
    assert f"this is vllm-ascend {VERSION}, of set v9.9.11{with_set}: VERSION=v9.9.11" in told(world, checkout, capsys)


def test_other_line_endings_and_links_are_named(world: World, checkout: Path, capsys: Capture) -> None:
    (checkout / COMM).write_bytes(UPSTREAM[COMM].replace("\n", "\r\n").encode())
    assert "only line endings differ in 1 file " in told(world, checkout, capsys)
    (checkout / COMM).unlink()
    (checkout / COMM).symlink_to(checkout / "setup.py")
    assert f"links, not files: 1, {COMM} among them" in told(world, checkout, capsys)


def test_a_long_list_of_files_is_cut(world: World, checkout: Path, capsys: Capture) -> None:
    for path in UPSTREAM.keys() - set(GENERATED):
        (checkout / path).write_text("changed\n")
    said = told(world, checkout, capsys)
    assert "this is" not in said and len(said.splitlines()) <= 25


@pytest.mark.parametrize("kind", ["build", "checkout", "site-packages"])
def test_modified_files_are_rescued(world: World, kind: str, request: pytest.FixtureRequest, capsys: Capture) -> None:
    """A patched file, one of upstream alone and one that the set adds: copied, and upstream is there again."""
    fixtures = {"checkout": "checkout", "site-packages": "installed"}
    folder = request.getfixturevalue(fixtures[kind]) if kind in fixtures else world.tree
    target = ("--target", str(folder)) if kind in fixtures else ()
    before = read_tree(folder) if kind in fixtures else {path: text.encode() for path, text in UPSTREAM.items()}
    assert world.run("apply", SET, *target) == 0
    mine = {f"{PACKAGE}/{name}": f"{name} = 'mine'\n" for name in ("runner.py", "comm.py", "new.py")}
    write_tree(folder, mine)
    assert world.run("revert", SET, *target) == 4
    there = f" TARGET={folder}" if kind in fixtures else ""
    assert f"make revert VERSION={SET}{there} RESCUE=dir" in capsys.readouterr().err
    rescue = world.root.parent / "rescued" / "here"
    assert world.run("revert", SET, *target, "--rescue", str(rescue), "--dry-run") == 0
    assert not rescue.exists() and "would be copied: tiny_ascend/comm.py" in capsys.readouterr().out
    assert world.run("revert", SET, *target, "--rescue", str(rescue)) == 0
    assert read_tree(rescue) == {path: text.encode() for path, text in mine.items()}
    assert read_tree(folder) == before
    write_tree(folder, {f"{PACKAGE}/comm.py": "again = 1\n"})
    assert world.run("revert", SET, *target, "--rescue", str(rescue)) == 2
    assert "is there already; nothing was changed" in capsys.readouterr().err


def test_a_deleted_file_is_not_said_to_be_rescued(world: World, checkout: Path, capsys: Capture) -> None:
    """Nothing of it can be copied; upstream's is there again."""
    (checkout / COMM).unlink()
    rescue = checkout.with_name("rescued")
    for words in (["--dry-run"], []):
        capsys.readouterr()
        assert world.run("revert", SET, "--target", str(checkout), "--rescue", str(rescue), *words) == 0
        said = capsys.readouterr().out
        assert "copied" not in said and "1 file" in said
    assert not rescue.exists() and (checkout / COMM).read_text() == UPSTREAM[COMM]


@pytest.mark.parametrize(("result", "word"), [("unchanged", "copied"), ("would revert", "would be copied")])
def test_only_a_dry_run_says_what_it_would_copy(checkout: Path, result: str, word: str, capsys: Capture) -> None:
    target = Target(Kind.CHECKOUT, checkout, SET, checkout / ".git" / "patchset")
    summary.reverted(RevertResult(target, result, (), "", (COMM,)), Terminal())
    assert f"modified, and {word}: {COMM}" in capsys.readouterr().out


def test_the_state_of_a_checkout_moves_with_it(world: World, checkout: Path) -> None:
    assert world.run("apply", SET, "--target", str(checkout)) == 0
    assert (checkout / ".git" / "patchset" / "state.json").is_file() and git(checkout, "status", "--short")
    moved = checkout.rename(checkout.with_name("moved"))
    assert world.run("revert", SET, "--target", str(moved)) == 0
    assert not (moved / ".git" / "patchset").exists() and not git(moved, "status", "--short")


def test_the_state_beside_a_checkout_of_an_earlier_version_counts(world: World, checkout: Path) -> None:
    assert world.run("apply", SET, "--target", str(checkout)) == 0
    beside = (checkout / ".git" / "patchset").rename(checkout.with_name(".checkout.patchset"))
    assert world.run("revert", SET, "--target", str(checkout)) == 0
    assert not beside.exists()
