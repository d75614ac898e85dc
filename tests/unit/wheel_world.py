# SPDX-License-Identifier: Apache-2.0
"""The published wheels of the tiny upstream, pinned in its set and cached."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from conftest import PACKAGE, SET, UPSTREAM, VERSION, World, sha256

from patchset.target import distinfo

INFO = f"{PACKAGE}-{VERSION}.dist-info"
PATCHED = f"{VERSION}+dp.1"
PATCHED_INFO = f"{PACKAGE}-{PATCHED}.dist-info"
TAGS = ("cp310-cp310-linux_x86_64", "cp311-cp311-linux_aarch64")
DATE = (2026, 1, 2, 3, 4, 6)
FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


@dataclass(frozen=True)
class Raw:
    """A member as a test wants it: Unix mode with file type, and data."""

    path: str
    data: bytes = b""
    mode: int = FILE


def members(tag: str) -> list[Raw]:
    """What a build backend packs: folders, sources, a library with the execute bit, metadata, RECORD last."""
    package = {path: text.encode() for path, text in UPSTREAM.items() if path.startswith(f"{PACKAGE}/")}
    metadata = f"Metadata-Version: 2.1\nName: tiny-ascend\nVersion: {VERSION}\nRequires-Python: >=3.9\n"
    metadata += "Provides-Extra: Version\n\nVersion: is told in the text, too.\n"
    raws = [Raw(f"{PACKAGE}/", mode=FOLDER)]
    raws += [Raw(path, data) for path, data in package.items()]
    raws += [Raw(f"{PACKAGE}/_build_info.py", f"tag = {tag!r}\n".encode())]
    raws += [Raw(f"{PACKAGE}/_C.so", b"\x7fELF" + bytes(range(256)) * 40, stat.S_IFREG | 0o755)]
    raws += [Raw(f"{INFO}/", mode=FOLDER), Raw(f"{INFO}/METADATA", metadata.encode())]
    raws += [Raw(f"{INFO}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n".encode())]
    raws += [Raw(f"{INFO}/licenses/LICENSE", b"Take it.\n")]
    return with_record([*raws, Raw(f"{INFO}/entry_points.txt", b"[tiny.plugins]\ntiny = tiny_ascend:register\n")])


def with_record(raws: list[Raw]) -> list[Raw]:
    """The members with a true RECORD at the end."""
    raws = [raw for raw in raws if raw.path != f"{INFO}/RECORD"]
    rows = [",".join(distinfo.row(raw.path, raw.data)) for raw in raws if not raw.path.endswith("/")]
    return [*raws, Raw(f"{INFO}/RECORD", "".join(f"{row}\n" for row in [*rows, f"{INFO}/RECORD,,"]).encode())]


def pack(raws: list[Raw]) -> bytes:
    """A wheel with these members, packed as `zipfile` does."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for raw in raws:
            info = zipfile.ZipInfo(raw.path, DATE)
            info.external_attr = raw.mode << 16 | (0x10 if raw.path.endswith("/") else 0)
            info.compress_type = zipfile.ZIP_STORED if raw.path.endswith("/") else zipfile.ZIP_DEFLATED
            archive.writestr(info, raw.data)
    return out.getvalue()


def edited(change: Callable[[list[Raw]], list[Raw]], *, true_record: bool = True) -> bytes:
    """A wheel with other members, and a RECORD that is true for them, or the one that there was."""
    raws = change(members(TAGS[0]))
    return pack(with_record(raws) if true_record else raws)


def replaced(path: str, data: bytes) -> Callable[[list[Raw]], list[Raw]]:
    """A member with other data."""
    return lambda raws: [replace(raw, data=data) if raw.path == path else raw for raw in raws]


def without(path: str) -> Callable[[list[Raw]], list[Raw]]:
    """One member less."""
    return lambda raws: [raw for raw in raws if raw.path != path]


def plus(*more: Raw) -> Callable[[list[Raw]], list[Raw]]:
    """More members, among the first ones."""
    return lambda raws: [*raws[:2], *more, *raws[2:]]


def name(tag: str, version: str = VERSION) -> str:
    return f"{PACKAGE}-{version}-{tag}.whl"


def pin(world: World, wheels: dict[str, bytes]) -> None:
    """Pins these wheels in set.toml and lays them into the cache."""
    toml = world.folder / "set.toml"
    head, _, rest = toml.read_text().partition("[ascend.sdist]")
    head = head.partition("[[ascend.wheels]]")[0]
    tail = "[runtime]" + rest.partition("[runtime]")[2]
    sdist = "[ascend.sdist]" + rest.partition("[[ascend.wheels]]")[0].partition("[runtime]")[0]
    rows = "".join(f'[[ascend.wheels]]\nfile = "{file}"\nsha256 = "{sha256(data)}"\n' for file, data in wheels.items())
    toml.write_text(f"{head}{sdist}{rows}{tail}")
    for file, data in wheels.items():
        cached = Path(os.environ["PATCHSET_CACHE"]) / sha256(data) / file
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(data)


def publish(world: World) -> dict[str, bytes]:
    """Pins and caches one wheel for each tag; their bytes by file name."""
    wheels = {name(tag): pack(members(tag)) for tag in TAGS}
    pin(world, wheels)
    return wheels


def house(world: World, folder: Path) -> Path:
    """A new folder with the published wheels."""
    folder.mkdir()
    for file, data in publish(world).items():
        (folder / file).write_bytes(data)
    return folder


def dist(world: World) -> Path:
    return world.root / "dist" / SET


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
