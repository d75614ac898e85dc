# SPDX-License-Identifier: Apache-2.0
"""The overlay: modules that a set adds to the tree, and what of upstream each one replaces.

overlay/<set>/overlay.toml says that, so that a release that changes such code is noticed:

    omits = ["vllm_ascend/data_parallel/graph_sizes.py"]  # a shared module that has nothing to do in this release

    [[module]]
    path = "vllm_ascend/data_parallel/metadata.py"

    [[module.replaces]]
    path = "vllm_ascend/worker/model_runner_v1.py"
    symbol = "NPUModelRunner._get_forward_metadata_across_dp"
    sha256 = "..."  # of the symbol's lines; `patchset pin` writes it

    [[breaks]]  # a public name of upstream that the patched tree has no more, or with another signature
    path = "vllm_ascend/torchair/torchair_model_runner.py"
    symbol = "NPUTorchairModelRunner.get_dp_padding"
    why = "upstream calls it nowhere"
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from patchset.node import manifest
from patchset.node.errors import PinMismatch, UsageError
from patchset.sets import symbols
from patchset.sets.setfile import PatchSet, Table, read_toml
from patchset.system import paths

_CACHES = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache")
_NOTES = frozenset({"overlay.toml", "README.md"})


class _Replaced(Table, frozen=True):
    path: str  # upstream's file
    symbol: str = ""  # dotted name of a class or function in it; empty for the whole file
    sha256: str = ""  # of the symbol's source lines, or of the file; empty where it is not recorded yet


class Replaced(_Replaced, frozen=True, kw_only=True):
    """Upstream code that an overlay module takes the place of."""

    module: str


class Broken(Table, frozen=True):
    """A public name of upstream that the patched tree lacks, or has with another signature, and why that must be."""

    path: str  # upstream's file
    why: str
    symbol: str = ""  # dotted name in it; empty for the whole file


class _Module(Table, frozen=True):
    path: str
    replaces: tuple[_Replaced, ...] = ()


class _Declared(Table, frozen=True):
    omits: tuple[str, ...] = ()
    module: tuple[_Module, ...] = ()
    breaks: tuple[Broken, ...] = ()


@dataclass(frozen=True)
class Overlay:
    files: Mapping[str, bytes]  # content by path
    replaces: tuple[Replaced, ...]  # what that replaces
    breaks: tuple[Broken, ...] = ()  # what of upstream's API is not kept
    toml: bytes = b""  # the bytes of overlay.toml
    omits: tuple[str, ...] = ()  # shared modules that it does not install

    def with_files(self, files: Mapping[str, bytes | None]) -> Overlay:
        """The overlay with other content of these files; None for one that goes."""
        now = {path: data for path, data in {**self.files, **files}.items() if data is not None}
        return replace(self, files=now)

    @property
    def lines(self) -> int:
        return sum(data.count(b"\n") for data in self.files.values())


def overlay_toml(set_name: str, root: Path | None = None) -> Path:
    return paths.overlay_dir(set_name, root) / "overlay.toml"


def load(patch_set: PatchSet) -> Overlay:
    """Reads overlay/shared, then the folders of few sets, then overlay/<set>, whose files win. Raises UsageError: a
    file that is no part of the package, or one that upstream has; or a malformed overlay.toml."""
    upstream = patch_set.upstream_manifest()
    files: dict[str, bytes] = {}
    declared = overlay_toml(patch_set.name, patch_set.root)
    toml = declared.read_bytes() if declared.is_file() else b""
    for folder in paths.overlay_dirs(patch_set.name, patch_set.root):
        for path in manifest.walk(folder, skip=_CACHES) if folder.is_dir() else ():
            if path in _NOTES or path.endswith(".pyc"):
                continue
            file = folder / path
            if reason := manifest.unsafe_reason(path):
                raise UsageError(f"{str(file)!r} {reason}")
            if file.is_symlink():
                raise UsageError(f"{file} is a link; the overlay holds files")
            if not path.startswith(f"{patch_set.package}/"):
                raise UsageError(f"{file} is not below {patch_set.package}/", hint="lay overlay files out as they land")
            if path in upstream:
                hint = "put the logic in a new module and hook it in with a patch"
                raise UsageError(f"{file} would overwrite upstream's file", hint=hint)
            files[path] = file.read_bytes()
    said = read_toml(declared, toml.decode(errors="replace"), _Declared)
    found = ((module.path, structs.asdict(row)) for module in said.module for row in module.replaces)
    replaces = tuple(Replaced(**row, module=path) for path, row in found)

    def known(key: str, path: str, whose: str, there: Container[str]) -> None:
        if path not in there:
            raise UsageError(f"{declared}: {key} names {path!r}, which {whose} does not have")

    for path in said.omits:
        known("omits", path, "the overlay", files)
        del files[path]
    for module in said.module:
        known("module", module.path, "the overlay", files)
    for key, path in [*(("replaces", row.path) for row in replaces), *(("breaks", row.path) for row in said.breaks)]:
        known(key, path, "upstream", upstream)
    return Overlay(files, replaces, said.breaks, toml, said.omits)


def changed(overlay: Overlay, read: Callable[[str], bytes]) -> Iterator[tuple[Replaced, str | None]]:
    """What a module replaces that is not the code that it was written against, and its digest now; None: not there."""
    for row in overlay.replaces:
        if (found := symbols.sha256(read(row.path), row.symbol)) != row.sha256:
            yield row, found


def check(overlay: Overlay, set_name: str, read: Callable[[str], bytes]) -> None:
    """Raises PinMismatch where the code that a module replaces is not the code that it was written against."""
    for row, found in changed(overlay, read):
        if found is None:
            raise UsageError(f"{overlay_toml(set_name)}: {row.path} has no {row.symbol}, which {row.module} replaces")
        what = f"{row.path} {row.symbol}, which {row.module} replaces,"
        hint = f"read upstream's change, then: patchset pin {set_name}"
        raise PinMismatch(what, expected=row.sha256 or "(not pinned)", found=found, hint=hint)
