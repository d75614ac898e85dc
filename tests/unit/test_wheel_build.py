# SPDX-License-Identifier: Apache-2.0
"""One patched wheel, in memory: what it holds, how it is packed, and what must not be repacked."""

from __future__ import annotations

import csv
import hashlib
import io
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import COMMIT, GENERATED, PACKAGE, SDIST, SET, UPSTREAM, VERSION, bare_set, sha256
from wheel_world import DATE, INFO, PATCHED, PATCHED_INFO, TAGS, Raw, members, name, pack, with_record

from patchset.node.errors import PinMismatch, UsageError
from patchset.node.verify import entry
from patchset.node.verify.entry import Entry
from patchset.plan.plan import Change, Plan, Recipe
from patchset.sets.overlay import Overlay
from patchset.sets.setfile import Artifact, PatchSet, Release
from patchset.target import distinfo
from patchset.wheels import build, wheel
from patchset.wheels.wheel import Draft, Wheel

TAG = TAGS[0]
RUNNER, OLD, NEW = f"{PACKAGE}/runner.py", f"{PACKAGE}/old.py", f"{PACKAGE}/new.py"
TOOL, MODULE, LIBRARY = f"{PACKAGE}/tool.sh", f"{PACKAGE}/data_parallel/plan.py", f"{PACKAGE}/_C.so"
CHANGES = {
    RUNNER: Change(UPSTREAM[RUNNER].encode(), b"patched = True\n"),
    OLD: Change(UPSTREAM[OLD].encode(), None),
    TOOL: Change(None, b"#!/bin/sh\n", executable=True),
    NEW: Change(None, b"new = True\n"),
    MODULE: Change(None, b"answer = 42\n"),
    "setup.py": Change(UPSTREAM["setup.py"].encode(), b"patched = True\n"),  # of the sdist, and in no wheel
    "docs/new.md": Change(None, b"Read me.\n"),
}
ADDED = [MODULE, NEW, TOOL]
STATED = ["patchset.json", "sboms/patchset.cdx.json", "sboms/patchset.intoto.json"]


@pytest.fixture
def patch_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatchSet:
    monkeypatch.setenv("PATCHSET_ROOT", str(tmp_path))  # which has no table of defects
    manifest = "".join(f"{sha256(text.encode())}  {path}\n" for path, text in sorted(UPSTREAM.items()))
    folder = tmp_path / "patches" / SET
    folder.mkdir(parents=True)
    (folder / "upstream.sha256").write_text(manifest)
    release = Release(VERSION, COMMIT, Artifact("vllm-ascend", SDIST, "1" * 64))
    known = {"generated": frozenset(GENERATED), "manifest_sha256": sha256(manifest.encode())}
    return bare_set(SET, folder, release, touched={path: row.touched for path, row in CHANGES.items()}, **known)


@pytest.fixture
def worked_out(patch_set: PatchSet) -> Plan:
    return Plan(Recipe(patch_set, (), Overlay({MODULE: b"answer = 42\n"}, ())), (), CHANGES, {})


def published(raws: list[Raw]) -> Wheel:
    return wheel.parse(name(TAG), pack(raws), package=PACKAGE, version=VERSION)


def repack(worked_out: Plan, raws: list[Raw] | None = None) -> Draft:
    pin = Artifact("vllm-ascend", name(TAG), "2" * 64)
    return build.repack(published(raws or members(TAG)), worked_out, pin, PATCHED)


def entries(data: bytes) -> dict[str, Entry]:
    return {one.path: one for one in entry.read(data, "w")}


