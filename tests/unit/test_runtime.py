# SPDX-License-Identifier: Apache-2.0
"""runtime: made once, made again after a kill or a change, and clear when it cannot be made."""

import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from conftest import bare_set

from patchset.node.errors import Unavailable
from patchset.proof import runtime, uv
from patchset.sets.setfile import Artifact, PatchSet, Release
from patchset.system.terminal import Terminal

LOCK = "nvidia-nccl==2 \\\n    --hash=sha256:22\ntea==1 \\\n    --hash=sha256:00\ntorch==2\ntriton==3\n"
TORCH_CPU = "torch==2+cpu \\\n    --hash=sha256:44\n"

# A uv that does what the real one does to the file system, notes its arguments, and fails on demand.
FAKE_UV = r"""#!/bin/sh
echo "$*" >> "$FAKE_UV_CALLS"
case "$1" in
  python) [ -n "$FAKE_UV_NO_PYTHON" ] && { echo "error: $FAKE_UV_NO_PYTHON" >&2; exit 2; }; echo /usr/bin/python3.12 ;;
  venv) for last; do :; done; mkdir -p "$last/bin" && ln -s /bin/sh "$last/bin/python" ;;
  pip)
    case "$*" in
      *--dry-run*) exit "${FAKE_UV_NO_CPU_BUILD:-0}" ;;
      *"$FAKE_UV_FAILS"*) [ -n "$FAKE_UV_FAILS" ] && { echo "no wheel for tea" >&2; exit 1; } ;;
    esac
    while [ $# -gt 0 ]; do
      [ "$1" = --target ] && mkdir -p "$2/vllm" && echo "$VLLM_TARGET_DEVICE" > "$2/vllm/device"
      shift
    done ;;
esac
exit 0
"""


MADE = ["python", "venv", "pip", "pip", "pip"]


@dataclass
class Bench:
    root: Path
    patch_set: PatchSet
    calls_file: Path
    terminal: Terminal = field(default_factory=Terminal)

    def ensure(self, *, offline: bool = False) -> runtime.Runtime:
        return runtime.ensure(self.patch_set, self.terminal, offline=offline)

    def calls(self) -> list[str]:
        """uv's arguments since the last call of this."""
        said = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return said


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    root = tmp_path / "repo"
    for folder in ("patches", "requirements", "bin"):
        (root / folder).mkdir(parents=True)
    (root / "requirements" / "runtime.txt").write_text(LOCK)
    (root / "requirements" / "torch-cpu.txt").write_text(TORCH_CPU)
    program = root / "bin" / "uv"
    program.write_text(FAKE_UV)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    sdist = root / "vllm-1.tar.gz"
    sdist.write_bytes(b"an sdist")
    monkeypatch.setattr(uv, "find", lambda: program)
    monkeypatch.setattr(runtime.cache, "fetch", lambda *_args, **_kwargs: sdist)
    monkeypatch.setattr(uv.index, "settings", dict)
    monkeypatch.setenv("PATCHSET_ROOT", str(root))
    monkeypatch.setenv("FAKE_UV_CALLS", str(root / "calls"))
    monkeypatch.setenv("FAKE_UV_FAILS", "")
    release = Release("1", "", Artifact("vllm", "vllm-1.tar.gz", "0" * 64))
    return Bench(root, bare_set("v1", root, release, torch="2"), root / "calls")


def test_made_once(bench: Bench) -> None:
    made = bench.ensure()
    first = bench.calls()
    assert [call.split()[0] for call in first] == MADE
    assert "--dry-run" in first[2] and first[2].endswith("torch-cpu.txt")
    assert "--require-hashes" in first[3] and "--no-deps" in first[3]
    assert "--no-deps" in first[4] and "--no-build-isolation" in first[4]
    assert (made.vllm / "vllm" / "device").read_text().strip() == "empty"
    assert bench.ensure() == made
    assert bench.calls() == []


def test_another_lock_makes_it_again(bench: Bench) -> None:
    bench.ensure()
    bench.calls()
    (bench.root / "requirements" / "runtime.txt").write_text("tea==2 \\\n    --hash=sha256:11\n")
    bench.ensure()
    assert [call.split()[0] for call in bench.calls()] == MADE


