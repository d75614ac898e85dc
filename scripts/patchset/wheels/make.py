# SPDX-License-Identifier: Apache-2.0
"""`patchset wheels`: dist/<set>/, each wheel read back, then swapped in whole or not at all."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from patchset.node import manifest
from patchset.node.errors import Unavailable, UsageError
from patchset.node.verify.command import SIGNATURE, SUMS
from patchset.sets.setfile import PatchSet
from patchset.system import disk, lock, paths
from patchset.system.terminal import Terminal
from patchset.wheels import build, minisign, statements
from patchset.wheels.minisign import Signer
from patchset.wheels.wheel import Draft, Made

FORMAT = 1

_PAGE = """\
<!DOCTYPE html>
<html>
<head><meta name="pypi:repository-version" content="1.0"><title>{title}</title></head>
<body>
{links}
</body>
</html>
"""


@dataclass(frozen=True)
class WheelsResult:
    """What was made in dist/<set>: one wheel or more of one version, in the order of set.toml."""

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
        plan, wheels = self.wheels[0].build.plan, []
        for made in self.wheels:
            upstream = {"file": made.build.upstream.file, "sha256": made.build.upstream.sha256}
            wheels.append({"file": made.build.file, "sha256": made.sha256, "size": made.size, "upstream": upstream})
        what = {"set": self.patch_set.name, "project": self.project, "version": self.version}
        return {"format": FORMAT, **what, "tree": plan.tree, "series": plan.series, "wheels": wheels}


def run(patch_set: PatchSet, version: str, drafts: Iterable[Draft], *, key: Path | None = None) -> WheelsResult:
    """Makes dist/<set>/ anew, of one wheel or more, and signs with a minisign key; as it was where that fails."""
    signer = minisign.load(key) if key else None  # a wrong password is told before the work
    place = paths.repo_root() / "dist" / patch_set.name
    wheels = []
    with staged(place) as staging:
        for draft in drafts:
            file = staging / draft.made.build.file
            _write_files(staging, {file.name: draft.data})
            if (written := file.read_bytes()) != draft.data:
                raise Unavailable(f"{file}: the disk gave other bytes back than were written", hint="check the disk")
            build.read_back(draft, written)
            wheels.append(draft.made)
        outcome = WheelsResult(patch_set, place, version, tuple(wheels))
        _write_rest(outcome, staging, signer)
    return outcome


def _write_rest(outcome: WheelsResult, staging: Path, signer: Signer | None) -> None:
    """What an installer or a node needs besides the wheels, the digests of it all, and their signature."""
    files = pages(outcome.project, outcome.version, outcome.wheels)
    pins = {
        outcome.project: outcome.version,
        outcome.patch_set.vllm.sdist.project: outcome.patch_set.vllm.version,
        "torch": outcome.patch_set.torch,
        "torch-npu": outcome.patch_set.torch_npu,
    }
    files["constraints.txt"] = "".join(f"{project}=={pins[project]}\n" for project in sorted(pins)).encode()
    files["manifest.json"] = (json.dumps(outcome.as_dict(), indent=1) + "\n").encode()
    files |= statements.beside(outcome.wheels)
    _write_files(staging, files)
    digests = {made.build.file: made.sha256 for made in outcome.wheels}
    digests |= {path: manifest.sha256(data) for path, data in files.items()}
    sums = manifest.render(digests).encode()
    comment = f"{outcome.project} {outcome.version}, set {outcome.patch_set.name}"
    _write_files(staging, {SUMS: sums} | ({SIGNATURE: signer.sign(sums, comment)} if signer else {}))


def pages(project: str, version: str, wheels: Sequence[Made]) -> dict[str, bytes]:
    """The index, PEP 503 in HTML and PEP 691 in JSON, by path; the wheels lie two folders above the project's page."""
    name = canonicalize_name(project)
    links = "\n".join(
        f'<a href="../../{quote(one.build.file)}#sha256={one.sha256}"'
        f' data-requires-python="{html.escape(one.requires_python)}">'
        f"{html.escape(one.build.file)}</a><br>"
        for one in wheels
    )
    detail = {
        "meta": {"api-version": "1.1"},
        "name": name,
        "versions": [version],
        "files": [
            {"filename": one.build.file, "url": f"../../{quote(one.build.file)}", "hashes": {"sha256": one.sha256}}
            | {"size": one.size, "requires-python": one.requires_python}
            for one in wheels
        ],
    }
    listing = {"meta": {"api-version": "1.1"}, "projects": [{"name": name}]}
    texts = {
        "simple/index.html": _PAGE.format(title="Simple index", links=f'<a href="{name}/">{name}</a>'),
        "simple/index.json": json.dumps(listing, indent=1) + "\n",
        f"simple/{name}/index.html": _PAGE.format(title=f"Links for {name}", links=links),
        f"simple/{name}/index.json": json.dumps(detail, indent=1) + "\n",
    }
    return {path: text.encode() for path, text in texts.items()}


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `place` when the block ends well; else `place` stays as it was. Raises
    UsageError where `place` is a link or a file; Locked where another run makes the same."""
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise UsageError(f"{place} is a link or a file, and would be replaced by a folder", hint="move it away")
    staging, old = place.with_name(f".{place.name}.staging"), place.with_name(f".{place.name}.old")
    with lock.hold(paths.build_dir(place.name) / ".wheels.lock"):
        made = not place.parent.exists()
        _recover(place, staging, old)
        try:
            staging.mkdir(parents=True)
            yield staging
            if place.exists():
                disk.step(f"set {place.name} aside")
                place.rename(old)
            disk.step(f"rename {staging.name}")
            staging.rename(place)
            disk.sync(place.parent)
        finally:
            _recover(place, staging, old)
            if made:
                with suppress(OSError):
                    place.parent.rmdir()  # goes only where nothing was made


def _write_files(root: Path, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        disk.make_folder((root / path).parent)
        disk.write(root / path, data, mode=0o644)


def _recover(place: Path, staging: Path, old: Path) -> None:
    """Takes back what a run that was cut off left: the earlier folder wins unless the new one is in place."""
    if old.exists() and not place.exists():
        old.rename(place)
    for leftover in (staging, old):
        shutil.rmtree(leftover, ignore_errors=True)


def show(outcome: WheelsResult, terminal: Terminal) -> None:
    rows = [(made.build.file, f"{made.size / 1e3:.0f}", made.sha256[:12]) for made in outcome.wheels]
    title = f"wheels of {outcome.patch_set.name} in {outcome.folder}"
    terminal.table(title, ("wheel", "kB", "sha256"), rows, right="kB")
    wanted = f"--find-links {outcome.folder} {outcome.project}=={outcome.version}"
    terminal.note(f"pip install --no-deps --no-index {wanted}")
    terminal.document({"folder": str(outcome.folder), **outcome.as_dict()})
