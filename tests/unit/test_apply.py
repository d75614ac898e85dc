# SPDX-License-Identifier: Apache-2.0
"""apply, status and revert on the tree in build/."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import (
    GENERATED,
    PACKAGE,
    SET,
    UPSTREAM,
    Capture,
    World,
    git,
    make_sdist,
    make_world,
    read_tree,
    sha256,
    usual,
    write_tree,
)


def document(capsys: Capture) -> dict:  # type: ignore[type-arg]
    value = json.loads(capsys.readouterr().out)
    assert isinstance(value, dict)
    return value


def pristine() -> dict[str, bytes]:
    return {path: text.encode() for path, text in UPSTREAM.items()}


def test_the_tree_is_upstream_with_the_patches_and_the_overlay(world: World, capsys: Capture) -> None:
    assert world.run("apply", SET, "--no-smoke") == 0
    assert read_tree(world.tree) == world.expected()
    out = capsys.readouterr().out
    for name in world.names:
        assert name in out
    assert "D1, D3" in out and "applied to" in out
    assert (world.tree / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (world.tree / PACKAGE / "runner.py").stat().st_mode & 0o777 == 0o644
    assert not list(world.tree.rglob("*.pyc"))


def test_an_empty_series_gives_upstream(empty: World) -> None:
    empty.pin()
    assert empty.run("apply", SET, "--no-smoke") == 0
    assert read_tree(empty.tree) == pristine()
    assert empty.run("status", SET) == 0
    assert empty.run("revert", SET) == 0
    assert read_tree(empty.tree) == pristine()


def test_git_log_is_the_review(world: World) -> None:
    world.run("apply", SET, "--no-smoke")
    subjects = git(world.tree, "log", "--reverse", "--format=%s").splitlines()
    assert subjects == [
        "vllm-ascend 9.9rc1 as released",
        "Install the overlay",
        "Do 0001-steps.patch",
        "Do 0002-hook.patch",
        "Do 0003-drop-old.patch",
    ]
    assert git(world.tree, "status", "--porcelain") == ""
    assert git(world.tree, "log", "--format=%an|%cn", f"-{3}").splitlines()[1] == "A Maintainer|patchset"
    body = git(world.tree, "log", "--format=%B", "-1")
    assert "Why: because." in body and "Resolves: D1, D3" in body
    trailers = git(world.tree, "log", "--format=%(trailers:key=Resolves,valueonly)", "-1")
    assert trailers.strip() == "D1, D3"
    assert set(git(world.tree, "ls-files", "-z").split("\0")[:-1]) == set(world.expected())


def test_two_machines_make_the_same_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask, the time zone, the locale and git's settings are."""
    commits = []
    for number, umask in enumerate((0o022, 0o077)):
        folder = tmp_path / f"machine-{number}"
        world = make_world(folder)
        monkeypatch.setenv("PATCHSET_ROOT", str(world.root))
        usual(world)
        import os

        before = os.umask(umask)
        try:
            if number:
                settings = Path(os.environ["HOME"]) / ".gitconfig"
                settings.write_text(
                    "[user]\nname = Else\n[core]\nautocrlf = true\nfileMode = false\nattributesFile = ~/attr\n"
                    "[init]\ndefaultBranch = other\n[commit]\ngpgSign = true\n[apply]\nwhitespace = fix\n"
                )
                (Path(os.environ["HOME"]) / "attr").write_text("* text eol=crlf\n")
                monkeypatch.setenv("TZ", "Asia/Tokyo")
                monkeypatch.setenv("GIT_AUTHOR_NAME", "Else")
                monkeypatch.setenv("GIT_DIR", "/nowhere")
                monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
            assert world.run("apply", SET, "--no-smoke") == 0
        finally:
            os.umask(before)
        commits.append((world.tree / ".git" / "refs" / "heads" / SET).read_text())
        assert (world.tree / "run.sh").stat().st_mode & 0o777 == 0o755
    assert commits[0] == commits[1]


def test_a_second_apply_says_that_there_is_nothing_to_do(world: World, capsys: Capture) -> None:
    world.run("apply", SET, "--no-smoke")
    stamp = {path: path.stat().st_mtime_ns for path in world.tree.rglob("*")}
    capsys.readouterr()
    assert world.run("apply", SET) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in world.tree.rglob("*")} == stamp


