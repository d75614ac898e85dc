# SPDX-License-Identifier: Apache-2.0
"""review: the page and its Markdown show everything, and run nothing that a patch says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from conftest import HEADER, PACKAGE, SET, UPSTREAM, World, git_diff

from patchset.review import code, markdown, page

Capture = pytest.CaptureFixture[str]

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</script></style></title><b>",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- ",
    "javascript:alert(1)",
    'https://evil.invalid/"onmouseover=alert(1)',
)


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of the page by the element that it is in."""

    VOID = frozenset({"meta", "input", "wbr", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        place = next((tag for tag in reversed(self.open) if tag in ("script", "style")), "body")
        self.text[place] = self.text.get(place, "") + data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def made(world: World) -> str:
    assert world.run("review", SET, "--offline") == 0
    return (world.root / "build" / SET / "review" / "index.html").read_text()


def twin(world: World) -> str:
    return (world.root / "build" / SET / "review" / "review.md").read_text()


@pytest.fixture
def hostile(empty: World) -> World:
    """A set in which everything that can be hostile is."""
    code_lines = "".join(f"step_{n} = {text!r}\n" for n, text in enumerate(HOSTILE, start=1))
    runner = UPSTREAM[f"{PACKAGE}/runner.py"]
    after = {**UPSTREAM, f"{PACKAGE}/runner.py": code_lines + runner, "notes.txt": "\n".join([*HOSTILE, "```"]) + "\n"}
    header = HEADER.format(subject=f"Do {HOSTILE[0]} {HOSTILE[1]}").replace("Why: because.", "Why: " + HOSTILE[2])
    header = header.replace("How: so.", "\n\n".join(HOSTILE)).replace("when upstream does the same", HOSTILE[7])
    header = header.replace("From: A Maintainer", "From: <b>A")
    header = header.replace("<b>A <maintainer@example.invalid>", '"<b>A" <maintainer@example.invalid>')
    empty.add("0001-hostile.patch", header + git_diff(UPSTREAM, after, empty.root.parent / "scratch"))
    empty.now = after
    empty.overlay({f"{PACKAGE}/hostile.py": f"# {HOSTILE[0]}\n# {HOSTILE[3]}\n"})
    assert empty.run("fmt", SET, "--offline") == 0
    (empty.root / "build" / SET).mkdir(parents=True, exist_ok=True)
    return empty


def test_nothing_hostile_becomes_an_element(hostile: World) -> None:
    html = made(hostile)
    elements = Elements(html)
    assert len(elements.of("script")) == len(elements.of("style")) == 1
    assert {"img", "iframe", "object", "embed", "link", "base", "audio", "video"}.isdisjoint(dict(elements.found))
    for tag, attributes in elements.found:
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("src", "style", "srcdoc", "action", "formaction"), tag
            assert name != "href" or re.match(r"#|https://(github\.com|evil\.invalid)/", value or ""), value
    shown = elements.text["body"]
    assert all(" ".join(text.split()) in " ".join(shown.split()) for text in HOSTILE)


def test_the_policy_names_the_one_script_and_the_one_style(world: World) -> None:
    elements = Elements(made(world))
    (policy,) = [meta["content"] for meta in elements.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in policy and "unsafe" not in policy
    for place, directive in (("script", "script-src"), ("style", "style-src")):
        digest = base64.b64encode(hashlib.sha256(elements.text[place].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_the_page_needs_no_network(world: World) -> None:
    html = made(world)
    assert not re.search(
        r"""(src|srcset|poster|data)\s*=|@import|url\(|<link|fetch\(|XMLHttpRequest|\bimport\(""", html
    )


def test_everything_is_on_the_page(world: World) -> None:
    html = made(world)
    shown = " ".join(Elements(html).text["body"].split())
    for text in ("Do 0001-steps.patch", "because.", "so.", "when upstream does the same", "Pending", "D1", "D3"):
        assert text in shown
    ids = [attributes["id"] for _, attributes in Elements(html).found if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for anchor in (
        f"0001-steps/{PACKAGE}/runner.py",
        f"0002-hook/{PACKAGE}/new.py",
        f"0003-drop-old/{PACKAGE}/old.py",
        f"net/{PACKAGE}/runner.py",
        f"overlay/{PACKAGE}/data_parallel/plan.py",
        "overlaps",
        "defects",
    ):
        assert anchor in ids
    targets = {a["href"][1:] for a in Elements(html).of("a") if (a.get("href") or "").startswith("#")}  # type: ignore[index]
    assert {target.rpartition(":")[0] or target for target in targets} <= set(ids)


def test_the_net_diff_is_upstream_against_the_result(world: World) -> None:
    net = made(world).partition('id="net"')[2].partition('id="overlay"')[0]
    assert [f'id="net/{PACKAGE}/{name}.py"' in net for name in ("runner", "new", "old")] == [True] * 3
    assert f'id="net/{PACKAGE}/data_parallel/plan.py"' not in net
    lines = re.findall(r'class="l ([ad])" data-[lr]="(\d+)"', net)
    new, old = [("a", "1")], [("d", "1")]
    assert lines == [*new, *old, ("d", "5"), ("d", "6"), ("a", "5"), ("a", "6"), ("a", "7"), ("d", "25")]


def test_two_runs_make_the_same_bytes(world: World) -> None:
    assert (made(world), twin(world)) == (made(world), twin(world))


def test_the_overlay_stands_beside_what_it_replaces(world: World) -> None:
    toml = world.root / "overlay" / SET / "overlay.toml"
    toml.parent.mkdir()
    toml.write_text(
        f'[[module]]\npath = "{PACKAGE}/data_parallel/plan.py"\n'
        f'[[module.replaces]]\npath = "{PACKAGE}/comm.py"\nsymbol = "Comm.size"\n'
    )
    world.pin()
    html = made(world)
    part = html.partition(f'id="overlay/{PACKAGE}/data_parallel/plan.py/replaces/{PACKAGE}/comm.py/Comm.size"')[2]
    upstream, _, module = part.partition(f'id="overlay/{PACKAGE}/data_parallel/plan.py/module"')
    assert 'data-r="6"' in upstream and "size" in upstream and "choose" not in upstream
    assert "answer" in module
    assert f"`Comm.size` of `{PACKAGE}/comm.py`" in twin(world)


def test_the_map_shows_where_patches_meet(world: World) -> None:
    html = made(world)
    assert "1 of 3 files" in html.partition('id="overlaps"')[2]
    assert f"| `{PACKAGE}/runner.py` | top of the module | 1, 2 |" in twin(world)


def report(world: World, **more: object) -> Path:
    file = world.root / "build" / SET / "defects.json"
    evidence = {"passed": True, "seen": ["it hangs"], "tests": ["test_it"]}
    row = {
        "defect": "D1",
        "title": "a hang",
        "shown": "yes",
        "fixed": "fixed",
        "pristine": evidence,
        "patched": evidence,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"set": SET, "rows": [row], **more}))
    return file


def tree(world: World) -> str:
    found = re.search(r'^tree = "(\w{64})"', (world.folder / "set.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_defects_that_were_not_run_are_said_to_be_so(world: World) -> None:
    for text in (" ".join(Elements(made(world)).text["body"].split()), twin(world).replace("`", "")):
        assert "Not run: make defects VERSION=v9.9.9 has left no report here." in text
        assert "D1" in text and "D3" in text
    assert "Not run: `make defects VERSION=v9.9.9` has left" in twin(world)


def test_defects_of_this_tree_are_shown_with_what_was_seen(world: World) -> None:
    report(world, tree=tree(world))
    for text in (made(world), twin(world)):
        assert "it hangs" in text and "not run" not in text.lower()


@pytest.mark.parametrize(("more", "why"), [({}, "that it does not name"), ({"tree": "0" * 64}, "of another tree")])
def test_defects_of_another_tree_prove_nothing(world: World, more: dict[str, object], why: str) -> None:
    report(world, **more)
    html = made(world)
    assert "Not run on this tree" in html and why in html
    assert "not run</b>" in html.partition('id="ranges"')[0]


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{}]}', '{"rows": 3}'])
def test_a_report_that_cannot_be_read(world: World, text: str, capsys: Capture) -> None:
    report(world).write_text(text)
    assert world.run("review", SET, "--offline") == 2
    error = capsys.readouterr().err
    assert "defects.json" in error and "make defects" in error
    assert not (world.root / "build" / SET / "review").exists()


def test_a_fence_is_longer_than_any_in_the_diff(hostile: World) -> None:
    made(hostile)
    text = twin(hostile)
    opened = re.search(r"^(`{3,})diff$", text, re.MULTILINE)
    assert opened and len(opened[1]) == 4
    inside = text.partition(opened[0])[2].partition(f"\n{opened[1]}\n")[0]
    assert "+```" in inside and "</details>" not in inside


def test_hostile_text_is_no_markup_in_markdown(hostile: World) -> None:
    made(hostile)
    outside = re.sub(r"^(`{3,}).*?^\1$", "", twin(hostile), flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"<[^>]*>", outside)) <= {"<details>", "<summary>", "</summary>", "</details>"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", "a \\| b"),
        ("[x](javascript:1)", "\\[x\\](javascript:1)"),
        ("see @someone", "see @&#8203;someone"),
        ("fixes #12", "fixes #&#8203;12"),
        ("with_prefill __init__", "with_prefill \\_\\_init\\_\\_"),
        ("a\n# b", "a # b"),
        ("\u202eabc", "\\[U+202E\\]abc"),
    ],
)
def test_markdown_is_escaped(text: str, shown: str) -> None:
    assert markdown.escape(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `a *b*` of a/b#1", "run `a *b*` of [a/b#1](https://github.com/a/b/pull/1)"),
        ("one ` alone", "one \\` alone"),
        ("``two`` <b>", "\\`\\`two\\`\\` &lt;b&gt;"),
        ("`<img src=x>`, @me", "`<img src=x>`, @&#8203;me"),
    ],
)
def test_a_sentence_keeps_its_code_and_nothing_else(text: str, shown: str) -> None:
    assert markdown.told(text) == shown


def test_a_pull_request_takes_the_markdown_and_it_says_what_is_left_out(empty: World) -> None:
    lines = "".join(f"value_{n} = {n}\n" for n in range(9000))
    empty.patch("0001-large.patch", {f"{PACKAGE}/large.py": lines})
    small = empty.now[f"{PACKAGE}/runner.py"].replace("step_1 = 1\n", "step_1 = 10\n")
    empty.patch("0002-small.patch", {f"{PACKAGE}/runner.py": small})
    empty.pin()
    html = made(empty)
    text = twin(empty)
    assert len(text) <= markdown.GITHUB
    assert text.count("Its diff is left out") == 1
    assert "+step_1 = 10" in text and "+value_8999 = 8999" not in text
    assert "8999" in html


def test_a_list_in_a_header_stays_a_list(world: World) -> None:
    file = world.folder / "0001-steps.patch"
    file.write_text(file.read_text().replace("How: so.", "How: two things,\nboth small.\n\n- one\n- two"))
    assert "<p>Two things, both small.</p><p>- one<br>- two</p>" in made(world)
    assert "**How:** two things, both small.\n\n- one<br>- two\n" in twin(world)


def test_links_are_https_and_escaped() -> None:
    assert page.links("<a> https://x.invalid/?a=1&b=2.") == (
        '&lt;a&gt; <a href="https://x.invalid/?a=1&amp;b=2" rel="noopener noreferrer">https://x.invalid/?a=1&amp;b=2</a>.'
    )
    assert page.links("javascript:alert(1)") == "javascript:alert(1)"


def test_long_lines_are_shown_whole() -> None:
    line = "x" * 10_000
    assert code.lines("a.py", line) == (code.plain(line),)
