# SPDX-License-Identifier: Apache-2.0
"""The review page with a diff of 2,000 lines, in Chromium: how long a reader waits.

``python review_page.py --out FILE`` with the tool's Python. Two baselines, in turns: the same page with every line laid
out at once, and a diff of 20 lines. Each figure is in milliseconds, to the second frame after it is done.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
from playwright.sync_api import Page, sync_playwright

from selftest.bench.pairs import compared

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
from conftest import chromium, load_tiny

QUESTION = "The review page in Chromium"
SMALL_LINES, SMALL, LARGE, WHOLE = 20, "20 lines", "large", "all laid out at once"
LAZY = ".piece { content-visibility: auto;"

FRAMES = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
STEPS = {
    "open": f"async () => {{ {FRAMES} return performance.now(); }}",
    "split to unified": f"""async () => {{
        const begin = performance.now();
        document.querySelector('.views [data-view=unified]').click();
        {FRAMES} return performance.now() - begin; }}""",
    "unified to split": f"""async () => {{
        const begin = performance.now();
        document.querySelector('.views [data-view=split]').click();
        {FRAMES} return performance.now() - begin; }}""",
    "next change": f"""async () => {{
        const begin = performance.now();
        document.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'n', bubbles: true }}));
        {FRAMES} return performance.now() - begin; }}""",
    "search": f"""async () => {{
        const query = document.getElementById('query');
        const begin = performance.now();
        query.value = 'value_1';
        query.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'Enter', bubbles: true }}));
        {FRAMES} return performance.now() - begin; }}""",
}


def make(tiny: ModuleType, folder: Path, lines: int) -> str:
    """A page whose one patch rewrites every fifth of that many lines of a file, which a patch before it adds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATCHSET_CACHE", str(folder / "cache"))
        patch.setenv("PATCHSET_ROOT", str(folder / "repo"))
        world = tiny.make_world(folder)
        old = [f"value_{number} = compute({number}, 'text')\n" for number in range(lines)]
        new = [line.replace("text", "word") if number % 5 == 0 else line for number, line in enumerate(old)]
        world.patch("0001-add.patch", {f"{tiny.PACKAGE}/big.py": "".join(old)})
        world.patch("0002-edit.patch", {f"{tiny.PACKAGE}/big.py": "".join(new)})
        world.pin()
        if world.run("review", tiny.SET, "--offline"):
            sys.exit(1)
        return (world.root / "build" / tiny.SET / "review" / "index.html").read_text()


def measure(page: Page, file: Path, found: dict[str, list[float]]) -> None:
    """One round: opens the page and does each step."""
    page.goto(file.as_uri())
    for name, script in STEPS.items():
        found.setdefault(name, []).append(page.evaluate(script))


def at_once(html: str) -> str:
    """The page without the rule that lets a browser leave far lines alone, and without the policy that holds it."""
    assert html.count(LAZY) == 1
    head, _, rest = html.partition('<meta http-equiv="Content-Security-Policy"')
    return (head + rest.partition(">\n")[2]).replace(LAZY, ".piece {")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    tiny = load_tiny()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pages = {}
        for name, lines in ((SMALL, SMALL_LINES), (LARGE, given.lines)):
            (Path(folder) / name).mkdir()
            pages[name] = make(tiny, Path(folder) / name, lines)
        pages[WHOLE] = at_once(pages[LARGE])
        found: dict[str, dict[str, list[float]]] = {name: {} for name in pages}
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=sandbox)
        for _ in range(given.rounds):
            for name, html in pages.items():
                file = Path(folder) / "index.html"
                file.write_text(html)
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                measure(page, file, found[name])
                page.close()
        browser.close()
    rows = [
        compared(
            QUESTION,
            f"{step}, {given.lines:,} lines (ms)",
            against,
            [*zip(found[against][step], times, strict=True)],
            target,
        )
        for step, times in found[LARGE].items()
        for against, target in ((WHOLE, 1.0), (SMALL, None))
    ]
    given.out.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