def test_status_and_revert_and_apply_again(world: World, capsys: Capture) -> None:
    assert world.run("revert", SET) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert not world.tree.parent.joinpath(".vllm-ascend.patchset").exists()
    assert world.run("status", SET) == 1
    assert capsys.readouterr().out.startswith("absent: ")
    world.run("apply", SET, "--no-smoke", "--json")
    first = document(capsys)
    assert world.run("status", SET, "--json") == 0
    assert (status := document(capsys))["state"] == "applied"
    assert status["digest"] == first["tree"]
    assert world.run("revert", SET) == 0
    assert read_tree(world.tree) == pristine()
    assert git(world.tree, "status", "--porcelain") == ""
    assert sorted(path.name for path in world.tree.parent.iterdir()) == [".pristine.lock", "pristine", "vllm-ascend"]
    capsys.readouterr()
    assert world.run("status", SET, "--json") == 0
    assert document(capsys)["state"] == "pristine"
    assert world.run("revert", SET) == 0
    assert "nothing to do" in capsys.readouterr().out
    world.run("apply", SET, "--no-smoke", "--json")
    assert document(capsys) | {"changed": [], "result": ""} == first | {"changed": [], "result": ""}
    assert read_tree(world.tree) == world.expected()
    assert git(world.tree, "status", "--porcelain") == ""


def test_a_dry_run_says_all_and_changes_nothing(world: World, capsys: Capture) -> None:
    shutil.rmtree(world.root / "build")
    before = set(world.root.rglob("*"))
    assert world.run("apply", SET, "--dry-run", "--json") == 0
    dry = document(capsys)
    assert dry["result"] == "would apply"
    assert f"{PACKAGE}/runner.py" in dry["changed"] and f"{PACKAGE}/data_parallel/plan.py" in dry["changed"]
    assert set(world.root.rglob("*")) == before
    world.run("apply", SET, "--no-smoke", "--json")
    assert document(capsys)["tree"] == dry["tree"]


@pytest.mark.parametrize("kind", ["sdist", "directory", "checkout"])
def test_upstream_from_a_path(kind: str, world: World, tmp_path: Path) -> None:
    shutil.rmtree(world.cached.parent)
    shutil.rmtree(world.tree.parent, ignore_errors=True)
    given = tmp_path / "given"
    expected = world.expected()
    if kind == "sdist":
        given.write_bytes(world.sdist)
    else:
        write_tree(given, UPSTREAM)
    if kind == "checkout":
        for path in GENERATED:
            (given / path).unlink()
        del expected["PKG-INFO"]  # the entry points are made again, or vLLM would not find the plugin
        git(given, "init", "-q")
        git(given, "add", "-A")
        git(given, "commit", "-qm", "x")
        (given / "notes.txt").write_text("mine")
    assert world.run("apply", SET, "--no-smoke", "--offline", "--upstream", str(given)) == 0
    assert read_tree(world.tree) == expected
    assert world.run("status", SET) == 0


def test_a_dry_run_on_a_target_changes_nothing_either(world: World, tmp_path: Path, capsys: Capture) -> None:
    target = world.checkout(tmp_path / "target")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert world.run("apply", SET, "--dry-run", "--target", str(target)) == 0
    assert "nothing was changed: 5 files would be in" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_upstream_that_is_not_the_release(world: World, tmp_path: Path, capsys: Capture) -> None:
    given = write_tree(tmp_path / "given", UPSTREAM)
    (given / PACKAGE / "comm.py").write_text("other = True\n")
    (given / PACKAGE / "old.py").unlink()
    assert world.run("apply", SET, "--no-smoke", "--upstream", str(given)) == 5
    message = capsys.readouterr().err
    assert "tiny_ascend/comm.py: changed" in message and "tiny_ascend/old.py: missing" in message
    make_sdist(tmp_path / "other.tar.gz", {**UPSTREAM, "x": "y"})
    assert world.run("apply", SET, "--no-smoke", "--upstream", str(tmp_path / "other.tar.gz")) == 5
    assert world.run("apply", SET, "--no-smoke", "--upstream", str(tmp_path / "nothing")) == 2
    assert not world.tree.exists()


