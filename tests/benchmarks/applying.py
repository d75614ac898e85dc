# SPDX-License-Identifier: Apache-2.0
"""Applying a set: `patchset apply` against `quilt push -a` and `git am` on the same series and tree; and how it grows.

``python applying.py --set v0.10.1.1 --work DIR --out FILE`` with the tool's Python. Every side starts as a command from
a shell would, on a tree that is ready, in the page cache and on the disk; making it ready is not timed. The others
only patch and copy the overlay: no digest is checked, nothing is read back, nothing could be taken up again after a
crash. The sides alternate; each round gives one ratio.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from patchset.sets import series
from patchset.sets.header import MBOX
from patchset.sets.setfile import PatchSet, load_set
from patchset.system import paths
from patchset.system.git import blob_id
from patchset.upstream import cache
from patchset.upstream.pristine import materialize
from selftest.bench.pairs import Pair, Row, compared

QUESTION = "The tool"
ROUNDS, LEAST_ROUNDS = 9, 6
ROUNDS_OF_GROWTH = 6
APPLY_S, STATUS_S, FIRST_CONTACT_S = 1.5, 0.2, 60.0  # what each may take
SIZES = ((50, 1250), (200, 5000))
"""Patches and files of the sets that growth is measured on."""
BIN = Path(sys.executable).parent
ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{key}": "bench" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")},
    # No collection of garbage in the background while the next command is timed.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "gc.auto",
    "GIT_CONFIG_VALUE_0": "0",
    "QUILT_PATCHES": "patches",
}
SLOW = (
    "To start Python and load the tool takes longer than `git am` of a set's patches; then come the digests before and "
    "after, and the flushes to the disk that let an interrupted run be taken up."
)
GROWS = (
    "What apply of 50 patches takes longer than `git am` is its start, as that of `status`: each patch beyond these "
    "takes no longer."
)
COMMIT = (("git", "init", "-q"), ("git", "add", "-A", "-f"), ("git", "commit", "-qm", "upstream"))

MESSAGE = """\
From: Bench <bench@example.invalid>
Date: Mon, 2 Nov 2026 10:00:00 +0000
Subject: Change {}

Why: so.

How: so.

Resolves: D1
Origin: vendor
Upstream-Status: Pending
Removal-Plan: never

"""


def timed(*commands: tuple[str, ...], folder: Path, code: int = 0) -> float:
    """Seconds that commands take, one after the other, once what was written before is on the disk.

    ``code`` is the exit code of each.
    """
    os.sync()
    begin = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, cwd=folder, env=ENVIRON, capture_output=True, check=False)
        if done.returncode != code:
            raise SystemExit(f"{' '.join(command)}: {done.stdout.decode()}{done.stderr.decode()}")
    return time.perf_counter() - begin


@dataclass(frozen=True)
class Bench:
    """A set, and a folder to patch its upstream in.

    Attributes:
        patch_set: the set.
        root: the repository that it is in, with a build/ of its own.
        pristine: its upstream.
        work: where the trees are made.
    """

    patch_set: PatchSet
    root: Path
    pristine: Path
    work: Path

    def tree(self) -> Path:
        """A fresh copy of upstream."""
        tree = self.work / "tree"
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.pristine, tree)
        return tree

    def files(self) -> list[str]:
        return [str(self.patch_set.folder / patch.name) for patch in series.load(self.patch_set.folder)]

    def overlay(self, tree: Path) -> tuple[tuple[str, ...], ...]:
        """The commands that copy the overlay."""
        folders = [folder / self.patch_set.package for folder in paths.overlay_dirs(self.patch_set.name, self.root)]
        return tuple(("cp", "-r", str(folder), str(tree)) for folder in folders if folder.is_dir())

    def ours(self, *words: str) -> float:
        command = (str(BIN / "patchset"), words[0], self.patch_set.name, *words[1:])
        code = 1 if words[0] == "apply" else 0  # the tree is not smoke-tested
        return timed(("env", f"PATCHSET_ROOT={self.root}", *command), folder=self.root, code=code)

    def quilt(self) -> float:
        tree = self.tree()
        (tree / "patches").mkdir()
        for file in (*self.files(), self.patch_set.folder / "series"):
            shutil.copy(file, tree / "patches")
        return timed(("quilt", "push", "-aq"), *self.overlay(tree), folder=tree)

    def git_am(self) -> float:
        tree = self.tree()
        timed(*COMMIT, folder=tree)
        return timed(("git", "am", "-q", *self.files()), *self.overlay(tree), folder=tree)

    def in_place(self) -> float:
        self.no_build_tree()  # of which apply would copy the files
        return self.ours("apply", "--target", str(self.tree()), "--offline", "--no-smoke")

    def by_hand(self) -> float:
        """What the build tree is, made with cp and git: upstream's commit and one for each patch."""
        tree = self.work / "tree"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        copied = timed(("cp", "-r", str(self.pristine), str(tree)), folder=self.work)
        return copied + timed(*COMMIT, ("git", "am", "-q", *self.files()), *self.overlay(tree), folder=tree)

    def no_build_tree(self) -> None:
        for name in ("vllm-ascend", ".vllm-ascend.patchset"):
            shutil.rmtree(self.root / "build" / self.patch_set.name / name, ignore_errors=True)

    def build_tree(self) -> float:
        self.no_build_tree()
        return self.ours("apply", "--offline", "--no-smoke")


