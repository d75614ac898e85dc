# SPDX-License-Identifier: Apache-2.0
"""The documents: their tables are as made, their links lead somewhere, and each command in them is one.

A line that needs more than this machine says so in a comment: `# needs: a cluster`. Its words are checked all the same.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from conftest import SET, World, git
from wheel_world import PATCHED, dist, publish

from patchset import cli
from patchset.node.cluster import main as node
from patchset.wheels import kit
from selftest import documents
from selftest.__main__ import build_menu

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:make|patchset|\.venv/bin/patchset|python -m selftest) [^`]+)`")
_OPEN = re.compile(r"COMMAND|TARGET|DIR|FILE|\.\.\.|[|<>…]")  # a word that stands for others


def commands(file: Path) -> Iterator[str]:
    """The command lines of a document: of its blocks, of what is indented, and in running text."""
    text = file.read_text(encoding="utf-8")
    blocks = [line for block in _SHELL.findall(text) for line in block.splitlines()]
    blocks += [line.strip() for line in text.splitlines() if re.match(r" {4}(make|pip|python3?|git) ", line)]
    for line in blocks:
        yield from (part.strip() for part in line.partition("#")[0].split(";") if part.strip())
    prose = re.sub(r"\s+", " ", _SHELL.sub("", text))
    yield from (found for found in _INLINE.findall(prose) if not _OPEN.search(found))


# CHANGELOG.md names what is gone.
LINES = [
    pytest.param(line, id=f"{file.name}: {line}")
    for file in DOCUMENTS
    for line in dict.fromkeys(commands(file))
    if file.name != "CHANGELOG.md"
]


@pytest.mark.parametrize("line", LINES)
def test_each_command_is_one(line: str) -> None:
    words = shlex.split(line)
    while words and "=" in words[0]:
        del words[0]
    program, rest = Path(words[0]).name, words[1:]
    if program == "make":
        _make(tuple(rest[2:] if rest[:1] == ["-C"] else rest))
    elif program == "patchset":
        _parsed(cli.build_parser(), rest)
    elif rest[:1] and rest[0].endswith("patchset-node.pyz"):
        _parsed(node.parser(), rest[1:])
    elif rest[:2] == ["-m", "selftest"]:
        _parsed(build_menu().parser, rest[2:])
    elif program == "git":
        done = subprocess.run(["git", rest[0], "-h"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert "usage: git" in done.stdout + done.stderr, line
    else:
        assert program in {"pip", "python3", "cd", "minisign", "find", "eval"}, line


def _parsed(parser: object, words: list[str]) -> None:
    try:
        parser.parse_args(words)  # type: ignore[attr-defined]
    except SystemExit as stop:  # --help
        assert not stop.code


@lru_cache
def _make(words: tuple[str, ...]) -> str:
    """What make would run; it checks that the target is there and takes these variables."""
    stamps = ["-o", ".venv/.ready", "-o", ".venv/.dev"]
    done = subprocess.run(["make", "-n", *stamps, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What a document's reader can do here: with the tiny set, no index, no vLLM and no cluster.
RUN = {"apply", "status", "revert", "wheels", "verify", "lint", "review", "stats", "fmt", "export", "pin", "sets"}
WALKED = ("README.md", "operator.md", "reviewer.md", "porting.md", "CONTRIBUTING.md", "SECURITY.md")


@pytest.mark.parametrize("name", WALKED)
def test_what_a_document_says_works(name: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands of a document, one after the other as a reader gives them, on a repository with a tiny set."""
    publish(world)
    world.pin()
    (file,) = (file for file in DOCUMENTS if file.name == name)
    git(world.root, "init", "-q")
    git(world.root, "add", "-A")
    git(world.root, "commit", "-qm", "The set")
    world.run("apply", SET, "--offline")
    reader = Reader(world, world.site_packages(world.root.parent / "site-packages"))
    for line in dict.fromkeys(commands(file)):
        for given in _of_patchset(line):
            words = reader.own(given)
            if words[0] in RUN and (MINISIGN or not {"--sign", "--key"} & {*words}):
                # The tiny set breaks upstream's API without a word, which lint tells.
                expected = words in (["lint"], ["lint", SET])
                assert world.run(*words) == expected, f"{line}: {capsys.readouterr()}"
                reader.ran.append(words[0])
        reader.on_a_node(shlex.split(line))
    assert WALKS[name] <= {*reader.ran}


