# SPDX-License-Identifier: Apache-2.0
"""The commits of a build tree: what its repository holds, and what an author has done there.

upstream    the release
<set>       on it the overlay's commit, then one a patch; checked out
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from patchset.node.errors import PatchDoesNotApply
from patchset.plan import commits
from patchset.plan.plan import Recipe
from patchset.sets.overlay import Overlay
from patchset.system import disk
from patchset.system.git import Repository

UPSTREAM = "upstream"
OVERLAY = "Install the overlay"  # the subject of its commit
SERIES = "refs/patchset/series"  # the commit that patches/<set> and overlay/ hold; what else HEAD has is the author's
_BEFORE = "refs/patchset/before"  # what the set's branch has named before it was made anew
_SCRATCH_INDEX = "patchset-index"
_COMMIT = re.compile(r"^([0-9a-f]{40})\n", re.MULTILINE)
_PLACE = re.compile(r"^(index|@@) .*\n", re.MULTILINE)


class Underway(Enum):
    """What git is in the middle of; the value is its command."""

    NOTHING = ""
    REBASE = "rebase"
    AM = "am"
    PICK = "cherry-pick"


def underway(root: Path) -> Underway:
    folder = root / ".git"
    if (folder / "rebase-apply" / "applying").is_file():
        return Underway.AM
    if (folder / "rebase-merge").is_dir() or (folder / "rebase-apply").is_dir():
        return Underway.REBASE
    if (folder / "CHERRY_PICK_HEAD").is_file() or (folder / "sequencer").is_dir():
        return Underway.PICK
    return Underway.NOTHING


@dataclass(frozen=True)
class Authored:
    """What an author has done in a build tree that patches/ does not hold, in words, and the next command."""

    what: str
    next: str


def authored(root: Path, set_name: str) -> Authored | None:
    """What an author has done in the build tree of a set, or None."""
    if not (root / ".git").is_dir():
        return None
    if (what := underway(root)) is not Underway.NOTHING:
        return Authored(f"a {what.value} is under way", f"git -C {root} {what.value} --continue, or --abort")
    repository = Repository(root)
    known, head = repository.ref(SERIES), repository.ref("HEAD")
    if known is None or head is None or head in (known, repository.ref(UPSTREAM)):
        return None
    count = int(repository.git("rev-list", "--count", f"{SERIES}..HEAD"))
    made = "a commit is" if count == 1 else f"{count} commits are"
    return Authored(f"{made} not in patches/" if count else "commits are dropped", f"patchset export {set_name}")


def stashed(root: Path) -> bool:
    """Whether git keeps changes of a build tree in its stash."""
    return (root / ".git").is_dir() and Repository(root).ref("refs/stash") is not None


def aside(root: Path) -> dict[str, int]:
    """How many commits that are nowhere else each branch of a build tree has which is not checked out, by its name.
    Exports leave branches behind at the commits that they have written anew. So a branch counts whose tree is none that
    the tool has ever made, and of it the commits whose change no commit of the tool's makes."""
    if not (root / ".git").is_dir():
        return {}
    repository = Repository(root)
    rows = repository.git("log", "--all", "--reflog", "--format=%H %T %cn <%ce>").splitlines()
    made = {row.split()[0]: row.split()[1] for row in rows if row.endswith(f" {commits.PERSON}")}
    places = repository.git("for-each-ref", "--format=%(HEAD)%(tree) %(refname)", "refs/heads", _BEFORE).splitlines()
    left = [place[1:].split(" ", 1) for place in places if place[0] != "*"]
    known = [name for name in (f"refs/heads/{UPSTREAM}", SERIES) if repository.ref(name)]
    theirs = {
        name.removeprefix("refs/heads/"): set(repository.git("rev-list", name, "--not", *known, "--remotes").split())
        for tree, name in left
        if tree not in made.values()
    }
    changes = _changes(repository, made.keys() | {one for new in theirs.values() for one in new}) if theirs else {}
    kept = {changes.get(one, "") for one in made}
    lost = {name: sum(changes.get(one) not in kept for one in new - made.keys()) for name, new in theirs.items()}
    return {name: count for name, count in lost.items() if count}


def _changes(repository: Repository, found: Iterable[str]) -> dict[str, str]:
    """What each commit changes, wherever in a file; none of a merge, nor of one that changes nothing."""
    stdin = "".join(f"{one}\n" for one in found).encode()
    said = repository.git("diff-tree", "--stdin", "-r", "--patch", "--binary", *commits.DIFF.split(), stdin=stdin)
    _, *rows = _COMMIT.split(said)
    return {one: _PLACE.sub("", text) for one, text in zip(rows[::2], rows[1::2], strict=True)}


@dataclass(frozen=True)
class Written:
    tip: str  # the last one
    # Content of each file that they change, None where it goes, and whether it may be run.
    files: Mapping[str, tuple[bytes | None, bool]]