def test_a_patched_wheel(worked_out: Plan) -> None:
    """Upstream's members in upstream's order, patched, then what is new, then .dist-info with what is stated."""
    draft = repack(worked_out)
    before, after = entries(pack(members(TAG))), entries(draft.data)
    package = [path for path in before if path.startswith(f"{PACKAGE}/") and path != OLD]
    info = [path.replace(INFO, PATCHED_INFO) for path in before if path.startswith(INFO)]
    stated = [f"{PATCHED_INFO}/{path}" for path in STATED]
    assert list(after) == [*package, *ADDED, *info[:-1], *stated, info[-1]]
    assert info[-1] == f"{PATCHED_INFO}/RECORD"
    assert {path: after[path].data for path in CHANGES if path in after} == {
        RUNNER: b"patched = True\n",
        TOOL: b"#!/bin/sh\n",
        NEW: b"new = True\n",
        MODULE: b"answer = 42\n",
    }
    touched = {RUNNER, OLD, f"{INFO}/METADATA", f"{INFO}/RECORD"}
    for path in before.keys() - touched:
        moved = path.replace(INFO, PATCHED_INFO)
        assert after[moved] == before[path].renamed(moved)
    assert all(one.date == DATE for path, one in before.items() if path not in touched)


def test_how_changed_and_new_members_are_packed(worked_out: Plan) -> None:
    script = replace(next(raw for raw in members(TAG) if raw.path == RUNNER), mode=stat.S_IFREG | 0o755)
    raws = with_record([script if raw.path == RUNNER else raw for raw in members(TAG)])
    with zipfile.ZipFile(io.BytesIO(repack(worked_out, raws).data)) as archive:
        packed = {info.filename: info for info in archive.infolist()}
    written = [RUNNER, *ADDED, *(f"{PATCHED_INFO}/{path}" for path in (*STATED, "METADATA", "RECORD"))]
    assert {packed[path].date_time for path in written} == {(1980, 1, 1, 0, 0, 0)}
    assert {packed[path].compress_type for path in written} == {zipfile.ZIP_STORED}
    modes = {path: packed[path].external_attr >> 16 for path in written}
    assert [path for path, mode in modes.items() if mode == stat.S_IFREG | 0o755] == [RUNNER, TOOL]
    assert {mode for path, mode in modes.items() if path not in (RUNNER, TOOL)} == {stat.S_IFREG | 0o644}


def test_record_lists_each_file_once_in_the_order_of_the_archive(worked_out: Plan) -> None:
    after = entries(repack(worked_out).data)
    record = f"{PATCHED_INFO}/RECORD"
    rows = list(csv.reader(after[record].data.decode().splitlines()))
    files = [path for path in after if not path.endswith("/")]
    assert rows == [distinfo.row(path, after[path].data) for path in files[:-1]] + [[record, "", ""]]
    assert after[record].data.endswith(f"{record},,\n".encode()) and b"\r" not in after[record].data


@pytest.mark.parametrize(
    ("metadata", "changed"),
    [
        ("Name: tiny-ascend\nVersion: 9.9rc1\n\nVersion: 1\n", "Name: tiny-ascend\nVersion: {}\n\nVersion: 1\n"),
        ("Version: 9.9rc1\r\nName: tiny-ascend\r\n\r\ntext", "Version: {}\r\nName: tiny-ascend\r\n\r\ntext"),
        (
            "Name: tiny-ascend\nMetadata-Version: 2.1\nVersion:  9.9rc1",
            "Name: tiny-ascend\nMetadata-Version: 2.1\nVersion: {}",
        ),
    ],
    ids=["told in the text, too", "Windows line ends", "the last line"],
)
def test_metadata_has_the_new_version_and_nothing_else(worked_out: Plan, metadata: str, changed: str) -> None:
    raws = [replace(raw, data=metadata.encode()) if raw.path == f"{INFO}/METADATA" else raw for raw in members(TAG)]
    draft = repack(worked_out, with_record(raws))
    assert entries(draft.data)[f"{PATCHED_INFO}/METADATA"].data.decode() == changed.format(PATCHED)
    assert draft.made.requires_python == ""


def test_what_is_told_of_a_wheel(worked_out: Plan) -> None:
    draft = repack(worked_out)
    made, after = draft.made, entries(draft.data)
    assert (made.sha256, made.size) == (hashlib.sha256(draft.data).hexdigest(), len(draft.data))
    assert made.requires_python == ">=3.9"
    assert (made.build.plan, made.build.version) == (worked_out, PATCHED)
    assert made.build.upstream.sha256 == "2" * 64
    assert (made.build.file, made.build.dist_info) == (name(TAG, PATCHED), PATCHED_INFO)
    assert {path: after[f"{PATCHED_INFO}/{path}"].data for path in STATED} == made.members
    unlisted = {f"{PATCHED_INFO}/{path}" for path in (*STATED, "RECORD")}
    files = {path: sha256(one.data) for path, one in after.items() if not path.endswith("/") and path not in unlisted}
    assert made.build.files == files


