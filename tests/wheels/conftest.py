# SPDX-License-Identifier: Apache-2.0
"""The real set, its real wheels and a fresh virtual environment to install them into: `make test-wheels`."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from patchset.sets.setfile import PatchSet, load_set
from patchset.system import paths

TOOL = Path(sys.executable).with_name("patchset")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--set", default="v0.10.1.1", help="the patch set")


@pytest.fixture(scope="session")
def patch_set(request: pytest.FixtureRequest) -> PatchSet:
    return load_set(request.config.getoption("--set"))


def run(*words: str | Path, **environ: str) -> str:
    """Runs a command that must end well; what it printed on stdout."""
    done = subprocess.run(
        [str(word) for word in words], env=os.environ | environ, capture_output=True, text=True, check=False
    )
    assert not done.returncode, f"{words} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def dist(patch_set: PatchSet) -> Path:
    """dist/<set>, made anew."""
    run(TOOL, "wheels", patch_set.name)
    return paths.repo_root() / "dist" / patch_set.name


@dataclass(frozen=True)
class Venv:
    """A virtual environment with nothing but pip."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def pip(self, *words: str | Path) -> str:
        return run(self.python, "-m", "pip", "--disable-pip-version-check", "--isolated", *words)

    def files(self) -> dict[str, int]:
        """Every file but bytecode, with its mode."""
        return {
            path.relative_to(self.folder).as_posix(): path.lstat().st_mode
            for path in self.folder.rglob("*")
            if "__pycache__" not in path.parts
        }


@pytest.fixture(scope="module")
def venv(patch_set: PatchSet, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """Of a Python that the published wheels are for."""
    python = sys.executable
    if not SpecifierSet(patch_set.python).contains(f"{sys.version_info.major}.{sys.version_info.minor}"):
        find = [TOOL.with_name("uv"), "python", "find", "--system", "--no-python-downloads", patch_set.python]
        found = subprocess.run(find, capture_output=True, text=True, check=False)
        if found.returncode:
            pytest.skip(f"no Python {patch_set.python} on this machine, and the wheels are for no other")
        python = found.stdout.strip()
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run(python, "-m", "venv", folder)
    return Venv(folder)
