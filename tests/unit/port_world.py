# SPDX-License-Identifier: Apache-2.0
"""Releases of the tiny upstream that a set can be carried to, on an index of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, UPSTREAM, World, make_sdist, serving, sha256

NEW = "v9.10.0"
RUNNER = f"{PACKAGE}/runner.py"
COMM = f"{PACKAGE}/comm.py"
METADATA = {
    "Dockerfile": "FROM quay.example/cann:8.3.rc2-910b-py3.11\nARG VLLM_TAG=v9.10.0\n",
    "requirements.txt": "# comment\ntorch>=2.7.1\n--pre\ntorch-npu==2.7.1.dev1\n",
    "PKG-INFO": "Metadata-Version: 2.1\nName: vllm-ascend\nVersion: 9.10.0rc1\nRequires-Python: >=3.9\n",
}
WHEEL = "vllm_ascend-9.10.0rc1-cp311-cp311-manylinux_2_24_x86_64.whl"


@dataclass
class Releases:
    """An index on loopback, and what is put on it."""

    world: World
    files: dict[str, dict[str, bytes]]

    def offer(self, changes: dict[str, str | None], version: str = "9.10.0rc1") -> dict[str, str]:
        """Releases vllm-ascend with these changes to the tiny upstream; its files."""
        files = {path: text for path, text in {**UPSTREAM, **METADATA, **changes}.items() if text is not None}
        name = f"vllm_ascend-{version}.tar.gz"
        self.files["vllm-ascend"][name] = make_sdist(self.world.served / name, files)
        self.write()
        return files

    def write(self) -> None:
        for project, files in self.files.items():
            folder = self.world.served / "simple" / project
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                (folder / name).write_bytes(data)
            rows = "".join(f'<a href="{name}#sha256={sha256(data)}">{name}</a>' for name, data in files.items())
            (folder / "index.html").write_text(f"<html><body>{rows}</body></html>")

    def port(self, *words: str) -> int:
        return self.world.run("port", "--from", SET, "--to", NEW, *words)

    @property
    def new(self) -> Path:
        return self.world.root / "patches" / NEW

    @property
    def tree(self) -> Path:
        return self.world.root / "build" / "port" / NEW / "tree"

    def untouched(self) -> bool:
        """Whether nothing of a new set is in the repository."""
        root = self.world.root
        return not self.new.exists() and not (root / "overlay" / NEW).exists()


@contextmanager
def offering(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    """An index on loopback that offers what it is given."""
    found = Releases(world, {"vllm-ascend": {WHEEL: b"wheel"}, "vllm": {"vllm-9.10.0.tar.gz": b"vllm"}})
    found.write()
    with serving(world.served) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        yield found


SHIFTED = "first = 0\nsecond = 0\n" + UPSTREAM[RUNNER]
OVERLAPPING = UPSTREAM[RUNNER].replace("step_6 = 6\n", "step_6 = 66\n")
NEARBY = UPSTREAM[RUNNER].replace("step_4 = 4\n", "step_4 = 44\n")
STEPS_DONE = UPSTREAM[RUNNER].replace("step_5 = 5\n", "step_5 = 50\n").replace("step_25 = 25\n", "")
# Half of the same lines, as two files have that share a licence, and no class or function of the same name.
HALF_ALIKE = "".join(f"step_{n} = {n}\n" for n in (*range(1, 19), *range(101, 113)))
MOVED = {RUNNER: None, f"{PACKAGE}/core/runner.py": SHIFTED}