def test_only_the_version_of_a_file_name_is_replaced(worked_out: Plan) -> None:
    """A tag may look like it."""
    source = replace(published(members(TAG)), file=f"{PACKAGE}-{VERSION}-{VERSION}-{VERSION}-any.whl")
    bare = replace(worked_out, recipe=replace(worked_out.recipe, overlay=Overlay({}, ())))
    made, _ = build.finish(source, source.entries, bare, Artifact("p", "f", "2" * 64), PATCHED)
    assert made.build.file == f"{PACKAGE}-{PATCHED}-{VERSION}-{VERSION}-any.whl"


def test_what_a_wheel_must_hold_comes_from_the_set(worked_out: Plan) -> None:
    """Not from what was made: upstream's entries, and the digests that set.toml pins."""
    expected = repack(worked_out).expected
    before = entries(pack(members(TAG)))
    patched = {path: sha256(after) for path in (RUNNER, NEW, MODULE, TOOL) if (after := CHANGES[path].after)}
    kept = {path.replace(INFO, PATCHED_INFO): one for path, one in before.items() if path not in (RUNNER, OLD)}
    assert expected == {path: one.renamed(path) for path, one in kept.items()} | patched


def without(*paths: str) -> list[Raw]:
    return with_record([raw for raw in members(TAG) if raw.path not in paths])


def test_a_wheel_of_another_release(worked_out: Plan) -> None:
    raws = [replace(raw, data=b"x = 1\n") if raw.path == RUNNER else raw for raw in without(OLD)]
    with pytest.raises(PinMismatch) as caught:
        repack(worked_out, with_record(raws))
    error = caught.value
    assert (error.what, error.expected) == (name(TAG), f"the files of vllm-ascend {VERSION} (upstream.sha256)")
    assert error.found.splitlines() == ["2 that differ", f"    {OLD}: missing", f"    {RUNNER}: changed"]


def test_of_many_files_that_differ_the_first_are_named(patch_set: PatchSet) -> None:
    expected = {f"{PACKAGE}/{n:02}.py": "0" * 64 for n in range(12)} | {"other/x.py": "0" * 64}
    with pytest.raises(PinMismatch) as caught:
        build.check_package(published(members(TAG)), expected, "a set")
    rows = [f"    {PACKAGE}/{n:02}.py: missing" for n in range(10)]
    assert caught.value.found.splitlines() == ["12 that differ", *rows, "    and 2 more"]


def test_a_wheel_that_has_what_the_set_adds(worked_out: Plan) -> None:
    raws = members(TAG)
    with pytest.raises(UsageError, match=rf"^{name(TAG)} has {MODULE}, which the set adds$".replace("+", "[+]")):
        repack(worked_out, with_record([*raws[:2], Raw(NEW, b""), Raw(MODULE, b""), *raws[2:]]))


@pytest.mark.parametrize("label", ["dp.1", "1", "ubuntu.22.4", "a"])
def test_a_local_version(label: str) -> None:
    assert build.local_version(VERSION, label) == f"{VERSION}+{label}"


@pytest.mark.parametrize("label", ["dp 1", "", "dp_1", "dp-1", "DP.1", "dp.01", "../x", "1.0+x", "dp.1 "])
def test_a_label_that_is_none(label: str) -> None:
    with pytest.raises(UsageError, match="is no local version label in normal form") as caught:
        build.local_version(VERSION, label)
    assert repr(label) in caught.value.message and "LOCAL=dp.1" in caught.value.hint


