# SPDX-License-Identifier: Apache-2.0
"""set.toml: what one patch set pins, read strictly."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from patchset.node import manifest
from patchset.node.errors import PinMismatch, UsageError
from patchset.system import paths

FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SET_NAME = re.compile(r"v[0-9][A-Za-z0-9.]*")


@dataclass(frozen=True)
class Artifact:
    """A file on a package index: its name, and the sha256 that the download must have."""

    project: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Release:
    """One release of a project."""

    version: str  # as in the project's metadata
    commit: str  # git commit of the tag, 40 hex digits; empty where it is not pinned
    sdist: Artifact
    wheels: tuple[Artifact, ...] = ()  # the published wheels that the set covers
    released: date | None = None  # the day of the release; None where it is not pinned


@dataclass(frozen=True)
class Touched:
    """Digests of one file before and after; None where the file is not there."""

    upstream: str | None
    patched: str | None


@dataclass(frozen=True)
class PatchSet:
    """One folder under patches/."""

    name: str  # the folder's name, which is `v` and the vLLM version
    folder: Path  # patches/<name>
    # The two releases that belong together.
    vllm: Release
    ascend: Release
    package: str  # import name of the patched package; its folder at the top of the tree
    # Versions that the release is made for.
    torch: str
    torch_npu: str
    cann: str
    python: str  # version specifier of the patched package
    # Files of the sdist that not every form of the release has: its build wrote them, so that a git checkout lacks
    # or varies them, or its wheels leave them out.
    generated: frozenset[str]
    manifest_sha256: str  # digest of upstream.sha256
    touched: Mapping[str, Touched] = field(hash=False)  # files that the series or the overlay changes, by path
    tree: str = ""  # digest of the resulting tree, generated files left out
    series: str = ""  # digest of the patch files and the overlay that made it

    @property
    def root(self) -> Path:
        """The repository that the set lies in, which holds its overlay too."""
        return self.folder.parents[1]

    def upstream_manifest(self) -> manifest.Manifest:
        """Every file of the sdist with its sha256, from upstream.sha256, generated files included.

        Raises PinMismatch: upstream.sha256 is not the one that set.toml pins.
        """
        return dict(self._upstream)

    @cached_property
    def _upstream(self) -> manifest.Manifest:
        file = self.folder / "upstream.sha256"
        try:
            data = file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}", hint="restore it with git") from error
        found = manifest.sha256(data)
        if found != self.manifest_sha256:
            raise PinMismatch(str(file), expected=self.manifest_sha256, found=found, hint="restore it with git")
        return manifest.parse(data.decode(errors="replace"), str(file))

    def sources(self) -> manifest.Manifest:
        """The upstream manifest without the generated files: what a tree, checkout or installation is held to."""
        return {path: sha for path, sha in self.upstream_manifest().items() if path not in self.generated}


class Table:
    """A TOML table that is read key by key; `finish` refuses what was not asked for."""

    def __init__(self, file: Path, name: str, value: Any) -> None:
        self.file, self.name = file, name
        if not isinstance(value, dict):
            raise UsageError(f"{file}: [{name}] must be a table")
        self.rest: dict[str, Any] = dict(value)

    def key(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def refuse(self, key: str, why: str) -> UsageError:
        return UsageError(f"{self.file}: {self.key(key)} {why}")

    def take(self, key: str, kind: type[Any], default: Any = None) -> Any:
        value = self.rest.pop(key, default)
        if value is None:
            raise self.refuse(key, "is missing")
        if type(value) is not kind:  # TOML's types are these; a bool is no int, and a time of day makes no date
            raise self.refuse(key, f"must be a {kind.__name__}, not {type(value).__name__}")
        return value

    def text(self, key: str, pattern: re.Pattern[str] | None = None, default: str | None = None) -> str:
        value: str = self.take(key, str, default)
        if pattern and value != default and not pattern.fullmatch(value):
            raise self.refuse(key, f"is malformed: {value!r}")
        return value

    def table(self, key: str) -> Table:
        return Table(self.file, self.key(key), self.take(key, dict))

    def finish(self) -> None:
        if self.rest:
            raise self.refuse(min(self.rest), "is not a known key")


def read_toml(file: Path, text: str) -> Table:
    """The top table of a TOML file. Raises UsageError: it is no TOML, or nothing that a person would write."""
    try:
        return Table(file, "", tomllib.loads(text))
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and as many brackets
        raise UsageError(f"{file}: {error}") from error


def load_set(asked: str) -> PatchSet:
    """The set of a name, a vLLM version or a vllm-ascend version, with a v or without.

    Raises UsageError: no such set, or more than one, or the file is malformed; the message names the file and the key.
    """
    found = named(asked)
    if len(found) == 1:
        return found[0]
    shown = found or every()
    listed = [f"{one.name} (vLLM {one.vllm.version}, vllm-ascend {one.ascend.version})" for one in shown]
    what = f"{asked!r} is of more than one set" if found else f"no patch set {asked!r}"
    raise UsageError(what, hint=f"name one of: {', '.join(listed)}" if listed else "there are no sets in patches/")


def named(asked: str) -> list[PatchSet]:
    """The sets of a name, else of a vLLM version, else of a vllm-ascend version; none where nothing is called so.

    Raises UsageError: a set's file is malformed.
    """
    if asked in paths.sets():
        return [read(paths.set_dir(asked))]
    sets, plain = every(), asked.removeprefix("v")
    return [one for one in sets if plain == one.vllm.version] or [one for one in sets if plain == one.ascend.version]


def every() -> list[PatchSet]:
    """All sets of the repository; raises as `read`."""
    return [read(paths.set_dir(name)) for name in paths.sets()]


def read(folder: Path) -> PatchSet:
    """The set that lies in a folder.

    Raises UsageError: its set.toml is not there or malformed; the message names the file and the key.
    """
    file = folder / "set.toml"
    try:
        return parse(file.read_text(encoding="utf-8"), folder)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from error


def only_set() -> str:
    """The name of the one set in the repository. Raises UsageError: there are more, or none."""
    known = paths.sets()
    if len(known) != 1:
        raise UsageError("which set?", hint=f"name one of: {', '.join(known) or 'none'}")
    return known[0]


def parse(text: str, folder: Path) -> PatchSet:
    """Reads the text of a set.toml that lies in `folder`, whose name names the set."""
    file = folder / "set.toml"
    if not _SET_NAME.fullmatch(folder.name):
        raise UsageError(f"{folder}: a set is named v<vLLM version>")
    top = read_toml(file, text)
    if (version := top.take("format", int)) != FORMAT:
        raise top.refuse("format", f"is {version}; this tool reads {FORMAT}")
    vllm = _release(top.table("vllm"), "vllm")
    ascend_table = top.table("ascend")
    package = ascend_table.text("package", _FILE_NAME)
    generated = _names(ascend_table, "generated")
    ascend = _release(ascend_table, "vllm-ascend")
    runtime = top.table("runtime")
    pins = {key: runtime.text(key) for key in ("torch", "torch_npu", "cann", "python")}
    runtime.finish()
    upstream = top.table("upstream")
    manifest_sha256 = upstream.text("manifest", _SHA256)
    upstream.finish()
    result = top.table("result")
    tree = result.text("tree", _SHA256, default="")
    series = result.text("series", _SHA256, default="")
    touched = _touched(result.table("files"))
    result.finish()
    top.finish()
    return PatchSet(
        name=folder.name,
        folder=folder,
        vllm=vllm,
        ascend=ascend,
        package=package,
        generated=generated,
        manifest_sha256=manifest_sha256,
        touched=touched,
        tree=tree,
        series=series,
        **pins,
    )


def _release(table: Table, project: str) -> Release:
    version = table.text("version")
    commit = table.text("commit", _COMMIT, default="")
    released = table.take("released", date) if "released" in table.rest else None
    sdist = _artifact(table.table("sdist"), project)
    wheels = []
    for number, value in enumerate(table.take("wheels", list, []), start=1):
        wheels.append(_artifact(Table(table.file, f"{table.name}.wheels[{number}]", value), project))
    table.finish()
    return Release(version, commit, sdist, tuple(wheels), released)


def _artifact(table: Table, project: str) -> Artifact:
    artifact = Artifact(project, table.text("file", _FILE_NAME), table.text("sha256", _SHA256))
    table.finish()
    return artifact


def _names(table: Table, key: str) -> frozenset[str]:
    names = table.take(key, list, [])
    for name in names:
        if not isinstance(name, str) or manifest.unsafe_reason(name):
            raise table.refuse(key, f"has {name!r}, which is no path in the tree")
    return frozenset(names)


def _touched(table: Table) -> dict[str, Touched]:
    touched = {}
    for path in list(table.rest):
        if reason := manifest.unsafe_reason(path):
            raise table.refuse(repr(path), reason)
        row = table.table(path)
        upstream = row.text("upstream", _SHA256, default="") or None
        patched = row.text("patched", _SHA256, default="") or None
        if upstream == patched:
            raise row.refuse("patched", "must differ from upstream")
        row.finish()
        touched[path] = Touched(upstream, patched)
    return touched
