# SPDX-License-Identifier: Apache-2.0
"""The sets of this repository, as far as they can be checked without upstream's files; and how they are counted."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from conftest import SET, World, git
from packaging.specifiers import SpecifierSet

from patchset.plan import plan
from patchset.sets import overlay, series, setfile, stats
from patchset.sets.setfile import PatchSet

ROOT = Path(__file__).resolve().parents[2]
SETS = sorted(path.parent.name for path in (ROOT / "patches").glob("*/set.toml"))


@pytest.fixture(params=SETS)
def real(request: pytest.FixtureRequest) -> PatchSet:
    return setfile.load_set(request.param)


def test_each_python_has_a_wheel_for_two_architectures(real: PatchSet) -> None:
    pythons = [minor for minor in range(20) if f"3.{minor}" in SpecifierSet(real.python)]
    assert len({wheel.file for wheel in real.ascend.wheels}) == len(real.ascend.wheels) == 2 * len(pythons)


def test_set_toml_records_these_very_files(real: PatchSet) -> None:
    """So `apply` trusts them: that git makes of each patch what it says was checked when this digest was written."""
    assert plan.load(real).pinned, f"patchset pin {real.name}"


def test_the_overlay_is_python_3_9(real: PatchSet) -> None:
    """Upstream's wheels are made for 3.9 to 3.11."""
    for path, data in overlay.load(real).files.items():
        tree = ast.parse(data, path, feature_version=(3, 9))
        assert ast.get_docstring(tree), f"{path} says what it is for"
        assert data.startswith(b"# SPDX-License-Identifier: Apache-2.0\n"), path


def test_no_patch_is_for_tests_or_documents(real: PatchSet) -> None:
    """What is installed is the package: a patch outside it would not reach an installation."""
    for patch in series.load(real.folder):
        for file in patch.lines:
            assert file.path.startswith(f"{real.package}/"), f"{patch.name}: {file.path}"


def test_stats_are_as_git_counts_them(real: PatchSet, tmp_path: Path) -> None:
    expected: dict[str, list[int]] = {}
    for name in series.names((real.folder / "series").read_text()):
        for line in git(tmp_path, "apply", "--numstat", str(real.folder / name)).splitlines():
            added, removed, path = line.split("\t")
            before = expected.get(path, [0, 0])
            expected[path] = [before[0] + int(added), before[1] + int(removed)]
    found = stats.by_file(series.load(real.folder))
    assert {path: [counts["added"], counts["removed"]] for path, counts in found.items()} == expected
    assert list(found) == sorted(expected)


def test_the_document_of_stats(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert world.run("stats", SET, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["added"] == sum(file["added"] for file in document["files"]) > 0
    assert document["overlay_lines"] == sum(module["lines"] for module in document["overlay"]) > 0
    assert world.run("stats", SET) == 0
    assert f"{len(document['files'])} upstream files" in capsys.readouterr().out


def test_no_registry_is_named() -> None:
    """Downloads come from the index that the user has configured."""
    hosts = [".".join(("pypi", "org")), ".".join(("files", "pythonhosted", "org")), ".".join(("mirrors", "aliyun"))]
    for folder in ("scripts", "patches", "overlay", "requirements", "tests", ".ci"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix != ".pyc":
                text = file.read_bytes().decode(errors="replace")
                assert not [host for host in hosts if host in text], file
