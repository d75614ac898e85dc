# SPDX-License-Identifier: Apache-2.0
"""A tiny upstream, its sdist, an index that serves it, and a patch set for it: no network, nothing of the user's."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from patchset import cli
from patchset.proof import gate
from patchset.sets.setfile import PatchSet, Release
from patchset.target import distinfo
from selftest import __main__ as selftest

# Random cases are drawn however slow the machine is.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

Capture = pytest.CaptureFixture[str]

SET = "v9.9.9"
PACKAGE = "tiny_ascend"
VERSION = "9.9rc1"
SDIST = f"{PACKAGE}-{VERSION}.tar.gz"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

UPSTREAM = {
    "README.md": "A tiny upstream.\n",
    "pyproject.toml": "[build-system]\n",
    "setup.py": "setup(entry_points={'tiny.plugins': ['tiny = tiny_ascend:register']})\n",
    "run.sh": "#!/bin/sh\nexit 0\n",
    f"{PACKAGE}/__init__.py": "",
    f"{PACKAGE}/runner.py": "".join(f"step_{n} = {n}\n" for n in range(1, 31)),
    f"{PACKAGE}/comm.py": "def choose():\n    return 'alltoall'\n\n\n"
    "class Comm:\n    def size(self):\n        return 1\n",
    f"{PACKAGE}/old.py": "gone = True\n",
    f"{PACKAGE}/caf\u00e9.py": "accent = True\n",
    f"{PACKAGE}.egg-info/entry_points.txt": "[tiny.plugins]\ntiny = tiny_ascend:register\n",
    "PKG-INFO": f"Metadata-Version: 2.1\nName: tiny-ascend\nVersion: {VERSION}\n",
}
GENERATED = ("PKG-INFO", f"{PACKAGE}.egg-info/entry_points.txt")
EXECUTABLE = ("run.sh",)
OVERLAY = {
    f"{PACKAGE}/data_parallel/__init__.py": "",
    f"{PACKAGE}/data_parallel/plan.py": "answer = 42\n",
}

MBOX = f"From {'0' * 40} Mon Sep 17 00:00:00 2001\n"
HEADER = (
    MBOX
    + """\
From: A Maintainer <maintainer@example.invalid>
Date: Mon, 2 Nov 2026 10:00:00 +0000
Subject: {subject}

Why: because.

How: so.

Resolves: D1, D3
Origin: vendor
Upstream-Status: Pending
Removal-Plan: when upstream does the same

"""
)


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the network, the user's cache, or the user's settings of git and pip."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "GIT_", "PATCHSET_", "XDG_", "MAKE"))]:
        monkeypatch.delenv(name)
    for name in ("VERSION", "UPSTREAM", "TARGET", "OFFLINE", "SMOKE", "DRY_RUN", "DEVICE", "JSON", "AGAINST", "MFLAGS"):
        monkeypatch.delenv(name, raising=False)  # what the make that runs these tests was given
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/none")
    monkeypatch.setenv("PATCHSET_CACHE", str(home / "cache"))
    monkeypatch.setenv("PATCHSET_DEBUG", "1")
    connect = socket.socket.connect

    def loopback_only(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1"), (
                f"a unit test reached for {address}"
            )
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", loopback_only)


@pytest.fixture(autouse=True)
def smoke_tested(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tree counts as one that has passed the smoke tests, which unit tests cannot run; not with ``untested``."""
    if request.node.get_closest_marker("untested") is None:
        monkeypatch.setattr(gate, "passed", lambda *_: gate.Tier.QUICK)


def bare_set(name: str, folder: Path, release: Release, **more: Any) -> PatchSet:
    """A set as set.toml would have it, of one release for both projects, without a file."""
    told: dict[str, Any] = {"package": PACKAGE, "torch": "2.7.1", "torch_npu": "2.7.1", "cann": "8.2"}
    told |= {"python": ">=3.9", "generated": frozenset(), "manifest_sha256": "", "touched": {}}
    return PatchSet(name=name, folder=folder, vllm=release, ascend=release, **told | more)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
        file.chmod(0o755 if path in EXECUTABLE else 0o644)
    return root


