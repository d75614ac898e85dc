# SPDX-License-Identifier: Apache-2.0
"""The read-back: a wheel that was made is held to the plan's digests and to upstream's entries, not to itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import PACKAGE, World
from wheel_world import PATCHED, TAGS, members, name, pack, pin

from patchset import plan
from patchset.errors import PinMismatch
from patchset.setfile import load_set
from patchset.terminal import Terminal
from patchset.wheels import build, entry, inputs
from patchset.wheels.build import Draft

TAG = TAGS[0]


@pytest.fixture
def draft(world: World) -> Draft:
    pin(world, {name(TAG): pack(members(TAG))})
    patch_set = load_set("v9.9.9")
    (given,) = inputs.locate(patch_set, None, offline=True, terminal=Terminal())
    source = inputs.load(patch_set, given)
    worked_out = plan.make(patch_set, lambda path: source.files[path].data)
    return build.repack(source, worked_out, given.pin, PATCHED)


def repacked(data: bytes, change) -> bytes:  # type: ignore[no-untyped-def]
    """The wheel with changed entries and a RECORD that is true for them."""
    from patchset.wheels import wheel

    entries = [one for one in map(change, entry.read(data, "w")) if one is not None]
    record = next(one for one in entries if one.path.endswith("/RECORD"))
    files = [one for one in entries if not one.is_folder]
    text = wheel.render_record(wheel.record_rows(files, record.path))
    return entry.write([record.holding(text) if one is record else one for one in entries])


def test_a_good_wheel_passes(draft: Draft) -> None:
    build.read_back(draft, draft.data)
    assert repacked(draft.data, lambda one: one) == draft.data


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (f"{PACKAGE}/runner.py", lambda one: one.holding(b"x = 1\n")),
        (f"{PACKAGE}/data_parallel/plan.py", lambda one: one.holding(b"x = 1\n")),
        (f"{PACKAGE}/comm.py", lambda one: one.holding(b"x = 1\n")),
        (f"{PACKAGE}/comm.py", lambda one: one.holding(one.data)),
        (f"{PACKAGE}/_C.so", lambda one: replace(one, attributes=0o100644 << 16)),
        (f"{PACKAGE}/_C.so", lambda one: replace(one, date=(2020, 1, 1, 0, 0, 0))),
        (f"{PACKAGE}/comm.py", lambda _: None),
        (f"{PACKAGE}/new.py", lambda _: None),
        (f"{PACKAGE}/", lambda _: None),
        (f"{PACKAGE}/comm.py", lambda one: one.renamed(f"{PACKAGE}/com.py")),
        (f"{PACKAGE}-{PATCHED}.dist-info/patchset.json", lambda one: one.holding(b"{}")),
        (f"{PACKAGE}-{PATCHED}.dist-info/entry_points.txt", lambda one: one.holding(b"")),
    ],
    ids=[
        "patched file",
        "overlay file",
        "untouched file",
        "packed anew",
        "execute bit",
        "timestamp",
        "lost file",
        "lost new file",
        "lost folder",
        "renamed",
        "statement",
        "metadata",
    ],
)
def test_any_other_wheel_does_not(draft: Draft, path: str, change) -> None:  # type: ignore[no-untyped-def]
    other = repacked(draft.data, lambda one: change(one) if one.path == path else one)
    with pytest.raises(PinMismatch):
        build.read_back(draft, other)


def test_no_library_packs_a_byte(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib may be another on each machine, so nothing that is written went through it."""
    import zlib

    data = pack(members(TAG))

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("compressed")

    for function in ("compress", "compressobj"):
        monkeypatch.setattr(zlib, function, forbidden)
    assert entry.write(entry.read(data, "w")) == data
    pin(world, {name(TAG): data})
    assert world.run("wheels", "v9.9.9", "--offline") == 0
