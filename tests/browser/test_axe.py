# SPDX-License-Identifier: Apache-2.0
"""The review page by the rules of axe-core, in each of its states."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Open
from playwright.sync_api import Page

# Thousands of lines that look as the others do.
LARGE = {"exclude": [["[id$='/big.py'] .diff"]]}


def findings(page: Page) -> list[str]:
    """What axe finds, a line for each element."""
    found = Axe().run(page, context=LARGE).response
    assert len(found["passes"]) > 15  # the rules did run
    return [
        f"{rule['id']}: {node['target']}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("width", "scheme", "view"), [(1440, "light", "split"), (1440, "dark", "unified"), (390, "light", "unified")]
)
def test_axe_finds_nothing(opened: Open, width: int, scheme: str, view: str) -> None:
    page = opened(width=width, scheme=scheme)
    if page.locator(".views").is_visible():
        page.locator(f".views [data-view={view}]").click()
    assert not findings(page)
    page.evaluate("for (const d of document.querySelectorAll('main details, #tree details')) d.open = true")
    page.locator("#query").fill("step")
    page.locator("#found", has_text="1 of").wait_for()
    page.locator(".viewed input").first.check()
    assert not findings(page)


def test_axe_finds_nothing_in_the_help(opened: Open) -> None:
    page = opened()
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert not findings(page)


def test_axe_does_look(opened: Open) -> None:
    page = opened()
    page.evaluate("document.querySelector('#query').previousElementSibling.remove()")
    page.evaluate("document.querySelector('#query').removeAttribute('placeholder')")
    assert any(line.startswith("label: ") for line in findings(page))
