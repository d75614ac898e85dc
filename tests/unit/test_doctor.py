# SPDX-License-Identifier: Apache-2.0
"""doctor: each thing that a machine can lack, on a machine that lacks it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import Capture

from patchset import cli
from patchset.proof import doctor
from patchset.proof.doctor import Verdict
from patchset.sets.setfile import PatchSet, load_set


@pytest.fixture
def real_set() -> PatchSet:
    return load_set("v0.10.1.1")


def test_this_machine_can_run_the_tool() -> None:
    assert doctor.python().verdict is Verdict.OK
    assert doctor.git().verdict is Verdict.OK


def test_no_git_or_an_old_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = doctor.git()
    assert (found.verdict, found.found) == (Verdict.LACKS, "not there; >=2.29.2 is needed")
    assert "install git" in found.advice
    program(tmp_path, "git", "echo git version 2.17.1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert doctor.git().found == "2.17.1; >=2.29.2 is needed"


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "TREES_BYTES", 1 << 62)
    found = doctor.disk(tmp_path / "build" / "v1")
    assert found.verdict is Verdict.LACKS
    assert str(tmp_path) in found.found
    assert "free " in found.advice


def test_a_cache_that_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, real_set: PatchSet) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PATCHSET_CACHE", str(tmp_path / "file" / "cache"))
    found = doctor.download_cache(real_set)
    assert found.verdict is Verdict.LACKS
    assert "PATCHSET_CACHE" in found.advice


def test_the_cache_counts_verified_files_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, real_set: PatchSet
) -> None:
    monkeypatch.setenv("PATCHSET_CACHE", str(tmp_path))
    pin = real_set.ascend.sdist
    (tmp_path / pin.sha256).mkdir()
    (tmp_path / pin.sha256 / pin.file).write_bytes(b"damaged")
    assert doctor.download_cache(real_set).found == f"{tmp_path}: 0 of 8 files of v0.10.1.1"


def test_an_index_without_the_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, real_set: PatchSet) -> None:
    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{tmp_path}/simple")
    found = doctor.package_index(real_set.ascend.sdist)
    assert found.verdict is Verdict.LACKS
    assert f"has no {real_set.ascend.sdist.file}" in found.found

    page = tmp_path / "simple" / "vllm-ascend" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="{real_set.ascend.sdist.file}">{real_set.ascend.sdist.file}</a>')
    assert doctor.package_index(real_set.ascend.sdist).verdict is Verdict.OK


def test_no_python_for_the_smoke_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.runtime, "PYTHON", ">=3.99")
    found = doctor.smoke_python()
    assert found.verdict is Verdict.LACKS
    assert "uv python install" in found.advice


def test_npus_of_a_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.npu(tmp_path).verdict is Verdict.ABSENT
    for name in ("davinci0", "davinci1", "davinci_manager"):
        (tmp_path / name).touch()
    assert doctor.npu(tmp_path).verdict is Verdict.LACKS
    program(tmp_path, "npu-smi", "")
    found = doctor.npu(tmp_path)
    assert (found.verdict, found.found) == (Verdict.OK, "2: davinci0, davinci1")


@pytest.mark.parametrize(("version", "verdict"), [("8.2.RC1", Verdict.OK), ("8.1.RC1", Verdict.LACKS)])
def test_cann(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, real_set: PatchSet, version: str, verdict: Verdict
) -> None:
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    assert doctor.cann(real_set).verdict is Verdict.ABSENT
    info = tmp_path / "aarch64-linux" / "ascend_toolkit_install.info"
    info.parent.mkdir()
    info.write_text(f"package_name=Ascend-cann-toolkit\nversion={version}\n")
    found = doctor.cann(real_set)
    assert found.verdict is verdict
    assert found.found.startswith(f"{version} in ")


def test_a_serving_environment_without_the_packages(real_set: PatchSet) -> None:
    found = {one.subject.partition(" ")[0]: one for one in doctor.packages(real_set, Path(sys.executable))}
    assert set(found) == {"python", "vllm", "vllm-ascend", "torch", "torch-npu"}
    assert found["vllm-ascend"].advice == "install vllm-ascend==0.10.1rc1 there"


def test_a_serving_environment_of_another_release(tmp_path: Path, real_set: PatchSet) -> None:
    said = {"python": "3.10.4", "vllm": "0.10.1.1", "vllm-ascend": "0.9.2", "torch": "2.7.1+cpu", "torch-npu": None}
    python = program(tmp_path, "python", f"echo '{json.dumps(said)}'")
    found = [(one.subject.partition(" ")[0], one.verdict) for one in doctor.packages(real_set, python)]
    assert [name for name, verdict in found if verdict is Verdict.OK] == ["python", "vllm", "torch"]
    assert [name for name, verdict in found if verdict is Verdict.LACKS] == ["vllm-ascend", "torch-npu"]


def test_a_serving_interpreter_that_does_not_run(tmp_path: Path, real_set: PatchSet) -> None:
    (one,) = doctor.packages(real_set, tmp_path / "python")
    assert one.verdict is Verdict.LACKS
    assert str(tmp_path) in one.found


def test_the_command_says_what_lacks(capsys: Capture, tmp_path: Path) -> None:
    code = cli.main(["doctor", "v0.10.1.1", "--offline", "--json", "--python", str(tmp_path / "python")])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["lacking"]) == (1, ["serving environment"])
    assert {one["verdict"] for one in document["findings"]} >= {"ok", "lacks"}


def program(folder: Path, name: str, line: str) -> Path:
    """A program that runs one line of shell."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)
    return file