def test_another_torch_has_a_venv_of_its_own(bench: Bench) -> None:
    """The venv of the other sets stays as it is."""
    first = bench.ensure()
    bench.calls()
    folder = bench.root / "requirements"
    (folder / "runtime-torch-3.txt").write_text("tea==3 \\\n    --hash=sha256:33\n")
    (folder / "torch-cpu-3.txt").write_text(TORCH_CPU)
    other = replace(
        bench, patch_set=replace(bench.patch_set, torch="3", vllm=replace(bench.patch_set.vllm, version="2"))
    )
    made = other.ensure()
    calls = bench.calls()
    assert [call.split()[0] for call in calls] == MADE
    assert calls[2].endswith("torch-cpu-3.txt")
    assert made.python.parts[-3:] == ("venv-torch-3", "bin", "python") and made.vllm != first.vllm
    assert bench.ensure() == first and other.ensure() == made
    assert bench.calls() == []


@pytest.mark.parametrize(
    ("lacks", "installed"),
    [("0", "tea==1 \\\n    --hash=sha256:00\n" + TORCH_CPU), ("1", LOCK.removesuffix("triton==3\n"))],
    ids=["an index has torch without CUDA", "none has"],
)
def test_no_cuda_where_torch_can_be_had_without(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, lacks: str, installed: str
) -> None:
    monkeypatch.setenv("FAKE_UV_NO_CPU_BUILD", lacks)
    bench.ensure()
    asked = bench.calls()[3].split()[-1]
    assert Path(asked).read_text() == installed
    monkeypatch.setenv("FAKE_UV_NO_CPU_BUILD", "0")
    bench.ensure()
    assert bench.calls() == []  # what is there stays


def test_a_killed_install_is_redone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what failed, why, where the rest is and what to do."""
    monkeypatch.setenv("FAKE_UV_FAILS", "--require-hashes")
    with pytest.raises(Unavailable, match=r"install requirements/runtime\.txt\n(.*\n)*  no wheel for tea\n") as caught:
        bench.ensure()
    assert str(bench.root / "build" / "runtime" / "install.log") in caught.value.message and caught.value.hint
    bench.calls()
    monkeypatch.setenv("FAKE_UV_FAILS", "")
    bench.ensure()
    assert [call.split()[0] for call in bench.calls()] == MADE


def test_a_half_built_vllm_is_redone_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_UV_FAILS", "--target")
    with pytest.raises(Unavailable, match="build vLLM 1"):
        bench.ensure()
    bench.calls()
    monkeypatch.setenv("FAKE_UV_FAILS", "")
    made = bench.ensure()
    assert [call.split()[0] for call in bench.calls()] == ["pip"]
    assert sorted(entry.name for entry in made.vllm.parent.glob("vllm*")) == ["vllm-1"]


def test_no_fitting_python_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_UV_NO_PYTHON", "the cache cannot be read")
    with pytest.raises(
        Unavailable, match=r"no Python >=3.11,<3.13.*; uv says: error: the cache cannot be read"
    ) as caught:
        bench.ensure()
    assert "python3.12" in caught.value.hint


def test_offline_is_handed_to_uv(bench: Bench) -> None:
    bench.ensure(offline=True)
    assert all("--offline" in call for call in bench.calls() if not call.startswith("python"))


def test_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "ascend")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    made = bench.ensure()
    env = made.environment(Path("/tree"), Path("/standin"))
    assert env["PYTHONPATH"] == os.pathsep.join(["/standin", "/tree", str(made.vllm)])
    assert made.environment(Path("/tree"))["PYTHONPATH"] == os.pathsep.join(["/tree", str(made.vllm)])
    # vllm-ascend compares vLLM's version for equality; the platform plugin alone hides its models.
    assert env["VLLM_VERSION"] == "1"
    assert env["VLLM_PLUGINS"] == "ascend,ascend_enhanced_model,ascend_kv_connector,ascend_model"


def test_a_set_may_have_a_stand_in_of_its_own(bench: Bench) -> None:
    shared = bench.root / "tests" / "standin"
    (shared / "v2").mkdir(parents=True)
    assert [runtime.standin_dir(name) for name in ("v1", "v2")] == [shared, shared / "v2"]


def test_pip_settings_reach_uv() -> None:
    found = uv.settings({"index-url": ["u"], "extra-index-url": ["a", "b"], "find-links": ["w"]}, {})
    assert found["UV_DEFAULT_INDEX"] == "u"
    assert found["UV_INDEX"] == "u a b"
    assert found["UV_FIND_LINKS"] == "w"
    assert uv.settings({"index-url": ["u"]}, {"UV_INDEX": "mine"}) == {}
    assert "UV_INDEX" not in uv.settings({"extra-index-url": ["a"]}, {}), "it would outrank uv's default"
