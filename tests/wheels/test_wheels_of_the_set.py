# SPDX-License-Identifier: Apache-2.0
"""The set's own wheels, from the index to a fresh environment and out of it again, with nothing left behind."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
from conftest import TOOL, Venv, run
from installer.sources import WheelFile
from packaging.utils import parse_wheel_filename

from patchset.node import fingerprint
from patchset.sets.setfile import PatchSet, load_set
from patchset.system import paths
from patchset.system.terminal import Terminal
from patchset.upstream import cache
from patchset.wheels import from_source

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]

LOCAL = "dp.1"
A_FEW_SMOKE_TESTS = "tokens_equal_reference and qwen3_moe and (eager or graph) and not kv_both"


def test_a_second_build_has_the_same_sums(patch_set: PatchSet, dist: Path, tmp_path: Path) -> None:
    """In another environment: hash seed, time zone, umask, and a wheelhouse in the place of the cache."""
    before = (dist / "SHA256SUMS").read_bytes()
    for pin in patch_set.ascend.wheels:
        (tmp_path / pin.file).write_bytes(cache.location(pin).read_bytes())
    run("sh", "-c", 'umask 077; exec "$@"', "sh", TOOL, "wheels", patch_set.name, "--upstream", tmp_path,
        PYTHONHASHSEED="1", TZ="Asia/Tokyo", LC_ALL="C")  # fmt: skip
    assert (dist / "SHA256SUMS").read_bytes() == before
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=dist, check=True)


def test_wheels_that_installer_finds_valid(patch_set: PatchSet, dist: Path) -> None:
    wheels = sorted(dist.glob("*.whl"))
    tags = {str(tag) for file in wheels for tag in parse_wheel_filename(file.name)[3]}
    assert tags == {str(tag) for pin in patch_set.ascend.wheels for tag in parse_wheel_filename(pin.file)[3]}
    assert len(wheels) == len(patch_set.ascend.wheels) >= 4
    for file in wheels:
        with WheelFile.open(file) as source:
            source.validate_record()
            assert source.version == f"{patch_set.ascend.version}+{LOCAL}"


def test_untouched_members_are_upstreams(patch_set: PatchSet, dist: Path) -> None:
    """As `zipfile` sees them: content, mode, timestamp, packed size."""
    version = patch_set.ascend.version
    for pin in patch_set.ascend.wheels:
        upstream = zipfile.ZipFile(cache.location(pin))
        patched = zipfile.ZipFile(dist / pin.file.replace(f"-{version}-", f"-{version}+{LOCAL}-"))
        with upstream, patched:
            for info in upstream.infolist():
                if not info.filename.startswith(f"{patch_set.package}/") or info.filename in patch_set.touched:
                    continue
                other = patched.getinfo(info.filename)
                same = ("external_attr", "date_time", "CRC", "compress_size", "file_size", "compress_type")
                assert [getattr(info, name) for name in same] == [getattr(other, name) for name in same]
            # Kernels for the device lie deeper, and upstream has some of those without a bit for executing.
            own = re.compile(rf"{patch_set.package}/[^/]+\.so")
            compiled = [info for info in patched.infolist() if own.fullmatch(info.filename)]
            assert len(compiled) >= 2
            assert all(info.external_attr >> 16 & 0o111 == 0o111 for info in compiled)


def test_a_fresh_environment(patch_set: PatchSet, dist: Path, venv: Venv) -> None:
    """Install, verify, smoke-test, uninstall."""
    requirement = f"vllm-ascend=={patch_set.ascend.version}+{LOCAL}"
    before = venv.files()
    venv.pip("install", "--no-deps", "--no-index", "--find-links", dist, requirement)
    try:
        assert f"{patch_set.package}/data_parallel/plan.py" in "\n".join(venv.files())
        run(TOOL, "verify", "--installed", "--python", venv.python, "--set", patch_set.name)
        run(venv.python, dist / "patchset-node.pyz", "verify", "--installed")
        run(TOOL, "smoke", patch_set.name, "--installed", venv.folder, "--only", A_FEW_SMOKE_TESTS)
    finally:
        venv.pip("uninstall", "--yes", "vllm-ascend")
    assert venv.files() == before


def test_the_containerfile(patch_set: PatchSet, dist: Path, venv: Venv) -> None:
    """Its RUN line, in a fresh environment in the place of the image, with the arguments of the set."""
    lines = (paths.repo_root() / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    arguments = dict(
        line.removeprefix("ARG ").split("=", 1) for line in lines if line.startswith("ARG ") and "=" in line
    )
    (line,) = [line for line in lines if line.startswith("RUN ")]
    mount, command = line.removeprefix("RUN --mount=").split(None, 1)
    assert mount == "type=bind,source=dist,target=/dist"
    default = load_set(arguments["SET"])
    assert arguments["VERSION"] == f"{default.ascend.version}+{LOCAL}"
    arguments |= {"SET": patch_set.name, "VERSION": f"{patch_set.ascend.version}+{LOCAL}"}
    arguments["INDEX_URL"] = arguments["INDEX_URL"].replace("${SET}", patch_set.name)
    environ = {name: value.replace("/dist", str(dist.parent)) for name, value in arguments.items()}
    path = f"{venv.python.parent}:{os.environ['PATH']}"
    before = venv.files()
    try:
        said = run("sh", "-euc", command.replace("/dist", str(dist.parent)), PATH=path, PYTHONPATH="", **environ)
    finally:
        venv.pip("uninstall", "--yes", "vllm-ascend")
    assert f"vllm-ascend-{arguments['VERSION']}" in said
    assert venv.files() == before


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_the_index(patch_set: PatchSet, dist: Path, venv: Venv, tmp_path: Path, scheme: str) -> None:
    """pip takes the wheel for this machine from file:// and from `python -m http.server`."""
    requirement = f"vllm-ascend=={patch_set.ascend.version}+{LOCAL}"
    server = None
    try:
        url = f"{dist.as_uri()}/simple"
        if scheme == "http":
            command = [venv.python, "-u", "-m", "http.server", "0", "--bind=127.0.0.1", f"--directory={dist}"]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert server.stdout
            url = server.stdout.readline().split("(")[1].split(")")[0].rstrip("/") + "/simple"
        venv.pip("download", "--no-deps", "--index-url", url, "--dest", tmp_path, requirement)
    finally:
        if server:
            server.terminate()
            server.communicate()
    (wheel,) = tmp_path.iterdir()
    assert hashlib.sha256(wheel.read_bytes()).digest() == hashlib.sha256((dist / wheel.name).read_bytes()).digest()


