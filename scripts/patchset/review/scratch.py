# SPDX-License-Identifier: Apache-2.0
"""A plan's commits in a repository that lives for one run and holds only the files that the plan changes."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from patchset import history
from patchset.git import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from patchset.plan import Plan

_DIFF = ("--no-color", "--no-ext-diff", "--no-textconv", "--full-index", "--no-renames", "--histogram")


@dataclass(frozen=True)
class Commits:
    """Upstream, and on it one commit for each patch and one for the overlay.

    Attributes:
        repository: where they are.
        upstream, patched, tip: the first commit, the one of the last patch, and the one of the overlay.
    """

    repository: Repository
    upstream: str
    patched: str
    tip: str

    def net_diff(self) -> str:
        """What all patches together do, as one diff."""
        return self.repository.git("diff", *_DIFF, self.upstream, self.patched)

    def changes(self) -> str:
        """The range that holds every commit but upstream's."""
        return f"{self.upstream}..{self.tip}"


@contextmanager
def commits(plan: Plan) -> Iterator[Commits]:
    """Makes the commits; they go when the block ends.

    Raises:
        PatchDoesNotApply: git makes something else of a patch than the plan does.
    """
    with tempfile.TemporaryDirectory(prefix="patchset-review-") as folder:
        root = Path(folder)
        tip = history.write(root, plan, ())
        upstream = history.tip(root, history.UPSTREAM)
        assert upstream is not None  # write() has just made it
        repository = Repository(root)
        patched = repository.git("rev-parse", f"{tip}^").strip() if plan.overlay.files else tip
        yield Commits(repository, upstream, patched, tip)
