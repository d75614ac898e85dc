# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of a build: one value for a tree, a checkout and an installation of one set."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import PACKAGE, SET, World

from patchset.node import fingerprint
from patchset.plan import plan
from patchset.sets import setfile


def expected() -> str:
    patch_set = setfile.load_set(SET)
    return fingerprint.of(plan.patched_manifest(patch_set.sources(), patch_set.touched), PACKAGE)


def test_a_tree_a_checkout_and_an_installation_agree_with_set_toml(world: World, tmp_path: Path) -> None:
    checkout, installed = world.checkout(tmp_path / "checkout"), world.site_packages(tmp_path / "site-packages")
    before = fingerprint.of_folder(checkout, PACKAGE)
    assert before == fingerprint.of_folder(installed, PACKAGE) != expected()
    for words in ([], ["--target", str(checkout)], ["--target", str(installed)]):
        assert world.run("apply", SET, "--offline", "--no-smoke", *words) == 0
    for root in (world.tree, checkout, installed):
        assert fingerprint.of_folder(root, PACKAGE) == expected(), root


def test_it_is_what_sha256sum_makes_of_the_folder(tmp_path: Path) -> None:
    for path in (
        "b.py",
        "B.py",
        "a/z.py",
        "a.py",
        "caf\u00e9.py",
        "_version.py",
        "_build_info.py",
        "a/_version.py",
        "c.so",
    ):
        file = tmp_path / "vllm_ascend" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    command = (
        "find vllm_ascend -name '*.py' ! -path vllm_ascend/_version.py ! -path vllm_ascend/_build_info.py"
        " | LC_ALL=C sort | xargs sha256sum | sha256sum"
    )
    shell = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert fingerprint.of_folder(tmp_path) == shell.split()[0]


@pytest.mark.parametrize(
    ("path", "differs"),
    [
        ("_version.py", False),
        ("_build_info.py", False),
        ("__pycache__/plan.cpython-311.pyc", False),
        ("kernels.so", False),
        ("more.py", True),
        ("ops/_version.py", True),
    ],
)
def test_what_counts(tmp_path: Path, path: str, differs: bool) -> None:
    package = tmp_path / "vllm_ascend"
    package.mkdir()
    (package / "__init__.py").write_text("")
    before = fingerprint.of_folder(tmp_path)
    (package / path).parent.mkdir(exist_ok=True)
    (package / path).write_text("new")
    assert (fingerprint.of_folder(tmp_path) != before) is differs


def test_a_link_is_not_the_file_that_it_points_to(tmp_path: Path) -> None:
    package = tmp_path / "vllm_ascend"
    package.mkdir()
    (package / "__init__.py").write_text("")
    before = fingerprint.of_folder(tmp_path)
    (package / "__init__.py").rename(tmp_path / "elsewhere.py")
    (package / "__init__.py").symlink_to(tmp_path / "elsewhere.py")
    assert fingerprint.of_folder(tmp_path) != before


def overlays_own(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module with which a rank computes the same at run time; it needs neither torch nor vLLM."""
    file = Path(__file__).parents[2] / "overlay/shared/vllm_ascend/data_parallel/fingerprint.py"
    spec = importlib.util.spec_from_file_location("overlays_fingerprint", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_a_rank_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "vllm_ascend"
    paths = ("b.py", "a/z.py", "a.py", "café.py", "_version.py", "a/_version.py", "_build_info.py", "c.so", "a.pyc")
    for path in paths:
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(path)
    (package / "link.py").symlink_to(package / "a.py")
    own = overlays_own(monkeypatch)
    found = own.digests(package)
    assert own.build_digest(found) == fingerprint.of_folder(tmp_path)
    assert found.keys() == {
        f"vllm_ascend/{path}" for path in ("b.py", "a/z.py", "a.py", "café.py", "a/_version.py", "link.py")
    }
