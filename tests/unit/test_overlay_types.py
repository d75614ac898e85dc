# SPDX-License-Identifier: Apache-2.0
"""`make lint` holds to their types the modules that a set installs, and no other."""

from __future__ import annotations

import pytest
from conftest import PACKAGE, SET, World, write_tree

from patchset.sets.setfile import load_set
from selftest import overlay_types

SHARED, OTHER, OWN = (f"{PACKAGE}/data_parallel/{name}.py" for name in ("plan", "other", "own"))
WRONG = "def answer() -> int:\n    return 'no number'\n"
RIGHT = "def answer() -> int:\n    return 42\n"


@pytest.fixture
def overlaid(world: World) -> World:
    world.overlay({SHARED: WRONG, OTHER: WRONG})
    write_tree(world.root / "overlay" / SET, {SHARED: RIGHT, OWN: RIGHT})
    return world


def test_what_is_laid_out_is_what_is_installed(overlaid: World) -> None:
    (overlaid.root / "overlay" / SET / "overlay.toml").write_text(f'omits = ["{OTHER}"]\n')
    left = overlaid.root / "build" / "lint" / SET / PACKAGE / "left.py"
    left.parent.mkdir(parents=True)
    left.touch()
    folder = overlay_types.lay_out(load_set(SET))
    found = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.py")}
    assert found == {SHARED: RIGHT, OWN: RIGHT, f"{PACKAGE}/data_parallel/__init__.py": ""}


def test_a_module_that_is_not_installed_may_be_wrong(overlaid: World, capfd: pytest.CaptureFixture[str]) -> None:
    assert overlaid.selftest("overlay-types") == 1
    assert "other.py:2: error: Incompatible return value type" in capfd.readouterr().err
    (overlaid.root / "overlay" / SET / "overlay.toml").write_text(f'omits = ["{OTHER}"]\n')
    assert overlaid.selftest("overlay-types", SET) == 0
