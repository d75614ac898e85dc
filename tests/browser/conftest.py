# SPDX-License-Identifier: Apache-2.0
"""A review page of a tiny set that has everything, and a real Chromium that opens it from disk."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request, sync_playwright

UNIT = Path(__file__).resolve().parents[1] / "unit"
NAMES = ("chromium", "chromium-browser", "google-chrome")

BIG = 2_000  # lines of the large diffs
HOSTILE = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>'


def chromium() -> str:
    """Path of the browser: CHROMIUM, or the first of the usual names on PATH."""
    named = os.environ.get("CHROMIUM")
    found = [shutil.which(named)] if named else [shutil.which(name) for name in NAMES]
    path = next((path for path in found if path), None)
    if path is None:
        what = f"CHROMIUM={named} is not there" if named else f"none of {', '.join(NAMES)} is on PATH"
        raise pytest.UsageError(
            f"{what}; the tests of the review page need it: apt-get install chromium (Debian), or set CHROMIUM=path"
        )
    return path


def pytest_sessionstart() -> None:
    """A machine without Chromium gets one line that says what to install."""
    chromium()


def load_tiny() -> ModuleType:
    """The tiny upstream of the unit tests, and the repository around it."""
    spec = importlib.util.spec_from_file_location("tiny_upstream", UNIT / "conftest.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return load_tiny()


@pytest.fixture(scope="session")
def review_page(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """index.html of a set with hostile text, large diffs, an overlay, proofs, and an older series."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("world")
        patch.setenv("PATCHSET_CACHE", str(folder / "cache"))
        patch.setenv("PATCHSET_ROOT", str(folder / "repo"))
        patch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/none")
        world = tiny.make_world(folder)
        build(world, tiny)
        assert world.run("review", tiny.SET, "--offline", "--against", "HEAD~1") == 0
        yield world.root / "build" / tiny.SET / "review" / "index.html"


def build(world: object, tiny: ModuleType) -> None:
    package, upstream = tiny.PACKAGE, tiny.UPSTREAM
    runner, comm = f"{package}/runner.py", f"{package}/comm.py"
    world.patch("0001-comm.patch", {comm: upstream[comm].replace("'alltoall'", "'allgather'")})
    steps = upstream[runner].replace("step_5 = 5\n", "step_5 = 50\n").replace("step_25 = 25\n", "")
    world.patch("0002-steps.patch", {runner: steps + f"text = {HOSTILE!r}\n# \u202ereversed\n"})
    big = "".join(f"value_{n} = compute({n}, 'text')\n" for n in range(BIG))
    world.patch("0003-big.patch", {f"{package}/big.py": big})
    changed = "".join(
        f"value_{n} = compute({n}, 'word')  # new\n" if n % 5 == 0 else f"value_{n} = compute({n}, 'text')\n"
        for n in range(BIG)
    )
    world.patch("0004-big-edit.patch", {f"{package}/big.py": changed, f"{package}/old.py": None})
    world.overlay({f"{package}/data_parallel/plan.py": 'def answer():\n    """Says."""\n    return 42\n'})
    toml = world.root / "overlay" / tiny.SET / "overlay.toml"
    toml.parent.mkdir()
    toml.write_text(
        f'[[module]]\npath = "{package}/data_parallel/plan.py"\n'
        f'[[module.replaces]]\npath = "{comm}"\nsymbol = "Comm.size"\n'
    )
    tiny.git(world.root, "init", "-q", "--initial-branch=main")
    tiny.git(world.root, "add", "-A", "patches", "overlay")
    tiny.git(world.root, "commit", "-qm", "First")
    first = world.folder / "0001-comm.patch"
    text = first.read_text().replace("Why: because.", f"Why: because {HOSTILE} and upstream/project#12.")
    first.write_text(
        text.replace("Subject: Do", f"Subject: {HOSTILE} Do").replace("+    return 'allgather'", "+    return 'mc2'")
    )
    assert world.run("fmt", tiny.SET, "--offline") == 0
    tiny.git(world.root, "commit", "-qam", "Second")
    world.pin()
    tree = re.search(r'^tree = "(\w{64})"', (world.folder / "set.toml").read_text(), re.MULTILINE)
    assert tree
    seen = {"passed": True, "seen": [f"hang {HOSTILE}"], "tests": ["test_hang"]}
    row = {"defect": "D1", "title": HOSTILE, "shown": "yes", "fixed": "fixed", "pristine": seen, "patched": seen}
    report = world.root / "build" / tiny.SET / "defects.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps({"set": tiny.SET, "tree": tree[1], "rows": [row]}))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium's sandbox refuses root
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=sandbox)
        yield running
        running.close()


@pytest.fixture
def problems() -> list[str]:
    """What a page must not do: every message, error, dialog, and request but for the page itself."""
    return []


def watch(page: Page, file: Path, problems: list[str]) -> None:
    def dismiss(dialog: Dialog) -> None:
        problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def request(asked: Request) -> None:
        if asked.url.partition("#")[0] != file.as_uri():
            problems.append(f"request: {asked.url}")

    page.on("console", lambda message: problems.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("dialog", dismiss)
    page.on("request", request)


Open = Callable[..., Page]

# Only a frame decides which parts count as on the screen, and only after it are observers told.
PAINTED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture
def opened(browser: Browser, review_page: Path, problems: list[str]) -> Iterator[Open]:
    """Opens the page: `opened(fragment, width=, height=, scheme=, scripts=)`. Problems fail the test at its end."""
    contexts: list[BrowserContext] = []

    def start(
        fragment: str = "", *, width: int = 1440, height: int = 900, scheme: str = "light", scripts: bool = True
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            java_script_enabled=scripts,
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        watch(page, review_page, problems)
        page.goto(review_page.as_uri() + (f"#{fragment}" if fragment else ""))
        if scripts:
            page.evaluate(PAINTED)
        return page

    yield start
    for context in contexts:
        context.close()
    assert not problems
