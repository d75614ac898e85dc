# SPDX-License-Identifier: Apache-2.0
"""Entries, against `zipfile` as the judge."""

from __future__ import annotations

import io
import stat
import zipfile

from hypothesis import given
from hypothesis import strategies as st

from patchset.wheels import entry
from patchset.wheels.entry import Entry

NAMES = st.text("abcxyz-_é漢", min_size=1, max_size=8)
DATES = st.tuples(
    st.integers(1980, 2107), st.integers(1, 12), st.integers(1, 28), st.integers(0, 23), st.integers(0, 59),
    st.integers(0, 29).map(lambda half: 2 * half),
)  # fmt: skip
MODES = st.sampled_from((0o644, 0o755, 0o664, 0o600))


@st.composite
def archives(draw: st.DrawFn) -> dict[str, tuple[bytes, int, tuple[int, int, int, int, int, int], int]]:
    """Files by path: data, permissions, timestamp, method."""
    files = draw(st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), unique_by=str.casefold, max_size=6))
    methods = st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    above = {path.rsplit("/", depth)[0] for path in files for depth in range(1, path.count("/") + 1)}
    return {
        path: (draw(st.binary(max_size=300)), draw(MODES), draw(DATES), draw(methods))
        for path in files
        if path not in above
    }


@given(archives())
def test_reading_and_writing_give_the_same_bytes(files: dict[str, tuple]) -> None:  # type: ignore[type-arg]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, (data, mode, date, method) in files.items():
            info = zipfile.ZipInfo(path, date)
            info.external_attr, info.compress_type = (stat.S_IFREG | mode) << 16, method
            archive.writestr(info, data)
    entries = entry.read(out.getvalue(), "w")
    assert entry.write(entries) == out.getvalue()
    assert {one.path: (one.data, one.mode & 0o777, one.date, one.method) for one in entries} == files


@given(st.dictionaries(NAMES, st.binary(max_size=300), max_size=6))
def test_zipfile_reads_what_is_written(files: dict[str, bytes]) -> None:
    data = entry.write([entry.new(path, content) for path, content in files.items()])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {path: archive.read(path) for path in archive.namelist()} == files


@given(st.data())
def test_no_change_of_a_byte_goes_unnoticed(data: st.DataObject) -> None:
    """Either it is refused, or the entries differ: two archives are never taken for the same."""
    from patchset.errors import UsageError

    good = entry.write([entry.new("a.py", b"a = 1\n"), entry.new("b/c.py", b"c = 1\n")])
    at = data.draw(st.integers(0, len(good) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != good[at]))
    bad = good[:at] + bytes([value]) + good[at + 1 :]
    try:
        entries = entry.read(bad, "w")
    except UsageError:
        return
    assert entries != entry.read(good, "w")
    assert entry.write(entries) == bad


def test_an_entry_keeps_its_mode_when_its_content_changes() -> None:
    script = entry.new("run.sh", b"exit 0\n", (stat.S_IFREG | 0o755) << 16)
    changed: Entry = script.holding(b"exit 1\n")
    assert (changed.mode, changed.data, changed.date) == (script.mode, b"exit 1\n", entry.EPOCH)
