# SPDX-License-Identifier: Apache-2.0
"""The review page in Chromium: what a reader sees, at any width, in any theme, on paper, and without scripts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from conftest import BIG, Open
from playwright.sync_api import Page

PACKAGE = "tiny_ascend"

# Of each distinct pair of colours in which text is shown: the contrast (WCAG 2, 1.4.3), an example, and whether it is
# large.
CONTRAST = """() => {
  const channels = (color) => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const cache = new Map();
  const rgba = (color) => cache.get(color) ?? cache.set(color, channels(color)).get(color);
  const luminance = ([r, g, b]) => {
    const linear = (value) => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
    const [x, y, z] = [r, g, b].map((value) => linear(value / 255));
    return .2126 * x + .7152 * y + .0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      const [, , , alpha] = rgba(color);
      if (alpha === 255) return color;
      if (alpha !== 0) throw new Error(`a translucent background: ${color}`);
    }
    return getComputedStyle(document.documentElement).backgroundColor;
  };
  const found = new Map();
  const note = (style, back, text) => {
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const fore = style.fill && style.fill !== 'rgb(0, 0, 0)' ? style.fill : style.color;
    const [a, b] = [luminance(rgba(fore)), luminance(rgba(back))].sort((x, y) => y - x);
    const key = `${fore} ${back} ${large}`;
    if (!found.has(key)) found.set(key, { ratio: (a + .05) / (b + .05), large, text: text.slice(0, 40), fore, back });
  };
  for (const element of document.querySelectorAll('body *')) {
    if (!element.checkVisibility() || element.closest('.sr, .skip')) continue;
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join('');
    if (text) note(getComputedStyle(element), behind(element), text);
    for (const part of ['::before', '::after']) {
      const style = getComputedStyle(element, part);
      if (/[^"\\s]/.test(style.content) && !['none', 'normal', '""'].includes(style.content)) {
        const own = rgba(style.backgroundColor)[3] === 255 ? style.backgroundColor : behind(element);
        note(style, own, style.content);
      }
    }
  }
  return [...found.values()];
}"""


def scheme_of(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.documentElement).colorScheme"))


def sideways(page: Page) -> list[str]:
    """What makes the page wider than its window: nothing, or the elements that stand out."""
    found = page.evaluate(
        """() => {
          const root = document.documentElement;
          if (root.scrollWidth <= root.clientWidth) return [];
          const inside = (one) => one.checkVisibility() && !one.closest('.scroll, .diff, .both, #tree');
          const right = (one) => one.getBoundingClientRect().right;
          const wide = (one) => one.scrollWidth > one.clientWidth || right(one) > root.clientWidth;
          const out = [...document.querySelectorAll('main *')].filter((one) => inside(one) && wide(one));
          return [`${root.scrollWidth} px`, ...out.map((one) => one.outerHTML.slice(0, 80))];
        }"""
    )
    return [str(one) for one in found]


def test_it_opens_without_a_message_a_request_or_a_script_of_others(opened: Open) -> None:
    page = opened()
    assert page.title() == "v9.9.9: what changes in vllm-ascend 9.9rc1"
    assert page.evaluate("window.ran") is None
    assert page.locator("script").count() == 1 and page.locator("img, iframe, object, embed, link").count() == 0
    assert "<script>window.ran=1</script>" in page.locator("[id='0001-comm'] h3").inner_text()


def test_a_policy_stops_what_escaping_would_miss(opened: Open, problems: list[str]) -> None:
    """Even an element that got in could run nothing and load nothing: asked of the browser itself."""
    page = opened()
    failed: list[str | None] = []
    page.on("requestfailed", lambda request: failed.append(request.failure))
    refused = page.evaluate(
        """async () => {
          const seen = [];
          addEventListener('securitypolicyviolation', (event) => seen.push(event.effectiveDirective));
          const into = document.createElement('div');
          into.innerHTML = '<img src="https://evil.invalid/x.png"><b style="color:red" onclick="window.ran=1">x</b>';
          document.body.append(into);
          into.querySelector('b').click();
          const script = document.createElement('script');
          script.textContent = 'window.ran = 1';
          document.body.append(script);
          await new Promise((done) => setTimeout(done, 200));
          return [...new Set(seen)].sort();
        }"""
    )
    assert refused == ["img-src", "script-src-attr", "script-src-elem", "style-src-attr"]
    assert page.evaluate("window.ran") is None
    assert failed == ["csp"]  # asked for, and stopped before the network
    assert [problem for problem in problems if "Content Security Policy" not in problem] == [
        "request: https://evil.invalid/x.png"
    ]
    problems.clear()


def test_characters_that_reorder_code_are_named(opened: Open) -> None:
    page = opened()
    assert page.locator(".hid", has_text="U+202E").count() >= 1


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", ["split", "unified"])
def test_contrast(opened: Open, theme: str, view: str) -> None:
    page = opened(scheme=theme)
    page.keyboard.press("?")
    page.locator(f".views [data-view={view}]").dispatch_event("click")
    page.evaluate("for (const d of document.querySelectorAll('main details, #tree details')) d.open = true")
    page.locator("#query").evaluate("(e) => { e.value = 'step'; e.dispatchEvent(new Event('input')); }")
    page.locator("#found", has_text="1 of").wait_for()
    page.evaluate("document.querySelector('.l.a').classList.add('on')")
    pairs = page.evaluate(CONTRAST)
    assert len(pairs) > 30
    low = [pair for pair in pairs if pair["ratio"] < (3 if pair["large"] else 4.5)]
    assert not low


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_systems_until_one_is_chosen(opened: Open, scheme: str) -> None:
    page = opened(scheme=scheme)
    bright = "getComputedStyle(document.documentElement).backgroundColor === 'rgb(255, 255, 255)'"
    assert page.evaluate(bright) is (scheme == "light")
    page.keyboard.press("t")
    assert page.locator("#theme").text_content() == "Theme: light" and page.evaluate(bright) is True
    page.keyboard.press("t")
    assert page.locator("#theme").text_content() == "Theme: dark" and page.evaluate(bright) is False
    page.reload()
    assert page.locator("#theme").text_content() == "Theme: dark" and page.evaluate(bright) is False
    page.locator("#theme").click()
    assert page.locator("#theme").text_content() == "Theme: auto"


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1440, 2560])
def test_no_width_scrolls_sideways(opened: Open, width: int) -> None:
    page = opened(width=width)
    assert not sideways(page)
    page.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
    page.evaluate("for (const p of document.querySelectorAll('.piece')) p.style.contentVisibility = 'visible'")
    assert not sideways(page)


def test_a_phone_has_the_contents_behind_a_button(opened: Open) -> None:
    page = opened(width=390, height=844)
    tree = page.locator("#tree")
    assert not tree.is_visible() and page.locator("html").get_attribute("data-view") == "unified"
    page.locator("#menu").click()
    assert tree.is_visible() and page.locator("#menu").get_attribute("aria-expanded") == "true"
    page.locator("#tree a[href='#defects']").click()
    assert not tree.is_visible()
    assert page.url.endswith("#defects")
    assert page.locator("#defects h2").bounding_box()["y"] < 200  # type: ignore[index]


def test_text_on_a_phone_is_large_enough(opened: Open) -> None:
    page = opened(width=390, height=844)
    size = "(all) => all.map((one) => parseFloat(getComputedStyle(one).fontSize))"
    assert min(page.locator("main p, main td, main code").evaluate_all(size)) >= 10.9


def test_paper(opened: Open, tmp_path: Path) -> None:
    page = opened(scheme="dark")
    page.keyboard.press("c")
    assert page.locator(".file > details[open]").count() == 0
    page.evaluate(
        """addEventListener('beforeprint', () => {
          window.folded = document.querySelectorAll('main details:not([open])').length;
        })"""
    )
    pdf = page.pdf(path=str(tmp_path / "review.pdf"), format="A4")
    # All is open on paper, but for context that is folded and the net diff, which is the patches' lines once more ...
    assert page.evaluate("window.folded") == page.locator(".unfold, #net .file > details").count()
    assert page.locator(".file > details[open]").count() == 0  # ... and as it was afterwards
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type /Page/") > BIG / 120
    page.emulate_media(media="print")
    assert scheme_of(page) == "light"
    for hidden in (".bar", "#tree", "footer"):
        assert not page.locator(hidden).is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.piece')).contentVisibility") == "visible"


def test_without_scripts_everything_can_be_read(opened: Open) -> None:
    page = opened(f"net/{PACKAGE}/runner.py", scripts=False)
    section = page.locator(f"[id='net/{PACKAGE}/runner.py']")
    assert section.is_visible() and -2 <= section.bounding_box()["y"] < 120  # type: ignore[index]
    assert not section.locator(".l.a").first.is_visible() and not section.locator(".viewed").is_visible()
    section.locator("> details > summary").click()
    assert section.locator(".l.a").first.is_visible()
    patch = page.locator(f"[id='0002-steps/{PACKAGE}/runner.py']")
    assert patch.locator(".l.a").first.is_visible()
    patch.locator(".unfold summary").first.click()
    assert patch.locator(".unfold .l").first.is_visible()


def test_paper_has_room_for_the_numbers_of_lines(opened: Open) -> None:
    page = opened(f"0004-big-edit/{PACKAGE}/big.py", width=700)
    page.emulate_media(media="print")
    number = page.locator(f"[id='0004-big-edit/{PACKAGE}/big.py'] .l.a[data-r='1801']")
    room, wide = number.evaluate(
        """(line) => {
          const style = getComputedStyle(line, '::after');
          const canvas = document.createElement('canvas').getContext('2d');
          canvas.font = `${style.fontSize} ${style.fontFamily}`;
          const column = parseFloat(getComputedStyle(line).gridTemplateColumns.split(' ')[1]);
          return [column - parseFloat(style.paddingRight), canvas.measureText('1801').width];
        }"""
    )
    assert wide > 0 and room >= wide - 0.1


def test_a_large_diff_is_laid_out_only_where_it_is_looked_at(opened: Open) -> None:
    page = opened(f"0004-big-edit/{PACKAGE}/big.py")
    lines = f"[...document.querySelectorAll(\"[id='0004-big-edit/{PACKAGE}/big.py'] .l\")]"
    assert page.evaluate(f"{lines}.length") >= BIG
    shown = page.evaluate(f"{lines}.filter((one) => one.checkVisibility({{ contentVisibilityAuto: true }})).length")
    assert 0 < shown < BIG / 4
    split = page.evaluate("document.querySelectorAll('code[aria-hidden]').length")
    assert split > 0
    far = page.evaluate(f"document.querySelectorAll(\"[id='0001-comm/{PACKAGE}/comm.py'] code[aria-hidden]\").length")
    assert far == 0


def test_every_control_has_a_name(opened: Open) -> None:
    page = opened()
    names = page.evaluate(
        "[...document.querySelectorAll('button, summary, a[href]')].map((e) => (e.ariaLabel ?? e.textContent).trim())"
    )
    assert all(names)
    headings = page.evaluate(
        "[...document.querySelectorAll('main h1, main h2, main h3, main h4')].map((e) => Number(e.tagName[1]))"
    )
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