def read_tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder but git's, by path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(root).parts
    }


def make_sdist(file: Path, files: dict[str, str]) -> bytes:
    """A reproducible sdist with one top folder."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, text in sorted(files.items()):
            member = tarfile.TarInfo(f"{PACKAGE}-{VERSION}/{path}")
            member.size = len(text.encode())
            member.mode = 0o755 if path in EXECUTABLE else 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    data = gzip.compress(raw.getvalue(), mtime=0)
    file.write_bytes(data)
    return data


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Plain git for the tests' own needs."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "core.quotePath=false"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=True).stdout.decode()


def git_diff(before: dict[str, str], after: dict[str, str], scratch: Path) -> str:
    """The diff that git makes between two trees."""
    scratch.mkdir(parents=True)
    git(scratch, "init", "-q")
    write_tree(scratch, before)
    git(scratch, "add", "-A", "-f")
    git(scratch, "commit", "-qm", "before", "--allow-empty")
    for path in before.keys() - after.keys():
        (scratch / path).unlink()
    write_tree(scratch, after)
    git(scratch, "add", "-A", "-f")
    return git(scratch, "diff", "--cached", "--no-renames", "--full-index")


@dataclass
class World:
    """A repository with one set, made from a tiny upstream.

    Attributes:
        root: the repository.
        served: the folder that the index serves, or would.
        now: upstream with the patches so far.
        sdist: the bytes of the sdist.
    """

    root: Path
    served: Path
    now: dict[str, str] = field(default_factory=lambda: dict(UPSTREAM))
    sdist: bytes = b""
    names: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.root / "patches" / SET

    @property
    def tree(self) -> Path:
        return self.root / "build" / SET / "vllm-ascend"

    @property
    def cached(self) -> Path:
        return Path(os.environ["PATCHSET_CACHE"]) / sha256(self.sdist) / SDIST

    def fill_cache(self) -> None:
        self.cached.parent.mkdir(parents=True, exist_ok=True)
        self.cached.write_bytes(self.sdist)

    def patch(self, name: str, edits: dict[str, str | None]) -> None:
        """Adds a patch that makes these edits; None deletes a file."""
        after = {path: text for path, text in {**self.now, **edits}.items() if text is not None}
        diff = git_diff(self.now, after, self.root.parent / f"scratch-{name}")
        self.add(name, HEADER.format(subject=f"Do {name}") + diff)
        self.now = after

    def add(self, name: str, text: str) -> None:
        (self.folder / name).write_bytes(text.encode())
        self.names.append(name)
        (self.folder / "series").write_text("".join(f"{name}\n" for name in self.names))

    def overlay(self, files: dict[str, str]) -> None:
        write_tree(self.root / "overlay" / "shared", files)

    def another(self, name: str) -> None:
        """A set of the same patches for the same release, recorded."""
        folder = shutil.copytree(self.folder, self.root / "patches" / name)
        if (own := self.root / "overlay" / SET).is_dir():
            shutil.copytree(own, self.root / "overlay" / name)
        toml = folder / "set.toml"
        toml.write_text(toml.read_text().replace("9.9.9", name.removeprefix("v")))
        assert self.run("pin", name, "--offline") == 0

    def expected(self) -> dict[str, bytes]:
        """The patched tree."""
        overlay = self.root / "overlay" / "shared"
        return {**{path: text.encode() for path, text in self.now.items()}, **read_tree(overlay)}

    def set_toml(self) -> str:
        manifest = "".join(f"{sha256(text.encode())}  {path}\n" for path, text in sorted(UPSTREAM.items()))
        (self.folder / "upstream.sha256").write_text(manifest)
        return textwrap.dedent(f"""\
            # A comment to keep.
            format = 1

            [vllm]
            version = "9.9.9"
            [vllm.sdist]
            file = "vllm-9.9.9.tar.gz"
            sha256 = "{"0" * 64}"

            [ascend]
            version = "{VERSION}"
            commit = "{COMMIT}"
            released = 2026-01-02
            package = "{PACKAGE}"
            generated = ["PKG-INFO", "{PACKAGE}.egg-info/entry_points.txt"]  # and this one
            [ascend.sdist]
            file = "{SDIST}"
            sha256 = "{sha256(self.sdist)}"

            [runtime]
            torch = "2.7.1"
            torch_npu = "2.7.1"
            cann = "8.2"
            python = ">=3.9,<3.12"

            [upstream]
            manifest = "{sha256(manifest.encode())}"

            [result]
            tree = ""
            [result.files]
            """)

    def run(self, *words: str) -> int:
        """`patchset` with these words; the exit code."""
        return cli.main(list(words))

    def selftest(self, *words: str) -> int:
        """`python -m selftest WORDS`; the exit code."""
        return selftest.main(words)

    def pin(self) -> None:
        assert self.run("pin", SET, "--offline") == 0

    def checkout(self, folder: Path) -> Path:
        """A folder as a checkout of the tag has it: without the generated files."""
        return write_tree(folder, {path: text for path, text in UPSTREAM.items() if path not in GENERATED})

    def site_packages(self, folder: Path, ending: str = "\n") -> Path:
        """A folder as an installer leaves it."""
        files = {path: text for path, text in UPSTREAM.items() if path.startswith(f"{PACKAGE}/")}
        info = f"{PACKAGE}-{VERSION}.dist-info"
        files |= {f"{info}/METADATA": UPSTREAM["PKG-INFO"], "other/__init__.py": ""}
        write_tree(folder, files)
        (folder / PACKAGE / "_build_info.py").write_text("soc = 'A2'\n")
        (folder / PACKAGE / "_C.so").write_bytes(b"\x7fELF")
        files |= {f"{PACKAGE}/_build_info.py": "soc = 'A2'\n"}
        rows = [distinfo.row(path, text.encode()) for path, text in files.items() if not path.startswith("other/")]
        lines = [",".join(row) for row in [*rows, ['"a,comma.txt"', "", ""], [f"{info}/RECORD", "", ""]]]
        (folder / info / "RECORD").write_bytes(ending.join([*lines, ""]).encode())
        return folder


def make_world(folder: Path) -> World:
    """The usual set: three patches (edit, edit and add, delete) and an overlay of two modules."""
    world = World(folder / "repo", folder / "served")
    for made in (world.folder, world.root / "overlay" / "shared", world.served):
        made.mkdir(parents=True)
    world.sdist = make_sdist(world.served / SDIST, UPSTREAM)
    (world.folder / "set.toml").write_text(world.set_toml())
    (world.folder / "series").write_text("")
    world.fill_cache()
    return world


def usual(world: World) -> World:
    runner = UPSTREAM[f"{PACKAGE}/runner.py"]
    first = runner.replace("step_5 = 5\n", "step_5 = 50\n").replace("step_25 = 25\n", "")
    world.patch("0001-steps.patch", {f"{PACKAGE}/runner.py": first})
    hooked = first.replace("step_6 = 6\n", f"from {PACKAGE}.data_parallel.plan import answer\nstep_6 = answer\n")
    world.patch("0002-hook.patch", {f"{PACKAGE}/runner.py": hooked, f"{PACKAGE}/new.py": "new = True\n"})
    world.patch("0003-drop-old.patch", {f"{PACKAGE}/old.py": None})
    world.overlay(OVERLAY)
    world.pin()
    return world


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A set whose series is empty and that has no overlay; its sdist is cached."""
    world = make_world(tmp_path)
    monkeypatch.setenv("PATCHSET_ROOT", str(world.root))
    return world


@pytest.fixture
def world(empty: World) -> World:
    """The usual set, recorded; its sdist is cached."""
    return usual(empty)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serves a folder on loopback; the URL of its index, which is in simple/."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/simple"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def index(empty: World, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """An index on loopback that serves the sdist; yields its URL."""
    project = empty.served / "simple" / "vllm-ascend"
    project.mkdir(parents=True)
    (project / SDIST).write_bytes(empty.sdist)
    (project / "index.html").write_text(f'<html><body><a href="{SDIST}">{SDIST}</a></body></html>')
    with serving(empty.served) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        yield url