def of_the_set(bench: Bench, rounds: int) -> list[Row]:
    """Each command on the set's own series and tree."""
    for warm in (bench.quilt, bench.git_am, bench.in_place, bench.by_hand, bench.build_tree):
        warm()
    taken = [
        {
            "git am": bench.git_am(),
            "quilt push -a": bench.quilt(),
            "in place": bench.in_place(),
            "cp, git init, commit, am": bench.by_hand(),
            "build tree": bench.build_tree(),
            "status": bench.ours("status"),
        }
        for _ in range(rounds)
    ]
    row = partial(_row, taken)
    return [
        row("apply in place (s)", "git am", "in place", 1.0, SLOW),
        row("apply in place (s)", "quilt push -a", "in place", 1.0, SLOW),
        row("apply in place (s)", APPLY_S, "in place", 1.0),
        row("apply to a new build tree (s)", "cp, git init, commit, am", "build tree", 1.0, SLOW),
        row("status (s)", STATUS_S, "status", 1.0),
    ]


def _row(taken: list[dict[str, float]], name: str, baseline: str | float, ours: str, *target: Any) -> Row:
    """``baseline`` is a side of the rounds, or seconds that it may take."""
    against = baseline if isinstance(baseline, str) else "what it may take"
    pairs = [(one[baseline] if isinstance(baseline, str) else baseline, one[ours]) for one in taken]
    return compared(QUESTION, name, against, pairs, *target)


def growth(work: Path) -> list[Row]:
    """Sets of more and more patches and files."""
    benches = [made_up(work / f"{count}", count, files) for count, files in SIZES]
    rounds = [[(bench.git_am(), bench.in_place()) for bench in benches] for _ in range(ROUNDS_OF_GROWTH)]
    found = [
        compared(
            QUESTION,
            f"apply {patches} patches on {files:,} files (s)",
            "git am",
            [one[at] for one in rounds],
            1.0,
            GROWS,
        )
        for at, (patches, files) in enumerate(SIZES)
    ]
    (few, files), (most, many) = SIZES[0], SIZES[-1]
    pairs = [(most / few * one[0][1], one[-1][1]) for one in rounds]
    against = f"{most / few:g} times {few} on {files:,}"
    return [*found, compared(QUESTION, f"apply {most} patches on {many:,} files (s)", against, pairs, 1.0)]


def first_contact(work: Path, name: str) -> Row:
    """A clone of this repository, and the first command in it, with warm caches: it makes .venv and the tree."""
    clone = work / "clone"
    unset = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHONPATH"}
    bare = ("env", *(word for key in sorted(unset) for word in ("-u", key)))
    make = ("make", "-s", "-C", str(clone), "apply", f"VERSION={name}", "SMOKE=0", "OFFLINE=1")

    def once() -> Pair:
        shutil.rmtree(clone, ignore_errors=True)
        took = timed(("git", "clone", "-q", str(paths.repo_root()), str(clone)), folder=work)
        return FIRST_CONTACT_S, took + timed((*bare, *make), folder=work, code=2)  # it was not smoke-tested

    pairs = [once() for _ in range(LEAST_ROUNDS)]
    return compared(QUESTION, "first contact: clone, make apply SMOKE=0 (s)", "what it may take", pairs, 1.0)


