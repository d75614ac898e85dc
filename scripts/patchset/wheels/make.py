# SPDX-License-Identifier: Apache-2.0
"""`patchset wheels`: from pins to dist/<set>/, each wheel read back before anything is in its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from patchset import manifest, plan
from patchset.source import Source
from patchset.wheels import build, index, inputs, publish
from patchset.wheels.index import Listed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from patchset.plan import Plan
    from patchset.setfile import Artifact, PatchSet
    from patchset.terminal import Terminal
    from patchset.wheels.wheel import Wheel

FORMAT = 1


@dataclass(frozen=True)
class Made:
    """A wheel in dist/<set>/, and the pin of what it was made from."""

    listed: Listed
    upstream: Artifact

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": self.listed.file,
            "sha256": self.listed.sha256,
            "size": self.listed.size,
            "upstream": {"file": self.upstream.file, "sha256": self.upstream.sha256},
        }


@dataclass(frozen=True)
class Outcome:
    """What was made.

    Attributes:
        patch_set: from which set.
        folder: dist/<set>.
        version: of every wheel.
        plan: what the set did to their files.
        wheels: in the order of set.toml.
    """

    patch_set: PatchSet
    folder: Path
    version: str
    plan: Plan
    wheels: tuple[Made, ...]

    def as_dict(self) -> dict[str, Any]:
        """Also dist/<set>/manifest.json."""
        return {
            "format": FORMAT,
            "set": self.patch_set.name,
            "project": self.patch_set.ascend.sdist.project,
            "version": self.version,
            "tree": self.plan.tree,
            "series": self.plan.series,
            "wheels": [one.as_dict() for one in self.wheels],
        }


def run(patch_set: PatchSet, *, local: str, upstream: Path | None, offline: bool, terminal: Terminal) -> Outcome:
    """Makes dist/<set>/ anew from the published wheels.

    Raises:
        PatchsetError: dist/<set>/ is as it was.
    """
    version = build.local_version(patch_set.ascend.version, local)
    place = publish.folder(patch_set.name)
    source = Source(patch_set, given=None, offline=offline, terminal=terminal)
    planned = _planner(patch_set, source.read)
    with publish.staged(place) as staging:
        given = inputs.locate(patch_set, upstream, offline=offline, terminal=terminal)
        made = []
        with terminal.progress(
            f"patching {len(given)} wheels of vllm-ascend {patch_set.ascend.version}", len(given)
        ) as advance:
            for one in given:
                read = inputs.load(patch_set, one)
                worked_out = planned(read)
                made.append(_make(read, worked_out, one.pin, version, staging))
                advance(1)
        outcome = Outcome(patch_set, place, version, worked_out, tuple(made))
        _write_rest(outcome, staging)
    return outcome


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


def _make(read: Wheel, worked_out: Plan, pin: Artifact, version: str, staging: Path) -> Made:
    """Repacks one wheel, writes it, and audits what the disk then has."""
    one, data = build.repack(read, worked_out, pin, version)
    publish.write(staging, {one.file: data})
    written = (staging / one.file).read_bytes()
    build.read_back(one, read, written)
    requires = read.metadata("Requires-Python")
    return Made(Listed(one.file, manifest.sha256(written), len(written), requires), pin)


def _write_rest(outcome: Outcome, staging: Path) -> None:
    """The index, the constraints, the manifest and the digests of them all."""
    patch_set = outcome.patch_set
    listed = [made.listed for made in outcome.wheels]
    files = index.pages(patch_set.ascend.sdist.project, outcome.version, listed)
    files["constraints.txt"] = _constraints(outcome)
    files["manifest.json"] = (json.dumps(outcome.as_dict(), indent=1) + "\n").encode()
    publish.write(staging, files)
    digests = {one.file: one.sha256 for one in listed} | {path: manifest.sha256(data) for path, data in files.items()}
    publish.write(staging, {publish.SUMS: manifest.render(digests).encode()})


def _constraints(outcome: Outcome) -> bytes:
    """For `pip install --constraint`: what is installed later keeps the patched wheel and what it is made for."""
    patch_set = outcome.patch_set
    pins = {
        patch_set.ascend.sdist.project: outcome.version,
        patch_set.vllm.sdist.project: patch_set.vllm.version,
        "torch": patch_set.torch,
        "torch-npu": patch_set.torch_npu,
    }
    return "".join(f"{project}=={version}\n" for project, version in sorted(pins.items())).encode()


def show(outcome: Outcome, terminal: Terminal) -> None:
    """Prints what was made and how to install it."""
    rows = [(made.listed.file, f"{made.listed.size / 1e3:.0f}", made.listed.sha256[:12]) for made in outcome.wheels]
    terminal.table(
        f"wheels of {outcome.patch_set.name} in {outcome.folder}", ("wheel", "kB", "sha256"), rows, right="kB"
    )
    project = outcome.patch_set.ascend.sdist.project
    terminal.note(f"pip install --no-deps --no-index --find-links {outcome.folder} {project}=={outcome.version}")
    terminal.document({"command": "wheels", "folder": str(outcome.folder), **outcome.as_dict()})