def test_an_edited_tree_is_never_overwritten(world: World, capsys: Capture) -> None:
    world.run("apply", SET, "--no-smoke")
    edited = world.tree / PACKAGE / "runner.py"
    edited.write_text("mine = True\n")
    (world.tree / "README.md").write_text("mine\n")
    (world.tree / PACKAGE / "data_parallel" / "plan.py").unlink()
    for command in (["apply", SET, "--no-smoke"], ["revert", SET]):
        assert world.run(*command) == 4
        message = capsys.readouterr().err
        for line in ("README.md: neither", "tiny_ascend/runner.py: neither"):
            assert line in message
    assert edited.read_text() == "mine = True\n"
    assert world.run("status", SET, "--json") == 1
    status = document(capsys)
    assert status["state"] == "modified"
    found = {row["path"]: (row["found"], row["differs_from"]) for row in status["differing"]}
    assert found["README.md"] == ("changed", "upstream")
    assert found[f"{PACKAGE}/runner.py"] == ("changed", "upstream and the set")


def test_files_of_ones_own_stay(world: World, capsys: Capture) -> None:
    world.run("apply", SET, "--no-smoke")
    mine = world.tree / PACKAGE / "mine.py"
    mine.write_text("mine = True\n")
    (world.tree / PACKAGE / "_build_info.py").write_text("")
    (world.tree / PACKAGE / "x.so").write_text("")
    (world.tree / PACKAGE / "__pycache__").mkdir()
    (world.tree / PACKAGE / "__pycache__" / "x.pyc").write_text("")
    capsys.readouterr()
    assert world.run("status", SET, "--json") == 0
    assert document(capsys)["untracked"] == [f"{PACKAGE}/mine.py"]
    assert world.run("revert", SET) == 0
    assert mine.read_text() == "mine = True\n"


def test_a_foreign_file_where_the_overlay_goes_is_a_conflict(world: World, capsys: Capture) -> None:
    world.run("apply", SET, "--no-smoke")
    world.run("revert", SET)
    mine = world.tree / PACKAGE / "data_parallel" / "plan.py"
    mine.parent.mkdir()
    mine.write_text("mine = True\n")
    capsys.readouterr()
    assert world.run("apply", SET, "--no-smoke") == 4
    assert "plan.py: a file of another origin where the set puts its own" in capsys.readouterr().err
    assert mine.read_text() == "mine = True\n"


def test_a_changed_set_updates_the_tree(world: World, capsys: Capture) -> None:
    world.run("apply", SET, "--no-smoke")
    old = git(world.tree, "rev-parse", "HEAD").strip()
    world.overlay({f"{PACKAGE}/data_parallel/plan.py": "answer = 43\n"})
    (world.root / "overlay" / "shared" / PACKAGE / "data_parallel" / "__init__.py").unlink()
    assert world.run("apply", SET, "--no-smoke") == 5
    assert "patchset pin" in capsys.readouterr().err
    world.pin()
    capsys.readouterr()
    assert world.run("status", SET) == 1
    assert capsys.readouterr().out.startswith("partial: ")
    assert world.run("apply", SET, "--no-smoke") == 0
    assert read_tree(world.tree) == world.expected()
    assert git(world.tree, "status", "--porcelain") == ""
    assert git(world.tree, "rev-parse", f"refs/patchset/before/{old}").strip() == old
    assert world.run("revert", SET) == 0
    assert read_tree(world.tree) == pristine()


def test_a_changed_header_changes_the_history_alone(world: World, capsys: Capture) -> None:
    world.run("apply", SET, "--no-smoke")
    file = world.folder / "0001-steps.patch"
    file.write_text(file.read_text().replace("Subject: Do", "Subject: Do again"))
    capsys.readouterr()
    assert world.run("apply", SET, "--no-smoke") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert git(world.tree, "log", "--format=%s", "-1", "HEAD~2") == "Do again 0001-steps.patch\n"
    assert git(world.tree, "status", "--porcelain") == ""
    assert read_tree(world.tree) == world.expected()


def test_a_tree_without_its_git_folder_or_its_state_still_reverts(world: World) -> None:
    world.run("apply", SET, "--no-smoke")
    shutil.rmtree(world.tree / ".git")
    shutil.rmtree(world.tree.parent / ".vllm-ascend.patchset")
    assert world.run("status", SET) == 0
    assert world.run("revert", SET) == 0
    assert read_tree(world.tree) == pristine()
    assert world.run("apply", SET, "--no-smoke") == 0
    assert read_tree(world.tree) == world.expected()
    assert len(git(world.tree, "log", "--oneline").splitlines()) == 5


