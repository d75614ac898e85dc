# SPDX-License-Identifier: Apache-2.0
"""The tool and a running rank call a build by the same digest."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from patchset.node import fingerprint
from patchset.system import paths


@pytest.fixture(scope="module")
def of_a_rank() -> ModuleType:
    """The overlay's module, which needs neither torch nor vLLM."""
    file = paths.repo_root() / "overlay/shared/vllm_ascend/data_parallel/fingerprint.py"
    spec = importlib.util.spec_from_file_location("rank_fingerprint", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_both_name_a_package_alike(tmp_path: Path, of_a_rank: ModuleType) -> None:
    package = tmp_path / "vllm_ascend"
    (package / "ops" / "__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "_version.py", "_build_info.py", "ops/_version.py", "ops/a.py", "ops-b.py", "_C.so"):
        (package / name).write_text(f"# {name}\n")
    (package / "ops" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"\0")
    (package / "linked.py").symlink_to("ops/a.py")
    assert of_a_rank.build_digest(of_a_rank.digests(package)) == fingerprint.of_folder(tmp_path)


@pytest.mark.parametrize("name", ["__init__.py", "ops/a.py"])
def test_an_edit_changes_it(tmp_path: Path, of_a_rank: ModuleType, name: str) -> None:
    package = tmp_path / "vllm_ascend"
    (package / "ops").mkdir(parents=True)
    for one in ("__init__.py", "ops/a.py"):
        (package / one).write_text("")
    before = of_a_rank.build_digest(of_a_rank.digests(package))
    (package / name).write_text("x = 1\n")
    assert of_a_rank.build_digest(of_a_rank.digests(package)) != before