def begin(root: Path, recipe: Recipe) -> str:
    """Makes the repository of a pristine tree, and patches that; its tip. Raises PatchDoesNotApply: git does not."""
    patch_set = recipe.patch_set
    repository = Repository(root)
    repository.init(patch_set.name)
    identity = commits.identity(patch_set)
    repository.git("add", "--all", "--force", ".")
    repository.commit_index(commits.upstream_message(patch_set), identity)
    modules = recipe.overlay.files
    if modules:
        for path, data in modules.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with disk.naming(file):
                file.write_bytes(data)
            file.chmod(0o644)
        repository.git("--literal-pathspecs", "add", "--force", "--", *modules)
        repository.commit_index(_overlay_message(recipe.overlay), identity)
    commits.am(repository, recipe.patches)
    made = repository.git("rev-list", "HEAD").split()
    tip, first = made[0], made[-1]
    if len(made) != (wanted := 1 + bool(modules) + len(recipe.patches)):
        text = f"git made {len(made)} commits of {wanted}"
        raise PatchDoesNotApply(text, patch="series", hint="make lint says more")
    refs = f"update {SERIES} {tip}\nupdate refs/heads/{UPSTREAM} {first}\n"
    repository.git("update-ref", "--stdin", stdin=refs.encode())
    return tip


def write(root: Path, recipe: Recipe, read: Callable[[str], bytes], paths: Collection[str]) -> Written:
    """Makes the commits in root/.git and points the two branches at them; no file of the work tree changes. Of the
    files of pristine upstream, `paths`, those that the set does not touch are read in the work tree. Raises
    PatchDoesNotApply: git does not apply a patch."""
    patch_set, name = recipe.patch_set, recipe.patch_set.name
    repository = Repository(root, _SCRATCH_INDEX)
    repository.init(name)
    index_file = root / ".git" / _SCRATCH_INDEX
    index_file.unlink(missing_ok=True)
    identity = commits.identity(patch_set)
    upstream = repository.ref(f"refs/heads/{UPSTREAM}")
    if upstream is None:
        touched = recipe.named | {path for path, row in patch_set.touched.items() if row.upstream and path in paths}
        present = [path for path in paths if (root / path).is_file() and path not in touched]
        repository.git("update-index", "--add", "-z", "--stdin", stdin="\0".join([*present, ""]).encode())
        before = {path: read(path) for path in touched}
        there = [path for path in before if (root / path).is_file()]
        repository.stage(before, frozenset(path for path in there if (root / path).stat().st_mode & 0o100))
        upstream = repository.commit(commits.upstream_message(patch_set), identity, None)
        repository.git("update-ref", f"refs/heads/{UPSTREAM}", upstream)
    base, modules = upstream, recipe.overlay.files
    if modules:
        repository.git("read-tree", upstream)
        repository.stage(modules)
        base = repository.commit(_overlay_message(recipe.overlay), identity, upstream)
    with commits.scratch(root / ".git" / "objects") as bench:
        made = commits.apply(bench, base, recipe.patches)
        blobs = commits.contents(bench, made)
    tip = made[-1].id if made else base
    files: dict[str, tuple[bytes | None, bool]] = {path: (data, False) for path, data in modules.items()}
    files |= {file.path: (blobs.get(file.after), file.executable) for commit in made for file in commit.files}
    before_tip = repository.ref(f"refs/heads/{name}")
    if before_tip and before_tip != tip:
        repository.git("update-ref", f"{_BEFORE}/{before_tip}", before_tip)  # a user's stay reachable
    both = f"update refs/heads/{name} {tip}\nupdate {SERIES} {tip}\n"
    repository.git("update-ref", "--stdin", stdin=both.encode())  # at once: one without the other is an author's work
    index_file.unlink(missing_ok=True)
    return Written(tip, files)


def point(root: Path, branch: str) -> None:
    """Makes a branch the one that is checked out, without touching a file; can be repeated."""
    repository = Repository(root)
    if repository.ref(f"refs/heads/{branch}") is None:
        return
    repository.git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
    repository.git("read-tree", "HEAD")
    repository.git("update-index", "-q", "--refresh")


def tip(root: Path, branch: str) -> str | None:
    """The commit that a branch of a build tree names, or None."""
    return Repository(root).ref(f"refs/heads/{branch}") if (root / ".git").is_dir() else None


def _overlay_message(overlay: Overlay) -> str:
    modules = "\n".join(f"  {path}" for path in sorted(overlay.files))
    replaced = "\n".join(f"  {row.path} {row.symbol}, by {row.module}" for row in overlay.replaces)
    return f"{OVERLAY}\n\nModules:\n{modules}\n" + (f"\nThey replace:\n{replaced}\n" if replaced else "")