def test_a_patch_whose_result_does_not_compile(empty: World, capsys: Capture) -> None:
    empty.patch("0001-broken.patch", {f"{PACKAGE}/comm.py": "def broken(:\n"})
    assert empty.run("apply", SET, "--no-smoke") == 3
    assert "tiny_ascend/comm.py does not compile after 0001-broken.patch: line 1" in capsys.readouterr().err
    assert not empty.tree.exists()


def test_record_keeps_comments_and_settles(world: World, capsys: Capture) -> None:
    text = (world.folder / "set.toml").read_text()
    assert text.startswith("# A comment to keep.\n") and "# and this one" in text
    assert f'[result.files."{PACKAGE}/runner.py"]' in text
    capsys.readouterr()
    world.pin()
    assert capsys.readouterr().out.startswith("unchanged: ")
    assert (world.folder / "set.toml").read_text() == text


@pytest.mark.parametrize(
    ("edit", "code", "why"),
    [
        (lambda w: w.overlay({f"{PACKAGE}/comm.py": ""}), 2, "would overwrite upstream's file"),
        (lambda w: w.overlay({"elsewhere/x.py": ""}), 2, "is not below tiny_ascend/"),
        (lambda w: w.overlay({f"{PACKAGE}/new.py": ""}), 3, "made by a patch and by the overlay"),
        (lambda w: w.overlay({f"{PACKAGE}/data_parallel/plan.py": "def f(:\n"}), 3, "does not compile after overlay"),
        (lambda w: (w.folder / "0009-unlisted.patch").write_text("x"), 2, "0009-unlisted.patch is not in the series"),
        (lambda w: (w.folder / "0002-hook.patch").unlink(), 2, "0002-hook.patch is listed and not in the folder"),
        (lambda w: (w.folder / "series").unlink(), 2, "series"),
        (lambda w: (w.folder / "upstream.sha256").write_text(""), 5, "upstream.sha256"),
    ],
    ids=["over upstream", "outside", "twice", "syntax", "unlisted", "missing", "no series", "manifest"],
)
def test_a_broken_set_is_refused(world: World, edit, code: int, why: str, capsys: Capture) -> None:  # type: ignore[no-untyped-def]
    edit(world)
    assert world.run("apply", SET, "--no-smoke") == code
    assert why in capsys.readouterr().err
    assert not world.tree.exists()


def test_the_overlay_of_a_set_wins_over_the_shared_one(world: World) -> None:
    own = world.root / "overlay" / SET
    write_tree(own, {f"{PACKAGE}/data_parallel/plan.py": "answer = 7\n", "README.md": "not installed\n"})
    world.pin()
    assert world.run("apply", SET, "--no-smoke") == 0
    assert (world.tree / PACKAGE / "data_parallel" / "plan.py").read_text() == "answer = 7\n"
    assert (world.tree / "README.md").read_text() == UPSTREAM["README.md"]


def test_the_overlay_of_few_sets_is_installed_by_these_alone(world: World) -> None:
    """It wins over the shared one, and a set's own over it."""
    shared, few, own = ("answer = 42\n", "answer = 7\n", "answer = 8\n")
    names = [f"{PACKAGE}/data_parallel/{name}.py" for name in ("plan", "few", "mine")]
    world.overlay(dict.fromkeys(names, shared))
    write_tree(world.root / "overlay" / f"{SET}+v9.9.10", dict.fromkeys(names[1:], few))
    write_tree(world.root / "overlay" / f"v{SET}+{SET}.1", dict.fromkeys(names, "of others"))
    write_tree(world.root / "overlay" / SET, {names[2]: own})
    world.pin()
    assert world.run("apply", SET, "--no-smoke") == 0
    assert [(world.tree / name).read_text() for name in names] == [shared, few, own]


def overlay_toml(world: World, text: str) -> Path:
    file = world.root / "overlay" / SET / "overlay.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, errors="surrogateescape")
    return file


@pytest.mark.parametrize("name", ["a\nb.py", "a\tb.py", 'a"b.py', "a\\b.py", "\udcff.py"])
def test_an_overlay_file_of_a_name_that_no_file_has(world: World, name: str, capsys: Capture) -> None:
    (world.root / "overlay" / "shared" / PACKAGE / name).write_text("")
    assert world.run("apply", SET, "--no-smoke") == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and said[0].endswith("has a character that no upstream file name has")
    assert not world.tree.exists()


