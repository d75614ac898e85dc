# SPDX-License-Identifier: Apache-2.0
"""Six patched wheels: `patchset wheels` against `wheel unpack`, `patch` and `wheel pack` on the same six.

``python wheels.py --set v0.10.1.1 --work DIR --out FILE`` with the tool's Python, whose environment has `wheel`. Both
sides start as commands from a shell would, with the published wheels in the download cache, and write into ``--work``.
The other side does only what it must: unpack, apply each patch of the series, copy the overlay, pack with the local
version; no digest is checked, no index made. The sides alternate; each pair of runs gives one ratio.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from patchset.sets import series
from patchset.sets.setfile import PatchSet, load_set
from patchset.system import paths
from patchset.upstream import cache
from selftest.bench.pairs import compared

PAIRS = 6
MEMORY = (
    "One process patches the wheels in memory, in a third of the time, where the other side's processes hold one file "
    "each; and it writes an SBOM, whose library alone takes 9 MB."
)
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cost:
    """Of one or more commands, one after the other.

    Attributes:
        elapsed, processor: seconds.
        memory: peak of a process's resident memory, in MB.
    """

    elapsed: float = 0.0
    processor: float = 0.0
    memory: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.elapsed + other.elapsed, self.processor + other.processor, max(self.memory, other.memory))


def command(words: list[str | Path], folder: Path, **environ: str) -> Cost:
    """What a command costs that runs as from a shell, with bytecode caches."""
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in words], env=usual | environ, cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return Cost(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def ours(patch_set: PatchSet, root: Path) -> Cost:
    """`patchset wheels` in a repository of its own, so that dist/ is left alone."""
    return command([BIN / "patchset", "wheels", patch_set.name, "--offline"], root, PATCHSET_ROOT=str(root))


def by_hand(patch_set: PatchSet, root: Path) -> Cost:
    """The same with pypa/wheel, GNU patch and cp."""
    scratch = root / "by-hand"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    cost = Cost()
    for pin in patch_set.ascend.wheels:
        cost += command([BIN / "wheel", "unpack", cache.location(pin)], scratch)
        tree = scratch / f"{patch_set.package}-{patch_set.ascend.version}"
        for patch in series.load(patch_set.folder):
            options = ["--strip=1", "--fuzz=0", "--quiet", "--no-backup-if-mismatch"]
            cost += command(["patch", *options, "-i", patch_set.folder / patch.name], tree)
        for overlay in paths.overlay_dirs(patch_set.name):
            if (overlay / patch_set.package).is_dir():
                cost += command(["cp", "-r", overlay / patch_set.package, tree], scratch)
        cost += command([BIN / "wheel", "pack", "--local-version", "dp.1", tree], scratch)
        shutil.rmtree(tree)
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    patch_set = load_set(given.set)
    for pin in patch_set.ascend.wheels:
        cache.fetch(pin, offline=False)
    root = given.work / "wheels-root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name in ("patches", "overlay", "tests"):
        (root / name).symlink_to(paths.repo_root() / name)
    by_hand(patch_set, root)  # warms bytecode and the page cache
    ours(patch_set, root)
    pairs = [(by_hand(patch_set, root), ours(patch_set, root)) for _ in range(PAIRS)]
    names = {"elapsed": "elapsed (s)", "processor": "CPU time (s)", "memory": "peak memory of a process (MB)"}
    against = "wheel unpack, patch, wheel pack"
    rows = [
        compared(
            "The tool",
            f"six wheels, {name}",
            against,
            [(getattr(one, key), getattr(two, key)) for one, two in pairs],
            1.0,
            MEMORY if key == "memory" else "",
        )
        for key, name in names.items()
    ]
    given.out.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
