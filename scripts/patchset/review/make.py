# SPDX-License-Identifier: Apache-2.0
"""`patchset review`: everything is read, checked and rendered before the first byte is written."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchset.node.errors import PatchDoesNotApply
from patchset.plan import plan
from patchset.review import against, markdown, page, rangediff, review
from patchset.review.review import Review
from patchset.sets.setfile import PatchSet
from patchset.system import disk, paths
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import Source

_MOST_LINES = 50_000  # lines with + or -, and of the overlay: beyond, nobody reads it and no browser shows it quickly


@dataclass(frozen=True)
class ReviewResult:
    """The two files and what they show."""

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
    """Writes build/<set>/review/index.html and review.md; `asked` is what to compare with: see `against.opened`. Raises
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
            label, other = stack.enter_context(against.opened(asked, patch_set, source, terminal, offline=offline))
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
