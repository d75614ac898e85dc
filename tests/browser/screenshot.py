# SPDX-License-Identifier: Apache-2.0
"""Photographs a review page for the README: screenshot.py INDEX_HTML FOLDER writes review.webp and review-dark.webp."""

import os
import sys
from io import BytesIO
from pathlib import Path

from conftest import chromium
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

PLACE = "0003-one-decision-per-step"  # a patch whose text and diff fit one window
LARGEST = 200_000  # bytes that a picture in a repository may have


def photograph(browser: Browser, page: Path, scheme: str, to: Path) -> None:
    """One window of the page, at a patch, in one theme."""
    window = browser.new_page(viewport={"width": 1440, "height": 940}, color_scheme=scheme)  # type: ignore[arg-type]
    window.goto(f"{page.resolve().as_uri()}#{PLACE}")
    window.locator(f"[id='{PLACE}']").wait_for()
    window.evaluate("document.fonts.ready")
    with Image.open(BytesIO(window.screenshot())) as picture:
        picture.convert("RGB").save(to, "WEBP", lossless=True, quality=100, method=6)
    window.close()
    if to.stat().st_size > LARGEST:
        sys.exit(f"{to} has {to.stat().st_size:,} bytes, more than {LARGEST:,}")
    print(f"{to}: {to.stat().st_size:,} bytes")


def main(page: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=sandbox)
        photograph(browser, page, "light", folder / "review.webp")
        photograph(browser, page, "dark", folder / "review-dark.webp")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
