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
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from patchset.node import manifest
from patchset.node.errors import PinMismatch, UsageError
from patchset.system import paths

FORMAT = 1
_SET_NAME = re.compile(r"v[0-9][A-Za-z0-9.]*")
_FileName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._+-]*\Z")]
_Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Recorded = Annotated[str, Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
_Commit = Annotated[str, Meta(pattern=r"\A([0-9a-f]{40})?\Z")]
T = TypeVar("T")


@dataclass(frozen=True)
class Artifact:
    """A file on a package index: its name, and the sha256 that the download must have."""

    project: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Release:
    version: str  # as in the project's metadata
    commit: str  # git commit of the tag, 40 hex digits; empty where it is not pinned
    sdist: Artifact
    wheels: tuple[Artifact, ...] = ()  # the published wheels that the set covers
    released: date | None = None  # the day of the release; None where it is not pinned


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table that has these keys and no others."""


class Touched(Table, frozen=True):
    """Digests of one file before and after; None where the file is not there."""

    upstream: _Sha256 | None = None
    patched: _Sha256 | None = None


@dataclass(frozen=True)
class PatchSet:
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
        """Each file of the sdist, generated ones too, with its sha256; raises PinMismatch: it is not as pinned."""
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


class _Artifact(Table, frozen=True):
    file: _FileName
    sha256: _Sha256


class _Release(Table, frozen=True, kw_only=True):
    version: str
    sdist: _Artifact
    commit: _Commit = ""
    wheels: tuple[_Artifact, ...] = ()
    released: date | None = None


class _Ascend(_Release, frozen=True, kw_only=True):
    package: _FileName
    generated: frozenset[str] = frozenset()


class _Runtime(Table, frozen=True):
    torch: str
    torch_npu: str
    cann: str
    python: str


class _Upstream(Table, frozen=True):
    manifest: _Sha256


class _Result(Table, frozen=True):
    files: dict[str, Touched]
    tree: _Recorded = ""
    series: _Recorded = ""


class _SetToml(Table, frozen=True):
    format: int
    vllm: _Release
    ascend: _Ascend
    runtime: _Runtime
    upstream: _Upstream
    result: _Result


def read_toml(file: Path, text: str, kind: type[T]) -> T:
    """What a TOML file says. Raises UsageError: it is no TOML, or not of this form; the message names the key."""
    try:
        return msgspec.convert(tomllib.loads(text), kind)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and as many brackets
        raise UsageError(f"{file}: {_plain(str(error))}") from error


def _plain(said: str) -> str:
    """What msgspec says, with the key in front.

    >>> _plain("Object missing required field `file` - at `$.ascend.wheels[0]`")
    'ascend.wheels[1].file is missing'
    """
    what, _, place = said.removesuffix("`").partition(" - at `$")
    place = re.sub(r"\[(\d+)\]", lambda found: f"[{int(found[1]) + 1}]", place)
    if field := re.fullmatch(r"Object (missing required|contains unknown) field `(.+?)`?", what):
        return f"{place}.{field[2]} is {'missing' if 'missing' in what else 'not a known key'}".lstrip(".")
    what = re.sub(r"Expected `(.+)`, got `(.+)`", r"must be \1, not \2", what)
    return f"{place} {'is malformed' if 'matching regex' in what else what}".lstrip(". ")


def load_set(asked: str) -> PatchSet:
    """The set of a name or version, with a v or without; raises UsageError: none, or more than one."""
    found = named(asked)
    if len(found) == 1:
        return found[0]
    shown = found or every()
    listed = [f"{one.name} (vLLM {one.vllm.version}, vllm-ascend {one.ascend.version})" for one in shown]
    what = f"{asked!r} is of more than one set" if found else f"no patch set {asked!r}"
    raise UsageError(what, hint=f"name one of: {', '.join(listed)}" if listed else "there are no sets in patches/")


def named(asked: str) -> list[PatchSet]:
    """The sets of a name, else of a vLLM version, else of a vllm-ascend version; raises as `read`."""
    if asked in paths.sets():
        return [read(paths.set_dir(asked))]
    sets, plain = every(), asked.removeprefix("v")
    return [one for one in sets if plain == one.vllm.version] or [one for one in sets if plain == one.ascend.version]


def every() -> list[PatchSet]:
    return [read(paths.set_dir(name)) for name in paths.sets()]


def read(folder: Path) -> PatchSet:
    """The set of a folder; raises UsageError: set.toml is not there or malformed; names the file and the key."""
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
    found = read_toml(file, text, _SetToml)
    if found.format != FORMAT:
        raise UsageError(f"{file}: format is {found.format}; this tool reads {FORMAT}")
    for path in [*found.ascend.generated, *found.result.files]:
        if reason := manifest.unsafe_reason(path):
            raise UsageError(f"{file}: {path!r} {reason}")
    for path, row in found.result.files.items():
        if row.upstream == row.patched:
            raise UsageError(f"{file}: result.files.{path}.patched must differ from upstream")
    return PatchSet(
        name=folder.name,
        folder=folder,
        vllm=_release(found.vllm, "vllm"),
        ascend=_release(found.ascend, "vllm-ascend"),
        package=found.ascend.package,
        generated=found.ascend.generated,
        manifest_sha256=found.upstream.manifest,
        touched=found.result.files,
        tree=found.result.tree,
        series=found.result.series,
        **msgspec.structs.asdict(found.runtime),
    )


def _release(found: _Release, project: str) -> Release:
    sdist, *wheels = (Artifact(project, one.file, one.sha256) for one in (found.sdist, *found.wheels))
    return Release(found.version, found.commit, sdist, tuple(wheels), found.released)
