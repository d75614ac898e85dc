# SPDX-License-Identifier: Apache-2.0
"""Random edits, committed with plain git and exported: applied again, they are the same tree and the same bytes."""

from __future__ import annotations

import re
import shutil

import pytest
from conftest import PACKAGE, SET, World, git, make_world, read_tree
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

PATHS = (f"{PACKAGE}/runner.py", f"{PACKAGE}/old.py", "README.md", f"{PACKAGE}/new.txt", "docs/n\u00e9w.txt")
WORD = st.characters(exclude_categories=("Cs", "Cc"))
LINE = st.text(WORD, max_size=20)
# Lines that diffs, mails and git's own clean-up could stumble over.
ODD = st.sampled_from(
    ["", "-- ", "--- a/x", "+++ b/x", "@@ -1 +1 @@", "diff --git a/x b/x", "# note", "From me", "a\r", "\ta "]
)
CONTENT = st.builds(
    lambda lines, end: ("\n".join(lines) + end).encode(),
    st.lists(st.one_of(LINE, ODD, st.sampled_from([f"step_{n} = {n}" for n in range(1, 31)])), max_size=40),
    st.sampled_from(["\n", "\n", ""]),
)
TAKEN = re.compile(r"---|diff -|Index: ")  # how a line begins that git takes for the end of a message
EDITS = st.dictionaries(st.sampled_from(PATHS), st.one_of(st.none(), CONTENT), min_size=1, max_size=3)
BODY = st.lists(st.one_of(LINE, ODD), min_size=1, max_size=6).map("\n".join)
Patches = list[tuple[str, str, str, dict[str, bytes | None]]]
PATCHES = st.lists(st.tuples(LINE, BODY, LINE, EDITS), min_size=1, max_size=3)


def python(data: bytes) -> bytes:
    """Content that compiles: every line a comment."""
    return b"".join(b"#" + line + b"\n" for line in data.replace(b"\0", b"").split(b"\n"))


def commit(world: World, subject: str, body: str, plan: str, edits: dict[str, bytes | None]) -> bool:
    """One patch made by hand; False where it changes nothing."""
    for path, data in edits.items():
        file = world.tree / path
        if data is None:
            file.unlink(missing_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(python(data) if path.endswith(".py") else data)
    git(world.tree, "add", "-A", "-f")
    if not git(world.tree, "status", "--porcelain"):
        return False
    trailers = f"Origin: vendor\nUpstream-Status: Pending\nRemoval-Plan: {plan}"
    message = f"{subject}\n\n{body}\n\n{trailers}\n"
    git(world.tree, "commit", "-q", "-F", "-", stdin=message.encode())
    return True


@pytest.mark.timeout(600)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(patches=PATCHES)
def test_commit_export_apply(
    patches: Patches, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume(all(subject.strip() and body.strip() and plan.strip() for subject, body, plan, _ in patches))
    subjects = [" ".join(subject.split()) for subject, _, _, _ in patches]
    assume(len({*subjects}) == len(subjects))
    folder = tmp_path_factory.mktemp("roundtrip")
    world = make_world(folder)
    monkeypatch.setenv("PATCHSET_ROOT", str(world.root))
    try:
        _round_trip(world, patches)
    finally:
        shutil.rmtree(folder)


def _round_trip(world: World, patches: Patches) -> None:
    world.pin()
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    made = sum(commit(world, *patch) for patch in patches)
    tree = read_tree(world.tree)
    before = read_tree(world.folder)
    if (code := world.run("export", SET, "--offline")) != 0:
        assert code == 3 and read_tree(world.folder) == before
        assert any(TAKEN.match(line) for _, body, _, _ in patches for line in body.split("\n")), "as any other"
        return
    written = read_tree(world.folder)
    assert len(list(world.folder.glob("*.patch"))) == made
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    for leftover in (world.tree, world.tree.with_name(".vllm-ascend.patchset")):
        shutil.rmtree(leftover, ignore_errors=True)
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    assert read_tree(world.tree) == tree
    assert world.run("export", SET, "--offline") == 0
    assert world.run("fmt", SET, "--offline") == 0
    assert read_tree(world.folder) == written
