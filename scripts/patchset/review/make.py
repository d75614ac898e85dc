# SPDX-License-Identifier: Apache-2.0
"""`patchset review`: everything is read, checked and rendered before the first byte is written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchset.node.errors import PatchDoesNotApply, PatchsetError, UsageError
from patchset.plan import plan
from patchset.plan.plan import Plan
from patchset.review import markdown, page, rangediff, review
from patchset.review.review import Review
from patchset.sets import setfile
from patchset.sets.setfile import PatchSet
from patchset.system import disk, paths
from patchset.system.git import Repository
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import Source

_MOST_LINES = 50_000  # lines with + or -, and of the overlay: beyond, nobody reads it and no browser shows it quickly


@dataclass(frozen=True)
class ReviewResult:
    review: Review
    html: Path
    markdown: Path

    def as_dict(self) -> dict[str, Any]:
        shown = self.review
        ranges = shown.ranges and {
            "against": shown.ranges.against,
            "patches": {fate.value: number for fate, number in shown.ranges.count().items()},
        }
        return {
            "set": shown.plan.patch_set.name,
            "html": str(self.html),
            "markdown": str(self.markdown),
            "patches": len(shown.patches),
            "files": len(shown.net),
            "added": shown.added,
            "removed": shown.removed,
            "overlay_modules": len(shown.modules),
            "overlay_lines": shown.plan.overlay.lines,
            "defects": {"rows": len(shown.proof.rows), "proven": shown.proof.proven, "note": shown.proof.note},
            "range_diff": ranges,
        }


def run(patch_set: PatchSet, source: Source, asked: str | None, terminal: Terminal, *, offline: bool) -> ReviewResult:
    """Writes build/<set>/review/index.html and review.md; `asked` is what to compare with: see `_series`. Raises
    PatchDoesNotApply: a patch is malformed, too large or does not fit; UsageError: there is nothing to compare with by
    that name; PatchsetError: upstream could not be had."""
    made = plan.make(patch_set, source.read)
    lines = {step.patch.name: step.patch.added + step.patch.removed for step in made.steps}
    lines |= {path: data.count(b"\n") for path, data in made.overlay.files.items()}
    if (count := sum(lines.values())) > _MOST_LINES:
        name = max(lines, key=lambda name: lines[name])
        what = f"the set has {count:,} lines, {lines[name]:,} of them in {name}; a review shows at most {_MOST_LINES:,}"
        raise PatchDoesNotApply(what, patch=name, hint="split the set, or keep data out of it")
    with ExitStack() as stack:
        commits = stack.enter_context(rangediff.commits(made))
        ranges = None
        if asked:
            terminal.step(f"comparing with {asked}")
            label, other = stack.enter_context(_series(asked, patch_set, source, terminal, offline=offline))
            before = stack.enter_context(rangediff.commits(other))
            ranges = rangediff.compare(before, commits, label)
        shown = review.review(made, source.read, commits, ranges)
    terminal.step("writing the page")
    html, text = page.render(shown), markdown.render(shown)
    if len(text) > markdown.GITHUB:
        terminal.warn(f"review.md has {len(text):,} characters; a pull request on GitHub takes {markdown.GITHUB:,}")
    folder = paths.build_dir(patch_set.name) / "review"
    outcome = ReviewResult(shown, folder / "index.html", folder / "review.md")
    disk.make_folder(folder)
    disk.write(outcome.html, html.encode(), mode=0o644)
    disk.write(outcome.markdown, text.encode(), mode=0o644)
    return outcome


@contextmanager
def _series(
    asked: str, patch_set: PatchSet, source: Source, terminal: Terminal, *, offline: bool
) -> Iterator[tuple[str, Plan]]:
    """The other series: what it is, in words, and its plan. `asked` is a set's name, its folder, or a ref of this
    repository, tried in this order. `source` is the upstream of what is reviewed, and serves the other series too where
    that has the same pin. Raises UsageError: there is no such series; PatchsetError: it cannot be read or does not
    apply; the message says whose patch it is."""
    with tempfile.TemporaryDirectory(prefix="patchset-against-") as folder:
        scratch = Path(folder)
        label, other = _find(asked, patch_set, scratch)
        if other.ascend.sdist != patch_set.ascend.sdist:
            source = Source(other, offline=offline, terminal=terminal, place=scratch / "pristine")
        try:
            made = plan.follow(plan.load(other), source.read)
        except PatchsetError as error:
            error.message = f"{label}: {error.message}"
            error.hint = "choose another AGAINST, or mend that series"
            raise
        yield label, made


def _find(asked: str, patch_set: PatchSet, scratch: Path) -> tuple[str, PatchSet]:
    if setfile.named(asked):
        found = setfile.load_set(asked)
        return f"set {found.name}", found
    folder = Path(asked).expanduser()
    if (folder / "set.toml").is_file():
        folder = folder.resolve()
        if folder.parent.name != "patches":
            raise UsageError(f"{folder} does not lie in a patches/ folder", hint="name REPOSITORY/patches/SET")
        return f"set {folder}", setfile.read(folder)
    return _at_ref(asked, patch_set.name, scratch)


def _at_ref(ref: str, name: str, scratch: Path) -> tuple[str, PatchSet]:
    """The set as it was in a commit, written into a scratch folder."""
    repository = Repository(paths.repo_root())
    if not repository.folder.exists():
        hint = f"a git ref works where {repository.root} is a git checkout"
        raise UsageError(f"{ref!r} is neither a set in patches/ nor a folder with a set.toml", hint=hint)
    commit = None if ref.startswith("-") else repository.ref(ref)
    if commit is None:
        what = f"{ref!r} is neither a set in patches/, nor a folder with a set.toml, nor a commit of this repository"
        raise UsageError(what, hint="git log --oneline -- patches/ lists the commits that changed a set")
    files = repository.files(commit, f"patches/{name}", "overlay")
    if f"patches/{name}/set.toml" not in files:
        raise UsageError(f"{ref} ({commit[:12]}) has no set {name}", hint="git log --oneline -- patches/ lists others")
    contents = repository.blobs(files.values())
    for path, blob in files.items():
        file = scratch / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents[blob])
    return f"{name} at {ref} ({commit[:12]})", setfile.read(scratch / "patches" / name)