def test_the_walk_of_a_port_begins_without_the_set_that_it_makes() -> None:
    text = (ROOT / "docs" / "porting.md").read_text()
    name = re.findall(r"^make port FROM=\S+ TO=(\S+)", text, re.MULTILINE)[0]
    there = [f"{folder}/{name}" for folder in ("patches", "overlay") if (ROOT / folder / name).exists()]
    assert f"`rm -r {' '.join(there)}`" in text


MINISIGN = shutil.which("minisign")
KIT = ("node verify --installed", "node verify --dist")
WALKS = {
    "README.md": {"apply", "status", "revert", "wheels", "verify"},
    "operator.md": {"apply", "status", "revert", "wheels", "verify", "pip", *KIT},
    "reviewer.md": {"review", "stats", "lint"},
    "porting.md": {"apply", "lint"},
    "CONTRIBUTING.md": {"export", "fmt", "pin", "apply", "lint"},
    "SECURITY.md": {"wheels", "verify"} if MINISIGN else set(),
}
"""What of each document has to have been run, at the least."""


class Reader:
    """Who gives a document's commands: on the tiny set, with a key and a node of its own.

    Attributes:
        ran: what was run.
    """

    def __init__(self, world: World, site_packages: Path) -> None:
        self.world, self.site_packages = world, site_packages
        self.ran: list[str] = []
        self.node = world.root.parent / "node"
        self.key = world.root.parent / "release.key"
        if MINISIGN:
            make_key = [MINISIGN, "-G", "-W", "-p", f"{self.key}.pub", "-s", str(self.key)]
            subprocess.run(make_key, check=True, capture_output=True)

    def own(self, words: list[str]) -> list[str]:
        """A command line with this reader's set, folders and keys."""
        kept = {"dist/v0.10.1.1": str(dist(self.world)), "/path/to/site-packages": str(self.site_packages)}
        named = [re.sub(r"^v0[.][0-9.]+$", SET, kept.get(word, word)) for word in words]
        for option, key in (("--sign", str(self.key)), ("--key", f"{self.key}.pub")):
            if option in named:
                named[named.index(option) + 1] = key
        return named

    def on_a_node(self, words: list[str]) -> None:
        """A line that a node runs: pip, from dist/, and the kit."""
        environ = os.environ | {"PYTHONPATH": str(self.node)}
        if words[0] == "pip" and "--find-links" in words:
            options = ["--target", str(self.node), "--only-binary=:all:", "--python-version=310"]
            requirement = f"tiny-ascend=={PATCHED}"
            command = [sys.executable, "-m", *self.own(words)[:-1], requirement, *options, "--platform=linux_x86_64"]
            self.ran.append("pip")
        elif len(words) > 2 and words[1].endswith(kit.NAME) and words[2] == "verify" and dist(self.world).is_dir():
            command = [sys.executable, kit.NAME, *words[2:]]
            if "--installed" in words and not self.node.is_dir():
                return  # its pip line needs an index
            self.ran.append(f"node {words[2]} {words[3]}")
        else:
            return
        done = subprocess.run(command, cwd=dist(self.world), env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def _of_patchset(line: str) -> Iterator[list[str]]:
    """The command lines of patchset that a line of a document runs, by itself or through make."""
    words = shlex.split(line)
    while words and "=" in words[0]:
        del words[0]
    if Path(words[0]).name == "patchset":
        yield words[1:]
    elif words[0] == "make":
        lines = _make(tuple(words[3:] if words[1:2] == ["-C"] else words[1:])).replace("\\\n", "")
        for ran in lines.splitlines():
            if ran.strip().startswith(".venv/bin/patchset "):
                yield shlex.split(ran)[1:]


def test_the_tables_are_as_their_sources_have_them() -> None:
    stale = [file.name for file, text in documents.made().items() if file.read_text(encoding="utf-8") != text]
    assert not stale, "make docs writes them"
    assert {file.name for file in documents.made()} == {"CHANGELOG.md", "defects.md", "performance.md", "reviewer.md"}


def test_a_changed_table_is_seen() -> None:
    text = "a\n<!-- made: codes -->\n| old |\n<!-- end -->\nb\n"
    assert "| old |" not in documents.filled(text) and "PS101" in documents.filled(text)
    with pytest.raises(KeyError):
        documents.filled("<!-- made: nothing -->\n<!-- end -->")


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_to_files(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert not [target for target in targets if not (file.parent / target).exists()]


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_every_target_and_variable_is_in_the_help() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.MULTILINE)) - {"help"}
    for target in targets | {"help"}:
        assert re.search(rf"^  {target} ", done.stdout, re.MULTILINE), target
    variables = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE))
    assert not {one for one in variables if not re.search(rf"^ +{one}=", done.stdout, re.MULTILINE)}
