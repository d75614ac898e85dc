# SPDX-License-Identifier: Apache-2.0
"""What a set is applied to: the tree in build/, a checkout, or an installation in site-packages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from shlex import quote

from patchset.node.errors import PinMismatch, UsageError
from patchset.node.manifest import Manifest
from patchset.node.verify.command import editable
from patchset.sets.setfile import PatchSet
from patchset.system import paths

_HINT = "TARGET is a checkout of vllm-ascend or a site-packages folder"


class Kind(Enum):
    BUILD = "build"
    CHECKOUT = "checkout"
    SITE_PACKAGES = "site-packages"


@dataclass(frozen=True)
class Target:
    kind: Kind
    root: Path  # the folder itself; a build tree may not be there yet
    set_name: str  # the set that is applied to it
    state: Path  # the folder, beside it or in its .git, that holds the lock, the journal and the original bytes
    prefix: str = ""  # paths that begin with it are the target's; the rest of upstream is not expected there
    record: str | None = None  # path of the installation's RECORD below root; None where there is none

    @property
    def named(self) -> str:
        """What a make command needs to mean this target."""
        return f" VERSION={self.set_name}" + ("" if self.kind is Kind.BUILD else f" TARGET={quote(str(self.root))}")

    def covers(self, path: str) -> bool:
        """Whether a path of the tree is expected in this target."""
        return path.startswith(self.prefix)

    def covered(self, files: Manifest) -> Manifest:
        return {path: sha for path, sha in files.items() if self.covers(path)}


def build_tree(patch_set: PatchSet) -> Target:
    """build/<set>/vllm-ascend."""
    root = paths.tree_dir(patch_set.name)
    return Target(Kind.BUILD, root, patch_set.name, root.with_name(f".{root.name}.patchset"))


def locate(patch_set: PatchSet, folder: Path | None) -> Target:
    """The target of --target, or the build tree; raises UsageError where it has no package, PinMismatch for another."""
    if folder is None:
        return build_tree(patch_set)
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}", hint=_HINT)
    root = folder.resolve()
    if root == paths.tree_dir(patch_set.name).resolve():
        return build_tree(patch_set)
    package = patch_set.package
    if root.name == package and (root / "__init__.py").is_file():
        hint = f"give the folder that holds it: TARGET={quote(str(root.parent))}"
        raise UsageError(f"{root} is the package itself", hint=hint)
    infos = sorted(root.glob(f"{package}-*.dist-info"))
    if not (root / package).is_dir():
        source = next(filter(None, map(editable, infos)), "")
        hint = f"the installation is editable: TARGET={quote(source)}" if source else _HINT
        raise UsageError(f"{root} holds no {package}/", hint=hint)
    if infos:
        return _site_packages(patch_set, root, infos)
    whole = (root / "pyproject.toml").is_file() or (root / "setup.py").is_file()
    state = root.with_name(f".{root.name}.patchset")
    if (root / ".git").is_dir() and not state.is_dir():
        state = root / ".git" / "patchset"  # it moves with the checkout, and who may write there may apply
    return Target(Kind.CHECKOUT, root, patch_set.name, state, prefix="" if whole else f"{package}/")


def _site_packages(patch_set: PatchSet, root: Path, infos: list[Path]) -> Target:
    if len(infos) > 1:
        names = ", ".join(info.name for info in infos)
        said = f"{root} has more than one installation of {patch_set.package}: {names}"
        raise UsageError(said, hint="remove the leftovers with pip")
    info = infos[0]
    version = info.name.removesuffix(".dist-info").partition("-")[2]
    if version.startswith(f"{patch_set.ascend.version}+"):
        said = f"{root} has the patched wheel {version}: it is whole as it is, and nothing of it is applied or reverted"
        back = f"{info.name.split('-')[0].replace('_', '-')}=={patch_set.ascend.version}"
        hint = f"patchset verify --installed --path {quote(str(root))} checks it; "
        raise UsageError(said, hint=f"{hint}pip install --no-deps --force-reinstall {back} goes back")
    if version != patch_set.ascend.version:
        what, release = f"the {patch_set.package} installed in {root}", patch_set.ascend.version
        hint = f"install vllm-ascend=={release}, or apply the set for your release"
        raise PinMismatch(what, expected=release, found=version, hint=hint)
    record = info / "RECORD"
    if not record.is_file():
        raise UsageError(f"{info} has no RECORD", hint="reinstall the package with pip or uv")
    state = root / f".{patch_set.package}.patchset"
    return Target(Kind.SITE_PACKAGES, root, patch_set.name, state, f"{patch_set.package}/", f"{info.name}/RECORD")