def made_up(root: Path, patches: int, files: int) -> Bench:
    """A set of so many patches, each of two files, on an upstream of so many files of 200 lines."""
    shutil.rmtree(root, ignore_errors=True)
    name, package = "v9.9.9", "big"
    folder, pristine = root / "patches" / name, root / "big-1"
    (root / "overlay" / "shared").mkdir(parents=True)
    folder.mkdir(parents=True)
    lines = {at: [f"value_{at}_{line} = {line}\n" for line in range(200)] for at in range(files)}
    location = {at: f"{package}/part_{at % 50}/module_{at}.py" for at in range(files)}
    for at, text in lines.items():
        file = pristine / location[at]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(text))
    manifest = "".join(
        f"{hashlib.sha256((pristine / path).read_bytes()).hexdigest()}  {path}\n" for path in sorted(location.values())
    )
    (folder / "upstream.sha256").write_text(manifest)
    names = [f"{number:04}-change.patch" for number in range(1, patches + 1)]
    for number, patch in enumerate(names):
        edited = sorted((number % 16, 16 + number), key=location.__getitem__)  # as git orders files
        diffs = [_edit(location[at], lines[at], 5 + number // 8 * 7) for at in edited]
        (folder / patch).write_text(MBOX + MESSAGE.format(number) + "".join(diffs))
    (folder / "series").write_text("".join(f"{patch}\n" for patch in names))
    sdist = root / "big-1.tar.gz"
    with tarfile.open(sdist, "w:gz", compresslevel=1) as tar:
        tar.add(pristine, "big-1")
    sha = hashlib.sha256(sdist.read_bytes()).hexdigest()
    none = "0" * 64
    (folder / "set.toml").write_text(
        f'format = 1\n[vllm]\nversion = "9.9.9"\n[vllm.sdist]\nfile = "vllm-9.9.9.tar.gz"\nsha256 = "{none}"\n'
        f'[ascend]\nversion = "1"\npackage = "{package}"\ngenerated = []\n[ascend.sdist]\nfile = "{sdist.name}"\n'
        f'sha256 = "{sha}"\n[runtime]\ntorch = "1"\ntorch_npu = "1"\ncann = "1"\npython = ">=3.9"\n'
        f'[upstream]\nmanifest = "{hashlib.sha256(manifest.encode()).hexdigest()}"\n'
        '[result]\ntree = ""\n[result.files]\n'
    )
    timed(("env", f"PATCHSET_ROOT={root}", str(BIN / "patchset"), "pin", name, "--upstream", str(sdist)), folder=root)
    os.environ["PATCHSET_ROOT"] = str(root)
    try:
        return Bench(load_set(name), root, pristine, root / "work")
    finally:
        del os.environ["PATCHSET_ROOT"]


def _edit(path: str, lines: list[str], at: int) -> str:
    """A diff that changes one line of a file, whose lines are then so."""
    was, before = lines[at], blob_id("".join(lines).encode())
    lines[at] = f"{was.rstrip()} + 1\n"
    around = [f" {line}" for line in lines[at - 3 : at]], [f" {line}" for line in lines[at + 1 : at + 4]]
    hunk = "".join([*around[0], f"-{was}", f"+{lines[at]}", *around[1]])
    index = f"index {before}..{blob_id(''.join(lines).encode())} 100644"
    head = f"diff --git a/{path} b/{path}\n{index}\n--- a/{path}\n+++ b/{path}\n"
    return f"{head}@@ -{at - 2},7 +{at - 2},7 @@ {lines[at - 4].rstrip()}\n{hunk}"  # as git heads a hunk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fast", action="store_true", help="fewer rounds, no growth and no clones")
    given = parser.parse_args()
    patch_set = load_set(given.set)
    root = given.work / "applying"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name in ("patches", "overlay"):
        (root / name).symlink_to(paths.repo_root() / name)
    cache.fetch(patch_set.ascend.sdist, offline=False)
    pristine = root / "build" / patch_set.name / "pristine"
    materialize(patch_set, pristine)
    bench = Bench(patch_set, root, pristine, root / "work")
    rows = of_the_set(bench, LEAST_ROUNDS if given.fast else ROUNDS)
    if not given.fast:
        rows += [first_contact(given.work, patch_set.name), *growth(root / "growth")]
    notes = ["First contact with cold caches hangs on the line to the index: it is not measured."]
    given.out.write_text(json.dumps({"rows": [asdict(row) for row in rows], "notes": notes}, indent=1))


if __name__ == "__main__":
    main()