def test_a_name_outside_ascii_is_a_name(world: World) -> None:
    own = f"{PACKAGE}/data_parallel/pl\u00e4n.py"
    world.overlay({own: "answer = 44\n"})
    world.pin()
    assert world.run("apply", SET, "--no-smoke") == 0
    assert read_tree(world.tree) == world.expected()
    assert git(world.tree, "status", "--porcelain") == ""
    assert world.run("revert", SET) == 0
    assert not (world.tree / own).exists()


def test_what_the_overlay_replaces_is_pinned(world: World, capsys: Capture) -> None:
    file = overlay_toml(
        world,
        f'# why\n[[module]]\npath = "{PACKAGE}/data_parallel/plan.py"\n'
        f'[[module.replaces]]\npath = "{PACKAGE}/comm.py"\nsymbol = "Comm.size"\n',
    )
    assert world.run("apply", SET, "--no-smoke") == 5
    assert "tiny_ascend/comm.py Comm.size, which tiny_ascend/data_parallel/plan.py replaces" in capsys.readouterr().err
    world.pin()
    digest = sha256(b"    def size(self):\n        return 1\n")
    assert file.read_text().startswith("# why\n") and f'sha256 = "{digest}"' in file.read_text()
    assert world.run("apply", SET, "--no-smoke") == 0
    assert "tiny_ascend/comm.py Comm.size, by" in git(world.tree, "log", "-1", "--format=%B", "HEAD~3")


def test_a_shared_module_that_a_set_omits_is_not_installed(world: World) -> None:
    plan, other = f"{PACKAGE}/data_parallel/plan.py", f"{PACKAGE}/data_parallel/other.py"
    (world.root / "overlay" / "shared" / other).write_text("answer = 1\n")
    overlay_toml(world, f'omits = ["{other}"]\n')
    world.pin()
    assert world.run("apply", SET, "--no-smoke") == 0
    assert (world.tree / plan).is_file() and not (world.tree / other).exists()
    assert world.run("status", SET) == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[module]]\n", "module[1].path is missing"),
        ('[[module]]\npath = "x.py"\n', "the overlay does not have"),
        ('[[module]]\npath = "PLAN"\n[[module.replaces]]\npath = "no.py"\n', "upstream does not have"),
        ('[[module]]\npath = "PLAN"\n[[module.replaces]]\npath = "COMM"\nsymbol = "No"\n', "has no No"),
        ('[[module]]\npath = "PLAN"\nextra = 1\n', "module[1].extra is not a known key"),
        ("module = 1\n", "module must be array, not int"),
        ('omits = ["no.py"]\n', "omits names 'no.py', which the overlay does not have"),
        ("omits = [[1]]\n", "omits[1] must be str, not array"),
        ('omits = "PLAN"\n', "omits must be array, not str"),
        ("[[", "overlay.toml"),
        ("[[module]]\npath = 1\n", "module[1].path must be str, not int"),
        ('[[module]]\npath = "PLAN"\nreplaces = {}\n', "module[1].replaces must be array, not object"),
        ('[[module]]\npath = "PLAN"\nreplaces = ["COMM"]\n', "module[1].replaces[1] must be object, not str"),
        ('[[module]]\npath = "PLAN"\n[[module.replaces]]\npath = "COMM"\nsha256 = 7\n', "sha256 must be str"),
        ('[[module]]\npath = "PLAN"\n[[module.replaces]]\npath = "COMM"\nx = 7\n', "x is not a known key"),
        ('[[module]]\npath = "PLAN"\n[[module.replaces]]\npath = "COMM"\nmodule = ""\n', "module is not a known key"),
        ('[[module]]\npath = "PLAN"\n[[module.replaces]]\npath = "README.md"\nsymbol = "A"\n', "README.md has no A"),
        ('[[breaks]]\npath = "COMM"\n', "breaks[1].why is missing"),
        ('[[breaks]]\npath = "COMM"\nwhy = true\n', "breaks[1].why must be str, not bool"),
        (f"module = 1{'0' * 5000}\n", "4300 digits"),
        (f"module = {'[' * 3000}{']' * 3000}\n", "recursion"),
        ("\udcff", "overlay.toml"),
    ],
)
def test_a_malformed_overlay_toml_is_refused(world: World, text: str, why: str, capsys: Capture) -> None:
    overlay_toml(world, text.replace("PLAN", f"{PACKAGE}/data_parallel/plan.py").replace("COMM", f"{PACKAGE}/comm.py"))
    assert world.run("apply", SET, "--no-smoke") == 2
    assert why in capsys.readouterr().err
