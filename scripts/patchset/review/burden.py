# SPDX-License-Identifier: Apache-2.0
"""How much there is to carry: patches and lines of a set in each commit of this repository that changed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchset.review import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from patchset.git import Repository
    from patchset.plan import Plan


@dataclass(frozen=True)
class Point:
    """The set in one commit.

    Attributes:
        commit: its id; empty for the work tree.
        date: day of the commit, ISO 8601; empty for the work tree.
        subject: of the commit.
        patches: how many there are.
        added, removed: lines with + and - in all of them.
        overlay: lines of the overlay that the set installs.
    """

    commit: str
    date: str
    subject: str
    patches: int
    added: int
    removed: int
    overlay: int

    @property
    def load(self) -> tuple[int, int, int, int]:
        return self.patches, self.added, self.removed, self.overlay


@dataclass(frozen=True)
class Burden:
    """The points, oldest first; `note` says what the history does not show, and may be empty."""

    points: tuple[Point, ...]
    note: str


def over_time(plan: Plan) -> Burden:
    """Counts the set in each commit, and as it is now."""
    now = Point(
        "",
        "",
        "the work tree",
        len(plan.steps),
        sum(step.patch.added for step in plan.steps),
        sum(step.patch.removed for step in plan.steps),
        plan.overlay.lines,
    )
    repository = snapshot.repository()
    if repository is None:
        return Burden((now,), "This is no git checkout, so there is no history to show.")
    points = _history(repository, plan.patch_set.name, plan.patch_set.package)
    if not points:
        return Burden((now,), "No commit of this repository has this set.")
    shallow = repository.git("rev-parse", "--is-shallow-repository").strip() == "true"
    note = "This checkout is shallow: older commits are not shown. `git fetch --unshallow` brings them." * shallow
    return Burden((*points, *([now] if now.load != points[-1].load else [])), note)


def _history(repository: Repository, name: str, package: str) -> tuple[Point, ...]:
    folders = (f"patches/{name}", "overlay/shared", f"overlay/{name}")
    if repository.ref("HEAD") is None:
        return ()
    log = repository.git("log", "--first-parent", "--reverse", "-z", "--format=%H%x09%cs%x09%s", "HEAD", "--", *folders)
    commits = [row.split("\t", 2) for row in log.split("\0") if row]
    listings = {commit: snapshot.listing(repository, commit, folders) for commit, _, _ in commits}
    chosen = {commit: (_patches(files), _modules(files, package)) for commit, files in listings.items()}
    contents = snapshot.blobs(repository, (blob for kinds in chosen.values() for blobs in kinds for blob in blobs))
    return tuple(
        _point(commit, date, subject, *chosen[commit], contents)
        for commit, date, subject in commits
        if f"patches/{name}/set.toml" in listings[commit]
    )


def _patches(files: Mapping[str, str]) -> list[str]:
    """The blobs of the patches."""
    return [blob for path, blob in files.items() if path.startswith("patches/") and path.endswith(".patch")]


def _modules(files: Mapping[str, str], package: str) -> list[str]:
    """The blobs of the modules that are installed: of two for one path, the set's own."""
    modules: dict[str, str] = {}
    for path, blob in files.items():  # git lists overlay/shared before overlay/v...
        inside = path.split("/", 2)[2]
        if path.startswith("overlay/") and inside.startswith(f"{package}/"):
            modules[inside] = blob
    return list(modules.values())


def _point(
    commit: str, date: str, subject: str, patches: list[str], modules: list[str], contents: Mapping[str, bytes]
) -> Point:
    lines = [_diff_lines(contents[blob]) for blob in patches]
    return Point(
        commit,
        date,
        subject,
        len(patches),
        sum(added for added, _ in lines),
        sum(removed for _, removed in lines),
        sum(contents[blob].count(b"\n") for blob in modules),
    )


def _diff_lines(data: bytes) -> tuple[int, int]:
    """Lines with + and - of a patch, read as loosely as a commit of any age needs."""
    lines = data.partition(b"\ndiff --git ")[2].split(b"\n")
    added = sum(line.startswith(b"+") and not line.startswith(b"+++ ") for line in lines)
    removed = sum(line.startswith(b"-") and not line.startswith(b"--- ") for line in lines)
    return added, removed