def test_a_build_from_source_has_the_same_python_files(
    patch_set: PatchSet, dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without kernels: a pure wheel of the same Python, but for build settings and what comes with kernels."""
    monkeypatch.setenv("COMPILE_CUSTOM_KERNELS", "0")
    version = f"{patch_set.ascend.version}+{LOCAL}"
    how = {"upstream": None, "python": None, "offline": False, "terminal": Terminal()}
    drafts = [next(from_source.drafts(patch_set, version, **how)) for _ in range(2)]
    assert drafts[0].data == drafts[1].data
    file = tmp_path / drafts[0].made.build.file
    file.write_bytes(drafts[0].data)
    assert file.name == f"vllm_ascend-{version}-py3-none-any.whl"
    with WheelFile.open(file) as source:
        source.validate_record()
    built = python_files(file)
    into = f"{patch_set.package}/{fingerprint.KERNELS}"
    for repacked in dist.glob("*.whl"):
        theirs = {path: data for path, data in python_files(repacked).items() if not path.startswith(into)}
        assert built.keys() == theirs.keys()
        assert {path for path in built if built[path] != theirs[path]} <= {f"{patch_set.package}/_build_info.py"}
    assert not [path for path in zipfile.ZipFile(file).namelist() if path.endswith(".so")]


def python_files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {path: archive.read(path) for path in archive.namelist() if path.endswith(".py")}
