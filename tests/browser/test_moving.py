# SPDX-License-Identifier: Apache-2.0
"""The review page in Chromium: search, keys, views, collapse, and addresses of lines."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import unquote

import pytest
from conftest import Open
from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as WaitedTooLong

PACKAGE = "tiny_ascend"
RUNNER = f"0002-steps/{PACKAGE}/runner.py"
BIG_FILE = f"0004-big-edit/{PACKAGE}/big.py"


def file(page: Page, anchor: str) -> Locator:
    return page.locator(f"[id='{anchor}']")


def head(where: Locator) -> Locator:
    """The line of a file that folds it."""
    return where.locator("> details > summary")


def fragment(page: Page) -> str:
    return unquote(str(page.evaluate("location.hash")).removeprefix("#"))


def moves_to(page: Page, anchor: str | None) -> bool:
    """Whether the address ends with ``anchor``, or soon will: a browser follows a link after the key."""
    with suppress(WaitedTooLong):
        page.wait_for_function("anchor => decodeURIComponent(location.hash) === '#' + anchor", arg=anchor)
    return fragment(page) == anchor


def top(where: Locator) -> float:
    box = where.bounding_box()
    assert box
    return box["y"]


def in_window(where: Locator) -> bool:
    return bool(
        where.evaluate("(e) => { const b = e.getBoundingClientRect(); return b.top >= 50 && b.bottom <= innerHeight; }")
    )


def click_number(line: Locator, *, side: str = "new", modifiers: list[str] | None = None) -> None:
    """Clicks the drawn line number, at the left of either half."""
    box = line.bounding_box()
    assert box
    x = 8 if side == "old" else box["width"] / 2 + 8
    line.click(position={"x": x, "y": 8}, modifiers=modifiers)  # type: ignore[arg-type]


def test_split_and_unified(opened: Open) -> None:
    page = opened(RUNNER)
    block = file(page, RUNNER).locator(".ch").first
    removed, added = block.locator(".l.d").first, block.locator(".l.a").first
    assert page.locator("html").get_attribute("data-view") == "split"
    assert top(removed) == top(added)
    context = file(page, RUNNER).locator(".l:not(.a, .d):visible").first
    assert context.locator("code:visible").count() == 2
    page.keyboard.press("s")
    assert top(removed) < top(added)
    assert context.locator("code:visible").count() == 1
    page.reload()
    assert page.locator("html").get_attribute("data-view") == "unified"
    page.locator(".views button", has_text="Split").click()
    assert page.locator(".views button", has_text="Split").get_attribute("aria-pressed") == "true"
    assert top(removed) == top(added)


def test_changed_words_and_colours(opened: Open) -> None:
    page = opened(RUNNER)
    block = file(page, RUNNER).locator(".ch").first
    assert block.locator(".d .x").all_text_contents() == ["5"] and block.locator(".a .x").all_text_contents() == ["50"]
    word, line = (
        where.evaluate("(e) => getComputedStyle(e).backgroundColor")
        for where in (block.locator(".a .x").first, block.locator(".l.a").first)
    )
    assert word != line
    module = file(page, f"overlay/{PACKAGE}/data_parallel/plan.py/module")
    assert module.locator(".k").first.text_content() == "def"
    colours = {
        module.locator(look).first.evaluate("(e) => getComputedStyle(e).color") for look in (".k", ".f", ".s", ".m")
    }
    assert len(colours) == 4


def test_the_overlay_stands_beside_what_it_replaces(opened: Open) -> None:
    page = opened(f"overlay/{PACKAGE}/data_parallel/plan.py")
    module = file(page, f"overlay/{PACKAGE}/data_parallel/plan.py")
    upstream, new = module.locator(".upstream"), module.locator(".new")
    assert "return 1" in upstream.inner_text() and "return 42" in new.inner_text()
    assert upstream.bounding_box()["x"] < new.bounding_box()["x"]  # type: ignore[index]


def test_a_click_on_a_number_is_an_address_that_survives_reload(opened: Open) -> None:
    page = opened(RUNNER)
    line = file(page, RUNNER).locator(".l.a[data-r='5']")
    line.click(position={"x": 6, "y": 6})
    assert moves_to(page, f"{RUNNER}:R5")
    assert "on" in (line.get_attribute("class") or "").split()
    page.evaluate("scrollTo(0, 0)")
    page.reload()
    assert "on" in (line.get_attribute("class") or "").split()
    assert in_window(line)


def test_either_side_and_a_range(opened: Open) -> None:
    page = opened(RUNNER)
    lines = file(page, RUNNER)
    lines.locator(".l.d[data-l='5']").click(position={"x": 6, "y": 6})
    assert moves_to(page, f"{RUNNER}:L5")
    context = lines.locator(".l[data-l='4'][data-r='4']")
    click_number(context, side="old")
    assert moves_to(page, f"{RUNNER}:L4")
    click_number(context)
    assert moves_to(page, f"{RUNNER}:R4")
    click_number(lines.locator(".l[data-l='7'][data-r='7']"), modifiers=["Shift"])
    assert moves_to(page, f"{RUNNER}:R4-7")
    assert page.locator(".l.on").count() == 4
    page.reload()
    assert page.locator(".l.on").count() == 4
    page.keyboard.press("Escape")
    assert page.locator(".l.on").count() == 0


@pytest.mark.parametrize(
    "address",
    [
        f"{BIG_FILE}:R1801",
        f"net/{PACKAGE}/big.py:R1990",
        f"overlay/{PACKAGE}/data_parallel/plan.py/module:R3",
        f"overlay/{PACKAGE}/data_parallel/plan.py/replaces/{PACKAGE}/comm.py/Comm.size:R7",
    ],
)
def test_an_address_leads_to_its_line_wherever_it_is(opened: Open, address: str) -> None:
    page = opened(address)
    line = page.locator(".l.on")
    assert line.count() == 1 and line.get_attribute("data-r") == address.rpartition("R")[2]
    assert in_window(line)


def test_an_address_opens_what_is_collapsed(opened: Open) -> None:
    page = opened()
    page.locator("#fold").click()
    assert page.locator("#fold").text_content() == "Open all"
    page.evaluate(f"location.hash = '{RUNNER}:R5'")
    line = file(page, RUNNER).locator(".l.on")
    line.wait_for()
    assert in_window(line)


@pytest.mark.parametrize("address", ["nowhere", "nowhere:R5", f"{RUNNER}:R99999", "%E0%A4%A", f"{RUNNER}:X5"])
def test_an_address_of_nothing_does_nothing(opened: Open, address: str) -> None:
    page = opened(address)
    assert page.locator(".l.on").count() == 0
    assert page.locator("h1").is_visible() or page.evaluate("scrollY") >= 0


def test_j_and_k_go_from_file_to_file(opened: Open) -> None:
    page = opened()
    files = page.locator(".file")
    for number in (0, 1, 2):
        page.keyboard.press("j")
        assert "current" in (files.nth(number).get_attribute("class") or "")
        assert 40 <= top(files.nth(number)) < 90
        assert moves_to(page, files.nth(number).get_attribute("id"))
        assert head(files.nth(number)).evaluate("(e) => e === document.activeElement")
    page.keyboard.press("k")
    assert "current" in (files.nth(1).get_attribute("class") or "")
    for _ in range(files.count() + 3):
        page.keyboard.press("j")
    assert "current" in (files.last.get_attribute("class") or "")


def test_n_and_p_go_from_change_to_change(opened: Open) -> None:
    page = opened()
    changes = page.locator(".ch")
    for number in (0, 1, 2):
        page.keyboard.press("n")
        assert page.locator(".l.on").count() == changes.nth(number).locator(".l").count()
        assert "on" in (changes.nth(number).locator(".l").first.get_attribute("class") or "").split()
        assert in_window(changes.nth(number).locator(".l").first)
    page.keyboard.press("p")
    assert "on" in (changes.nth(1).locator(".l").first.get_attribute("class") or "").split()
    assert fragment(page).startswith(RUNNER)
    page.reload()
    assert page.locator(".l.on").count() == 1


def test_n_begins_where_the_reader_is(opened: Open) -> None:
    page = opened(BIG_FILE)
    page.keyboard.press("n")
    assert fragment(page).startswith(BIG_FILE)


def test_n_between_two_files_goes_to_the_next_one(opened: Open) -> None:
    page = opened("net")
    page.keyboard.press("n")
    assert fragment(page).startswith("net/")
    page.reload()
    page.evaluate("location.hash = '#net'")
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    assert fragment(page).startswith("0004-big-edit/")


def test_a_reader_stays_where_they_are(opened: Open) -> None:
    page = opened("net")
    heading = page.locator("#net h2")
    before = top(heading)
    for key in ("s", "s", "c", "c"):
        page.keyboard.press(key)
        assert abs(top(heading) - before) <= 2
    page = opened(f"{BIG_FILE}:R1001")
    line = page.locator(".l.on")
    line.evaluate("(e) => scrollBy(0, e.getBoundingClientRect().top - 100)")
    for _ in range(2):
        page.keyboard.press("s")
        assert abs(top(line) - 100) <= 40


def test_collapse(opened: Open) -> None:
    page = opened(RUNNER)
    body = file(page, RUNNER).locator(".diff")
    page.keyboard.press("x")
    assert not body.is_visible()
    page.keyboard.press("x")
    assert body.is_visible()
    head(file(page, RUNNER)).click()
    assert not body.is_visible()
    page.keyboard.press("c")
    assert page.locator(".file > details[open]").count() == 0
    page.keyboard.press("c")
    assert page.locator(".file > details:not([open])").count() == 0


def test_search(opened: Open) -> None:
    page = opened()
    page.keyboard.press("/")
    query, found = page.locator("#query"), page.locator("#found")
    assert query.evaluate("(e) => e === document.activeElement")
    query.press_sequentially("STEP_25")
    page.locator("#found", has_text="1 of 2").wait_for()  # the patch, and the net diff
    assert page.evaluate("CSS.highlights.get('found').size") == 2
    assert page.evaluate("[...CSS.highlights.get('found')].every((range) => range.toString() === 'step_25')")
    assert in_window(file(page, RUNNER).locator(".l.d[data-l='25']"))
    query.press("Enter")
    assert found.text_content() == "2 of 2"
    assert in_window(file(page, f"net/{PACKAGE}/runner.py").locator(".l.d[data-l='25']"))
    query.press("Enter")
    assert found.text_content() == "1 of 2"
    query.press("Enter")
    query.press("Shift+Enter")
    assert found.text_content() == "1 of 2"
    page.locator("#next").click()
    assert found.text_content() == "2 of 2"
    hits = page.locator(f"#tree [data-for='{RUNNER}'] .hits")
    assert hits.text_content() == "1"
    assert not page.locator(f"#tree [data-for='net/{PACKAGE}/old.py']").is_visible()
    query.press("Escape")
    assert query.input_value() == "" and found.text_content() == ""
    assert page.evaluate("CSS.highlights.get('found').size") == 0
    assert page.locator(f"#tree [data-for='net/{PACKAGE}/old.py']").is_visible()


def test_search_finds_what_is_collapsed_and_text_that_spans_colours(opened: Open) -> None:
    page = opened()
    page.keyboard.press("c")
    page.keyboard.press("/")
    page.keyboard.type("def answer(")
    page.locator("#found", has_text="1 of 1").wait_for()
    page.keyboard.press("Enter")
    assert page.evaluate("[...CSS.highlights.get('now')][0].toString()") == "def answer("
    assert file(page, f"overlay/{PACKAGE}/data_parallel/plan.py").locator(".new .l").first.is_visible()


def test_search_for_nothing_and_for_everything(opened: Open) -> None:
    page = opened()
    page.locator("#query").fill("not to be found anywhere")
    page.locator("#found", has_text="no match").wait_for()
    assert not page.locator("#next").is_visible()
    page.locator("#query").fill("value_")
    page.locator("#found", has_text="1 of 2000+").wait_for()
    page.locator("#query").press("Shift+Enter")
    assert page.locator("#found").text_content() == "2000 of 2000+"


def test_search_moves_while_typing_and_back_again(opened: Open) -> None:
    page = opened("0003-big")
    page.keyboard.press("c")
    heading = file(page, "0003-big").locator("h3")
    before = top(heading)
    page.keyboard.press("/")
    page.keyboard.type("value_7 ")
    page.locator("#found", has_text="1 of").wait_for()
    first = file(page, f"0003-big/{PACKAGE}/big.py").locator(".l.a[data-r='8']")
    assert in_window(first)  # of several, the first from where the reader was; its file is opened for it
    page.keyboard.type("not there")
    page.locator("#found", has_text="no match").wait_for()
    assert abs(top(heading) - before) <= 2 and not first.is_visible()
    page.locator("#query").fill("value_7 ")
    page.locator("#found", has_text="1 of").wait_for()
    page.keyboard.press("Escape")
    assert in_window(first)


def test_search_ends_where_it_began_when_its_word_is_taken_back(opened: Open) -> None:
    page = opened(BIG_FILE)
    summary = head(file(page, BIG_FILE))
    before = top(summary)
    page.locator("#query").fill("step_25")
    page.locator("#found", has_text="2 of 2").wait_for()  # the first was passed
    assert not in_window(summary)
    page.locator("#query").fill("")
    expect(page.locator("#found")).to_have_text("")
    assert abs(top(summary) - before) <= 2


def test_shift_j_and_k_go_from_patch_to_patch(opened: Open) -> None:
    page = opened()
    for anchor in ("0001-comm", "0002-steps", "0003-big"):
        page.keyboard.press("J")
        assert moves_to(page, anchor) and 40 <= top(file(page, anchor)) < 90
    page.keyboard.press("K")
    assert moves_to(page, "0002-steps")
    page.keyboard.press("j")
    assert moves_to(page, RUNNER)


def test_context_unfolds_above_and_below_a_hunk(opened: Open) -> None:
    page = opened(RUNNER)
    lines = file(page, RUNNER)
    assert not lines.locator("[data-r='9']").is_visible()
    more = lines.locator(".unfold", has=page.locator("[data-r='9']"))
    more.locator("summary").click()
    line = lines.locator("[data-r='9']")
    assert line.is_visible() and line.get_attribute("data-l") == "9" and "step_9 = 9" in line.inner_text()
    assert "a" not in (line.get_attribute("class") or "").split()
    numbers = lines.locator("[data-r]").evaluate_all("(all) => all.map((one) => Number(one.dataset.r))")
    assert numbers == sorted({*numbers})  # none stands there twice


def test_an_address_opens_the_context_that_it_lies_in(opened: Open) -> None:
    page = opened(f"{RUNNER}:R9")
    line = page.locator(".l.on")
    assert line.get_attribute("data-r") == "9" and in_window(line)


def test_the_net_diff_is_folded_until_it_is_asked_for(opened: Open) -> None:
    page = opened()
    net = page.locator("#net .file > details")
    assert net.count() > 3 and page.locator("#net .file > details[open]").count() == 0
    page.locator(f"#tree [data-for='net/{PACKAGE}/runner.py']").click()
    page.locator("#net .file > details[open]").wait_for()
    assert file(page, f"net/{PACKAGE}/runner.py").locator(".l.a").first.is_visible()


def test_viewed_files_stay_folded_wherever_their_lines_stand(opened: Open) -> None:
    page = opened(RUNNER)
    total = page.locator(".viewed").count()
    progress = page.locator("#progress")
    assert progress.text_content() == f"0 of {total} files viewed"
    box = file(page, RUNNER).locator(".viewed input")
    box.check()
    assert not file(page, RUNNER).locator(".diff").is_visible()
    page.reload()
    assert box.is_checked() and not file(page, f"net/{PACKAGE}/runner.py").locator(".diff").is_visible()
    assert file(page, f"net/{PACKAGE}/runner.py").locator(".viewed input").is_checked()  # no other patch touches it
    assert progress.text_content() == f"2 of {total} files viewed"
    assert page.locator("#tree .done").count() == 2
    edited = file(page, f"0003-big/{PACKAGE}/big.py").locator(".viewed input")
    edited.check()
    assert not file(page, BIG_FILE).locator(".viewed input").is_checked()  # other lines of the same file
    box.uncheck()
    assert file(page, RUNNER).locator(".diff").is_visible()


def test_v_marks_the_file_that_the_reader_is_at(opened: Open) -> None:
    page = opened()
    page.keyboard.press("j")
    first = page.locator(".file").first
    page.keyboard.press("v")
    assert first.locator(".viewed input").is_checked() and not first.locator(".diff").is_visible()
    page.keyboard.press("v")
    assert not first.locator(".viewed input").is_checked() and first.locator(".diff").is_visible()


def test_the_older_series_marks_the_overview_and_the_patches(opened: Open) -> None:
    page = opened()
    marks = page.locator("#overview .list td [class*='fate-']")
    assert marks.all_text_contents() == ["changed", "same", "same", "same"]
    assert page.locator(".patch .facts [class*='fate-']").all_text_contents() == marks.all_text_contents()
    marks.first.click()
    page.wait_for_url("**#range-1")
    assert in_window(file(page, "range-1").locator("summary"))


def test_keys_are_left_alone_while_typing(opened: Open) -> None:
    page = opened()
    page.keyboard.press("/")
    page.keyboard.type("jknpxcst?")
    assert page.locator("#query").input_value() == "jknpxcst?"
    assert fragment(page) == "" and not page.locator("#help").is_visible()


def test_help(opened: Open) -> None:
    page = opened()
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    for key in ("j", "k", "J", "K", "n", "p", "/", "?", "x", "v", "c", "s", "t"):
        assert page.locator("#help kbd", has_text=key).count() >= 1
    page.keyboard.press("j")
    assert fragment(page) == ""
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.locator("#keys").click()
    page.locator("#help button").click()
    assert not page.locator("#help").is_visible()


def test_the_contents_follow_and_lead(opened: Open) -> None:
    page = opened()
    page.locator("#tree summary", has_text="0002-steps").click()
    assert moves_to(page, "0002-steps") and top(file(page, "0002-steps")) < 120
    link = page.locator(f"#tree [data-for='{RUNNER}']")
    link.click()
    page.locator(f"#tree .here[data-for='{RUNNER}']").wait_for()
    assert 40 <= top(file(page, RUNNER)) < 90


def test_the_map_and_the_defects_lead_to_the_code(opened: Open) -> None:
    page = opened("overlaps")
    page.locator("#overlaps td a").first.click()
    page.locator(".l.on").first.wait_for()  # the page scrolls, then marks
    assert page.locator(".l.on").count() == 1 and in_window(page.locator(".l.on"))
    page.locator("#overview .names a", has_text="D1").first.click()
    page.wait_for_url("**#defect-D1")
    assert moves_to(page, "defect-D1") and in_window(file(page, "defect-D1"))


def test_the_range_diff_says_what_changed(opened: Open) -> None:
    page = opened("ranges")
    rows = page.locator(".ranges li")
    fates = rows.locator(".verdict").all_text_contents()
    assert fates.count("changed") == 1 and fates.count("same") == 4
    assert "mc2" in rows.first.locator("pre").inner_text()


def test_the_first_tab_stop_skips_to_the_review(opened: Open) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the review"
    page.keyboard.press("Enter")
    assert moves_to(page, "main")
