# SPDX-License-Identifier: Apache-2.0
"""A plan's commits in a repository that lives for one run and holds only the files that the plan changes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from patchset.plan import history
from patchset.plan.plan import Plan
from patchset.system.git import Repository

_DIFF = ("--no-color", "--no-ext-diff", "--no-textconv", "--full-index", "--no-renames", "--histogram")


@dataclass(frozen=True)
class Commits:
    """Upstream, on it the overlay, and then one commit for each patch."""

    repository: Repository  # where they are
    # The first commit, the one of the overlay (the first, where there is none), the last.
    upstream: str
    overlay: str
    tip: str
    names: tuple[str, ...]  # the patches' file names, in the order of their commits

    def net_diff(self) -> str:
        """What all patches together do, as one diff."""
        return self.repository.git("diff", *_DIFF, self.overlay, self.tip)

    def patches(self) -> str:
        """The range of the patches."""
        return f"{self.overlay}..{self.tip}"

    def modules(self) -> str:
        """The range of the overlay's commit."""
        return f"{self.upstream}..{self.overlay}"


@contextmanager
def commits(plan: Plan) -> Iterator[Commits]:
    """Makes the commits; they go when the block ends.

    Raises:
        PatchDoesNotApply: git does not apply a patch.
    """
    with tempfile.TemporaryDirectory(prefix="patchset-review-") as folder:
        root = Path(folder)
        tip = history.write(root, plan.recipe, plan.upstream.__getitem__, ()).tip
        repository = Repository(root)
        upstream = str(repository.ref(history.UPSTREAM))
        overlay = repository.git("rev-parse", f"{tip}~{len(plan.recipe.patches)}").strip()
        yield Commits(repository, upstream, overlay, tip, tuple(patch.name for patch in plan.recipe.patches))
