# SPDX-License-Identifier: Apache-2.0
"""The review page with a diff of 2,000 lines, in Chromium: how long a reader waits.

``python tests/benchmarks/review_page.py [--lines N] [--rounds N]``. Two baselines, measured in turns in the same run: a
diff of 20 lines, and the same large page with every line laid out at once. Each figure is a median in milliseconds, to
the second frame after it is done.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
from conftest import chromium, load_tiny

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
        world.record()
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
    arguments = parser.parse_args()
    tiny = load_tiny()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pages = {}
        for name, lines in (("20 lines", 20), (f"{arguments.lines} lines", arguments.lines)):
            (Path(folder) / name).mkdir()
            pages[name] = make(tiny, Path(folder) / name, lines)
        large = pages[f"{arguments.lines} lines"]
        pages[f"{arguments.lines} lines, all laid out"] = at_once(large)
        found: dict[str, dict[str, list[float]]] = {name: {} for name in pages}
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=sandbox)
        for _ in range(arguments.rounds):
            for name, html in pages.items():
                file = Path(folder) / "index.html"
                file.write_text(html)
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                measure(page, file, found[name])
                page.close()
        browser.close()
    show(found)


def show(found: dict[str, dict[str, list[float]]]) -> None:
    (small, few), (_, ours), (whole, eager) = found.items()
    table = Table("ms", small, "large", f"/ {small}", whole, "ours / that")
    for name, times in ours.items():
        base, mine, all_of_it = (statistics.median(side) for side in (few[name], times, eager[name]))
        ratios = (f"{mine / base:.1f}", f"{all_of_it:.0f}", f"{mine / all_of_it:.2f}")
        table.add_row(name, f"{base:.0f}", f"{mine:.0f}", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
