# SPDX-License-Identifier: Apache-2.0
"""`patchset wheels`: from pins to dist/<set>/, each wheel read back before anything is in its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from patchset import manifest, plan
from patchset.errors import Unavailable
from patchset.source import Source
from patchset.wheels import build, index, inputs, publish, signing, statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from patchset.plan import Plan
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal
    from patchset.wheels.build import Made
    from patchset.wheels.signing import SecretKey
    from patchset.wheels.wheel import Wheel

FORMAT = 1


@dataclass(frozen=True)
class Outcome:
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


def run(
    patch_set: PatchSet,
    *,
    local: str,
    upstream: Path | None,
    offline: bool,
    terminal: Terminal,
    key: Path | None = None,
) -> Outcome:
    """Makes dist/<set>/ anew from the published wheels.

    Args:
        patch_set: the set.
        local: the local version label.
        upstream: a wheelhouse or a single wheel to take instead of the index.
        offline: use the cache alone.
        terminal: where progress goes.
        key: the minisign secret key that signs SHA256SUMS; None for no signature.

    Raises:
        PatchsetError: dist/<set>/ is as it was.
    """
    signer = signing.load(key) if key else None  # a wrong password is told before the work
    version = build.local_version(patch_set.ascend.version, local)
    place = publish.folder(patch_set.name)
    with publish.staged(place) as staging:
        wheels = _repacked(patch_set, version, staging, upstream=upstream, offline=offline, terminal=terminal)
        outcome = Outcome(patch_set, place, version, tuple(wheels))
        _write_rest(outcome, staging, signer)
    return outcome


def _repacked(
    patch_set: PatchSet, version: str, staging: Path, *, upstream: Path | None, offline: bool, terminal: Terminal
) -> Iterator[Made]:
    """Repacks one wheel after the other, writes it, and audits what the disk then has."""
    planned = _planner(patch_set, Source(patch_set, given=None, offline=offline, terminal=terminal).read)
    given = inputs.locate(patch_set, upstream, offline=offline, terminal=terminal)
    label = f"patching {len(given)} wheel{'s' * (len(given) > 1)} of vllm-ascend {patch_set.ascend.version}"
    with terminal.progress(label, len(given)) as advance:
        for one in given:
            source = inputs.load(patch_set, one)
            worked_out = planned(source)
            made, data = build.repack(source, worked_out, one.pin, version)
            write_wheel(made, data, build.must_hold(source, worked_out, version), staging)
            yield made
            advance(1)


def write_wheel(made: Made, data: bytes, expected: build.Contents, staging: Path) -> None:
    """Writes a wheel, reads it back and audits it.

    Raises:
        Unavailable: the disk gave other bytes back.
        PinMismatch, UsageError: the wheel is not what it must be.
    """
    file = staging / made.build.file
    publish.write(staging, {file.name: data})
    if (written := file.read_bytes()) != data:
        raise Unavailable(f"{file}: the disk gave other bytes back than were written", hint="check the disk")
    build.read_back(made, written, expected)


def _planner(patch_set: PatchSet, elsewhere: Callable[[str], bytes]) -> Callable[[Wheel], Plan]:
    """Works the plan of a wheel out: once for all wheels whose sources are the same."""
    sources = patch_set.sources()
    plans: dict[str, Plan] = {}

    def planned(wheel: Wheel) -> Plan:
        files = wheel.files
        key = manifest.digest({path: files[path].sha256 for path in sources.keys() & files.keys()})
        if key not in plans:
            plans[key] = plan.make(patch_set, lambda path: files[path].data if path in files else elsewhere(path))
            plan.check(plans[key])
        return plans[key]

    return planned


def _write_rest(outcome: Outcome, staging: Path, signer: SecretKey | None) -> None:
    """The index, the constraints, the manifest, the statements, the digests of them all, and their signature."""
    listed = [index.Listed(made.build.file, made.sha256, made.size, made.requires_python) for made in outcome.wheels]
    files = index.pages(outcome.project, outcome.version, listed)
    files["constraints.txt"] = _constraints(outcome)
    files["manifest.json"] = (json.dumps(outcome.as_dict(), indent=1) + "\n").encode()
    files |= statements.beside(outcome.wheels)
    publish.write(staging, files)
    digests = {one.file: one.sha256 for one in listed} | {path: manifest.sha256(data) for path, data in files.items()}
    sums = manifest.render(digests).encode()
    comment = f"{outcome.project} {outcome.version}, set {outcome.patch_set.name}"
    publish.write(staging, {publish.SUMS: sums} | (signing.sign(sums, signer, comment) if signer else {}))


def _constraints(outcome: Outcome) -> bytes:
    """For `pip install --constraint`: what is installed later keeps the patched wheel and what it is made for."""
    patch_set = outcome.patch_set
    pins = {
        outcome.project: outcome.version,
        patch_set.vllm.sdist.project: patch_set.vllm.version,
        "torch": patch_set.torch,
        "torch-npu": patch_set.torch_npu,
    }
    return "".join(f"{project}=={version}\n" for project, version in sorted(pins.items())).encode()


def show(outcome: Outcome, terminal: Terminal) -> None:
    """Prints what was made and how to install it."""
    rows = [(made.build.file, f"{made.size / 1e3:.0f}", made.sha256[:12]) for made in outcome.wheels]
    terminal.table(
        f"wheels of {outcome.patch_set.name} in {outcome.folder}", ("wheel", "kB", "sha256"), rows, right="kB"
    )
    requirement = f"{outcome.project}=={outcome.version}"
    terminal.note(f"pip install --no-deps --no-index --find-links {outcome.folder} {requirement}")
    terminal.document({"command": "wheels", "folder": str(outcome.folder), **outcome.as_dict()})
