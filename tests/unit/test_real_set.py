# SPDX-License-Identifier: Apache-2.0
"""The sets of this repository, as far as they can be checked without upstream's files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from patchset.node.manifest import sha256
from patchset.plan import plan
from patchset.sets import overlay, series, setfile
from patchset.sets.setfile import PatchSet

ROOT = Path(__file__).resolve().parents[2]
SETS = sorted(path.parent.name for path in (ROOT / "patches").glob("*/set.toml"))


@pytest.fixture(params=SETS)
def real(request: pytest.FixtureRequest) -> PatchSet:
    return setfile.load_set(request.param)


def test_the_pins_agree_with_each_other(real: PatchSet) -> None:
    assert real.name == f"v{real.vllm.version}"
    assert real.vllm.sdist.file == f"vllm-{real.vllm.version}.tar.gz"
    assert real.ascend.sdist.file == f"vllm_ascend-{real.ascend.version}.tar.gz"
    assert len(real.ascend.commit) in (0, 40)
    wheels = {wheel.file for wheel in real.ascend.wheels}
    pythons = [minor for minor in range(20) if f"3.{minor}" in SpecifierSet(real.python)]
    assert len(wheels) == len(real.ascend.wheels) == 2 * len(pythons), "for each Python, on two architectures"
    assert all(name.startswith(f"vllm_ascend-{real.ascend.version}-cp3") for name in wheels)
    assert real.generated <= real.upstream_manifest().keys()


def test_set_toml_records_what_the_series_and_the_overlay_touch(real: PatchSet) -> None:
    patches = series.load(real.folder)
    modules = overlay.load(real)
    patched = {file.path for patch in patches for file in patch.lines}
    created = {file.path for patch in patches for file in patch.lines if file.is_added_file}
    assert real.touched.keys() == patched | modules.files.keys()
    upstream = real.sources()
    for path, row in real.touched.items():
        assert row.upstream == upstream.get(path), path
    for path, data in modules.files.items():
        assert real.touched[path].patched == sha256(data), path
    assert patched - created <= upstream.keys()


def test_set_toml_records_these_very_files(real: PatchSet) -> None:
    """So `apply` trusts them: that git makes of each patch what it says was checked when this digest was written."""
    assert plan.load(real).pinned, f"patchset record {real.name}"


def test_the_overlay_is_python_3_9(real: PatchSet) -> None:
    """Upstream's wheels are made for 3.9 to 3.11."""
    for path, data in overlay.load(real).files.items():
        tree = ast.parse(data, path, feature_version=(3, 9))
        assert ast.get_docstring(tree), f"{path} says what it is for"
        assert data.startswith(b"# SPDX-License-Identifier: Apache-2.0\n"), path
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Match), f"{path}:{node.lineno}"


def test_no_patch_is_for_tests_or_documents(real: PatchSet) -> None:
    """What is installed is the package: a patch outside it would not reach an installation."""
    for patch in series.load(real.folder):
        for file in patch.lines:
            assert file.path.startswith(f"{real.package}/"), f"{patch.name}: {file.path}"


def test_no_registry_is_named() -> None:
    """Downloads come from the index that the user has configured."""
    hosts = [".".join(("pypi", "org")), ".".join(("files", "pythonhosted", "org")), ".".join(("mirrors", "aliyun"))]
    for folder in ("scripts", "patches", "overlay", "requirements", "tests", ".ci"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix != ".pyc":
                text = file.read_bytes().decode(errors="replace")
                assert not [host for host in hosts if host in text], file
