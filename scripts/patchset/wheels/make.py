# SPDX-License-Identifier: Apache-2.0
"""`patchset wheels`: from pins to dist/<set>/, each wheel read back before anything is in its place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from patchset.node import manifest
from patchset.node.errors import Unavailable
from patchset.node.verify.dist import SUMS
from patchset.sets.setfile import PatchSet
from patchset.system.terminal import Terminal
from patchset.wheels import build, index, publish, signing, statements
from patchset.wheels.model import Draft, Made
from patchset.wheels.signing import Signer

FORMAT = 1


@dataclass(frozen=True)
class WheelsResult:
    """What was made.

    Attributes:
        patch_set: from which set.
        folder: dist/<set>.
        version: of every wheel.
        wheels: in the order of set.toml; at least one.
    """

    patch_set: PatchSet
    folder: Path
    version: str
    wheels: tuple[Made, ...]

    @property
    def project(self) -> str:
        """The name under which an index lists the wheels."""
        return canonicalize_name(self.patch_set.package)

    def as_dict(self) -> dict[str, Any]:
        """Also dist/<set>/manifest.json."""
        worked_out = self.wheels[0].build.plan
        return {
            "format": FORMAT,
            "set": self.patch_set.name,
            "project": self.project,
            "version": self.version,
            "tree": worked_out.tree,
            "series": worked_out.series,
            "wheels": [
                {
                    "file": made.build.file,
                    "sha256": made.sha256,
                    "size": made.size,
                    "upstream": {"file": made.build.upstream.file, "sha256": made.build.upstream.sha256},
                }
                for made in self.wheels
            ],
        }


def run(patch_set: PatchSet, version: str, drafts: Iterable[Draft], *, key: Path | None = None) -> WheelsResult:
    """Makes dist/<set>/ anew.

    Args:
        drafts: the wheels, each made when it is asked for; at least one.
        key: the minisign secret key that signs SHA256SUMS; None for no signature.

    Raises:
        PatchsetError: dist/<set>/ is as it was.
    """
    signer = signing.load(key) if key else None  # a wrong password is told before the work
    place = publish.folder(patch_set.name)
    with publish.staged(place) as staging:
        outcome = WheelsResult(patch_set, place, version, tuple(_write(draft, staging) for draft in drafts))
        _write_rest(outcome, staging, signer)
    return outcome


def _write(draft: Draft, staging: Path) -> Made:
    """Writes a wheel, reads it back and audits it.

    Raises:
        Unavailable: the disk gave other bytes back.
        PinMismatch, UsageError: the wheel is not what it must be.
    """
    file = staging / draft.made.build.file
    publish.write(staging, {file.name: draft.data})
    if (written := file.read_bytes()) != draft.data:
        raise Unavailable(f"{file}: the disk gave other bytes back than were written", hint="check the disk")
    build.read_back(draft, written)
    return draft.made


def _write_rest(outcome: WheelsResult, staging: Path, signer: Signer | None) -> None:
    """What an installer or a node needs besides the wheels, the digests of it all, and their signature."""
    files = index.pages(outcome.project, outcome.version, outcome.wheels)
    files["constraints.txt"] = _constraints(outcome)
    files["manifest.json"] = (json.dumps(outcome.as_dict(), indent=1) + "\n").encode()
    files |= statements.beside(outcome.wheels)
    publish.write(staging, files)
    digests = {made.build.file: made.sha256 for made in outcome.wheels} | {
        path: manifest.sha256(data) for path, data in files.items()
    }
    sums = manifest.render(digests).encode()
    comment = f"{outcome.project} {outcome.version}, set {outcome.patch_set.name}"
    publish.write(staging, {SUMS: sums} | (signer.sign(sums, comment) if signer else {}))


def _constraints(outcome: WheelsResult) -> bytes:
    """For `pip install --constraint`: what is installed later keeps the patched wheel and what it is made for."""
    patch_set = outcome.patch_set
    pins = {
        outcome.project: outcome.version,
        patch_set.vllm.sdist.project: patch_set.vllm.version,
        "torch": patch_set.torch,
        "torch-npu": patch_set.torch_npu,
    }
    return "".join(f"{project}=={version}\n" for project, version in sorted(pins.items())).encode()


def show(outcome: WheelsResult, terminal: Terminal) -> None:
    """Prints what was made and how to install it."""
    rows = [(made.build.file, f"{made.size / 1e3:.0f}", made.sha256[:12]) for made in outcome.wheels]
    terminal.table(
        f"wheels of {outcome.patch_set.name} in {outcome.folder}", ("wheel", "kB", "sha256"), rows, right="kB"
    )
    requirement = f"{outcome.project}=={outcome.version}"
    terminal.note(f"pip install --no-deps --no-index --find-links {outcome.folder} {requirement}")
    terminal.document({"folder": str(outcome.folder), **outcome.as_dict()})
