# SPDX-License-Identifier: Apache-2.0
"""patchset-node.pyz: one file, the standard library, Python from 3.9 on, no repository at hand."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, VERSION, Capture, World, sha256
from verify_world import WHEEL, edit_manifest, install_wheel, made, once, pyz, repack, site  # noqa: F401 - fixtures
from wheel_world import PATCHED, PATCHED_INFO, TAGS, dist, members, name, pack

from patchset.node import expected
from patchset.node.cluster import main
from patchset.sets import setfile
from patchset.wheels import kit

RUNNER = f"{PACKAGE}/runner.py"


def interpreters() -> list[str]:
    """Every Python on this machine that a wheel is made for; at least the one that runs the tests."""
    found = [sys.executable]
    for version in ("3.9", "3.10"):
        places = [*Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob(f"versions/{version}.*/bin/python")]
        if named := shutil.which(f"python{version}"):
            places.append(Path(named))
        found += [str(place) for place in places if _answers(place, version)][:1]
    return found


def _answers(python: Path, version: str) -> bool:
    """Whether it is that version: a shim on PATH may be there without one."""
    run = subprocess.run([python, "-V"], capture_output=True, text=True, check=False)
    return run.stdout.startswith(f"Python {version}.")


@pytest.mark.parametrize("python", interpreters())
def test_it_runs_on_a_bare_interpreter(made: World, site: Path, tmp_path: Path, python: str) -> None:
    """Each way to call it, what it accepts and what it sees; -I -S leaves no library but the standard one."""
    whole, installed = pyz(made, "--dist", str(dist(made)), python=python), ("--installed", "--path", str(site))
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.count("ok: ") == 1 + len(TAGS)
    assert pyz(made, *installed, python=python).returncode == 0
    (site / PACKAGE / "evil.py").write_text("")
    seen = pyz(made, *installed, "--json", python=python)
    assert seen.returncode == 1, seen.stderr
    (verdict,) = json.loads(seen.stdout)["verdicts"]
    assert verdict["findings"] == [
        {"path": f"{PACKAGE}/evil.py", "kind": "extra", "detail": f"set {SET} has no such file"}
    ]
    upstream = tmp_path / name(TAGS[0])
    upstream.write_bytes(pack(members(TAGS[0])))
    refused = pyz(made, "--wheel", str(upstream), python=python)
    assert refused.returncode == 1 and f"every Python file is upstream's {VERSION}" in refused.stderr
    assert "next: " in refused.stderr and "Traceback" not in refused.stderr


def test_a_python_that_is_too_old_is_told_so(made: World) -> None:
    """What runs first must be readable for any Python 3."""
    with zipfile.ZipFile(dist(made) / kit.NAME) as archive:
        tree = ast.parse(archive.read("__main__.py"), feature_version=(3, 4))
    first, second = tree.body[:2]
    assert ast.unparse(first) == "import sys" and isinstance(second, ast.If)


def test_it_holds_the_modules_that_it_imports_and_no_others(made: World) -> None:
    """What is shipped is small and its own, and imports no library when it is imported."""
    with zipfile.ZipFile(dist(made) / kit.NAME) as archive:
        names = archive.namelist()
        sources = {path: archive.read(path).decode() for path in names if path.endswith(".py")}
        assert archive.testzip() is None
    imported = set()
    for path, text in sources.items():
        tree = ast.parse(text, path, feature_version=(3, 9))
        found = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        found |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in found} <= sys.stdlib_module_names | {"patchset"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("patchset"):
                imported |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    modules = {path.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for path in sources}
    # What starts the rest: the driver of a cluster is a process of its own.
    assert modules - imported <= {"__main__", "patchset", "patchset.node.cluster.main", "patchset.node.cluster.driver"}


def test_it_needs_nothing_newer_than_python_3_9(made: World, tmp_path: Path) -> None:
    """vermin knows which version brought what; the runs above are the proof where such a Python is at hand."""
    with zipfile.ZipFile(dist(made) / kit.NAME) as archive:
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "newer.py").write_text("import tomllib\n")
    for path, code in (("unpacked", 0), ("newer.py", 1)):
        command = [Path(sys.executable).with_name("vermin"), "-t=3.9-", "--eval-annotations", path]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == code, run.stdout


def test_its_bytes_are_decided_by_the_set_and_the_wheels(made: World) -> None:
    first = (dist(made) / kit.NAME).read_bytes()
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        known = expected.parse(archive.read("patchset/node/expected.json"))
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert kit.build(known) == first
    assert known == kit.expect(setfile.load_set(SET), PATCHED, known.manifests)
    assert known.manifests.keys() == {name(tag, PATCHED) for tag in TAGS}
    assert first.startswith(b"#!/usr/bin/env python3\n")


def forged(files: dict[str, bytes]) -> None:
    """A change of a compiled library, which no set knows, that manifest and RECORD agree with."""
    files[f"{PACKAGE}/_C.so"] += b"#"

    def adapt(document: dict[str, object]) -> None:
        document["files"][f"{PACKAGE}/_C.so"] = sha256(files[f"{PACKAGE}/_C.so"])  # type: ignore[index]

    edit_manifest(files, adapt)


def test_it_vouches_for_the_manifest_where_set_toml_cannot(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = repack(dist(made) / WHEEL, forged, true_record=True)
    monkeypatch.setenv("PATCHSET_CACHE", str(tmp_path / "no cache"))
    assert made.run("verify", "--wheel", str(wheel)) == 0, "set.toml knows no compiled files"
    site = install_wheel(wheel, tmp_path / "site")
    for words in (("--wheel", str(wheel)), ("--installed", "--path", str(site))):
        seen = pyz(made, *words)
        assert seen.returncode == 1
        assert f"  manifest {PATCHED_INFO}/patchset.json: has sha256 " in seen.stdout
        assert "which no wheel of this dist/" in seen.stdout


def test_trees_too(made: World, tmp_path: Path) -> None:
    assert made.run("apply", SET, "--offline", "--no-smoke") == 0
    assert pyz(made, "--tree", str(made.tree)).returncode == 0
    unpatched = pyz(made, "--tree", str(made.checkout(tmp_path / "checkout")))
    assert unpatched.returncode == 1 and f"  changed  {RUNNER}: is upstream's, not patched\n" in unpatched.stdout


def test_the_command_that_it_runs(made: World, site: Path, capsys: Capture) -> None:
    """What the runs above show of a whole program, in this process: the same words and exit codes."""
    known = kit.expect(setfile.load_set(SET))
    installed = ["--installed", "--path", str(site)]

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.main(["verify", *words], known)
        return code, *capsys.readouterr()

    assert run(*installed)[:2] == (0, pyz(made, *installed).stdout)
    assert run(*installed, "--json")[:2] == (0, pyz(made, *installed, "--json").stdout)
    (site / RUNNER).write_text("")
    assert run(*installed)[:2] == (1, pyz(made, *installed).stdout)
    missing = pyz(made, "--tree", "nowhere", "--json")
    assert run("--tree", "nowhere", "--json") == (2, missing.stdout, missing.stderr)
    assert run("--tree", str(made.root), "--wheel", "w")[0] == 2
    assert pyz(made, "--help").stdout.startswith("usage: patchset-node.pyz verify")
    record = site / PATCHED_INFO / "RECORD"
    record.unlink()
    record.symlink_to(record)
    code, _, said = run(*installed)
    assert code == 6 and said.startswith(f"error: {record}: Too many levels of symbolic links\nnext: ")


def test_a_reader_that_has_enough_is_no_error(made: World, tmp_path: Path) -> None:
    """`patchset-node.pyz ... | head -1`: the pipe breaks, at a print or at the end."""
    file = dist(made) / kit.NAME
    for words in (f"verify --dist {dist(made)}", "verify --help", f"verify --json --dist {dist(made)}"):
        script = f"set -o pipefail; {{ sleep 1; {sys.executable} -I -S {file} {words}; }} | true"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), words
