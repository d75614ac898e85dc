# SPDX-License-Identifier: Apache-2.0
"""How far a port has come, kept in build/port/<set>/.

build/port/<set>/upstream     the new upstream, unpacked
build/port/<set>/tree         the work tree (see `workshop`)
build/port/<set>/set          the new set, until it is moved to patches/ and overlay/
build/port/<set>/port.json    what it is a port of, and how far it has come; written last
build/port/<set>/report.*     what was found at the start
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from patchset import disk, lock, paths
from patchset.errors import UsageError
from patchset.git import Repository
from patchset.port import newset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "port.json"


@dataclass(frozen=True)
class Port:
    """How far a port has come.

    Attributes:
        old: the set that is carried.
        name: the new set's.
        series: digest of the old set's patches; others need a new start. The overlay may change: a porter mends it.
        set_toml: the new set's, without a result.
        renames: new paths of the old upstream's files.
        position: how many patches of the old series are done.
        kept: patches of the new series so far, with the commit that each is.
        dropped: patches that are not in it, with why.
        stopped: whether the next patch lies in the work tree with conflicts.
    """

    old: str
    name: str
    series: str
    set_toml: str
    renames: tuple[tuple[str, str], ...]
    position: int = 0
    kept: tuple[tuple[str, str], ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    stopped: tuple[str, ...] = field(default=())

    @property
    def folder(self) -> Path:
        return folder(self.name)

    @property
    def upstream(self) -> Path:
        return self.folder / "upstream"

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def staging(self) -> Path:
        return self.folder / "set"

    def save(self) -> None:
        disk.write(self.folder / FILE, (json.dumps(asdict(self), indent=2) + "\n").encode(), mode=0o644)


def folder(name: str) -> Path:
    """build/port/<set>."""
    return paths.repo_root() / "build" / "port" / name


@contextmanager
def hold(name: str) -> Iterator[None]:
    """One run at a time works on a port."""
    with lock.hold(folder(name).with_name(f".{name}.lock")) as killed:
        if killed:
            Repository(folder(name) / "tree").unlock()
            newset.take_back(name, folder(name) / "set")
        yield


def running() -> list[str]:
    """Names of the sets that are being made."""
    return sorted(file.parent.name for file in (paths.repo_root() / "build" / "port").glob(f"*/{FILE}"))


def choose(name: str | None) -> str:
    """The set that is being made; the only one where no name is given.

    Raises:
        UsageError: there is none, or more than one and no name.
    """
    found = running()
    if name is None and len(found) == 1:
        return found[0]
    if name is None or name not in found:
        what = f"no port to {name} is under way" if name else "which port?" if found else "no port is under way"
        hint = f"name one with --to: {', '.join(found)}" if found else "patchset port --from SET --to SET begins one"
        raise UsageError(what, hint=hint)
    return name


def load(name: str) -> Port:
    """How far the port to a set has come.

    Raises:
        UsageError: its file cannot be read.
    """
    file = folder(name) / FILE
    try:
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        pairs = {key: tuple((str(one), str(two)) for one, two in raw[key]) for key in ("renames", "kept", "dropped")}
        return Port(**(raw | pairs | {"stopped": tuple(raw["stopped"])}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{file} cannot be read: {error!r}", hint=f"patchset port --abort --to {name}") from error