def repacked(data: bytes, changes: Mapping[str, Entry | None]) -> bytes:
    """The wheel with other entries at some paths, or none, and a RECORD that is true for them."""
    before = entry.read(data, "w")
    after = [one for one in (changes.get(one.path, one) for one in before) if one is not None]
    after += [one for path, one in changes.items() if one is not None and path not in {old.path for old in before}]
    files = [one for one in after if not one.is_folder]
    (record,) = (one for one in files if one.path.endswith("/RECORD"))
    text = wheel.render_record(files, record.path)
    return entry.write([record.holding(text) if one is record else one for one in after])


def test_what_was_made_is_read_back(worked_out: Plan) -> None:
    draft = repack(worked_out)
    build.read_back(draft, draft.data)
    assert repacked(draft.data, {}) == draft.data
    bare = {path: want for path, want in draft.expected.items() if path != f"{PATCHED_INFO}/RECORD"}
    build.read_back(replace(draft, expected=bare), draft.data)  # as for a build of the patched tree


UPSTREAMS = "upstream's entry"


@pytest.mark.parametrize(
    ("path", "change", "expected", "found"),
    [
        (RUNNER, lambda one: one.holding(b"x = 1\n"), sha256(b"patched = True\n"), sha256(b"x = 1\n")),
        (MODULE, lambda one: one.holding(b"x = 1\n"), sha256(b"answer = 42\n"), sha256(b"x = 1\n")),
        (f"{PACKAGE}/comm.py", lambda one: one.holding(b"x = 1\n"), UPSTREAMS, sha256(b"x = 1\n")),
        (
            f"{PACKAGE}/comm.py",
            lambda one: one.holding(one.data),
            UPSTREAMS,
            sha256(UPSTREAM[f"{PACKAGE}/comm.py"].encode()),
        ),
        (LIBRARY, lambda one: replace(one, attributes=(stat.S_IFREG | 0o644) << 16), UPSTREAMS, ""),
        (LIBRARY, lambda one: replace(one, date=(2020, 1, 1, 0, 0, 0)), UPSTREAMS, ""),
        (f"{PACKAGE}/comm.py", lambda _: None, UPSTREAMS, None),
        (NEW, lambda _: None, sha256(b"new = True\n"), None),
        (f"{PACKAGE}/", lambda _: None, UPSTREAMS, None),
        (f"{PATCHED_INFO}/patchset.json", lambda one: one.holding(b"{}"), "", sha256(b"{}")),
        (f"{PATCHED_INFO}/patchset.json", lambda _: None, "", None),
        (f"{PATCHED_INFO}/METADATA", lambda one: one.holding(one.data + b"x"), "", ""),
        (f"{PATCHED_INFO}/entry_points.txt", lambda one: one.holding(b""), UPSTREAMS, sha256(b"")),
        (f"{PACKAGE}/more.py", lambda _: entry.new(f"{PACKAGE}/more.py", b""), None, sha256(b"")),
        (OLD, lambda _: entry.new(OLD, b""), None, sha256(b"")),
    ],
)
def test_any_other_wheel_is_refused(
    worked_out: Plan, path: str, change, expected: str | None, found: str | None
) -> None:  # type: ignore[no-untyped-def]
    """Even one whose RECORD is true."""
    draft = repack(worked_out)
    other = repacked(draft.data, {path: change(entries(draft.data).get(path))})
    with pytest.raises(PinMismatch) as caught:
        build.read_back(draft, other)
    error = caught.value
    assert error.what == f"{name(TAG, PATCHED)}: {path}"
    for said, told in ((error.expected, expected), (error.found, found)):
        assert said.startswith({None: "no such file", UPSTREAMS: UPSTREAMS}.get(told, f"sha256 {told}"))


def test_a_wheel_whose_record_is_false_is_not_read_back(worked_out: Plan) -> None:
    draft = repack(worked_out)
    other = [one.holding(b"x = 1\n") if one.path == RUNNER else one for one in entry.read(draft.data, "w")]
    with pytest.raises(PinMismatch) as caught:
        build.read_back(draft, entry.write(other))
    assert caught.value.what == f"{name(TAG, PATCHED)}: {RUNNER}" and "RECORD" in caught.value.hint
