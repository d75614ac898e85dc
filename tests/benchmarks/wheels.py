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
import statistics
import subprocess
import sys
import time
from pathlib import Path

from patchset import cache, paths, series
from patchset.setfile import PatchSet, load_set

PAIRS = 7
SIDES = ("baseline", "ours")
BIN = Path(sys.executable).parent


def command(words: list[str | Path], folder: Path, **environ: str) -> tuple[float, float]:
    """Runs a command as from a shell, bytecode caches included: seconds, and the peak of its resident memory in MB."""
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in words], env=usual | environ, cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def ours(patch_set: PatchSet, root: Path) -> tuple[float, float]:
    """`patchset wheels` in a repository of its own, so that dist/ is left alone."""
    words = [BIN / "patchset", "wheels", patch_set.name, "--offline"]
    return command(words, root, PATCHSET_ROOT=str(root))


def by_hand(patch_set: PatchSet, root: Path) -> tuple[float, float]:
    """The same with pypa/wheel and GNU patch."""
    scratch = root / "by-hand"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    seconds, peak = 0.0, 0.0

    def step(*words: str | Path, folder: Path = scratch) -> None:
        nonlocal seconds, peak
        took, used = command(list(words), folder)
        seconds, peak = seconds + took, max(peak, used)

    for pin in patch_set.ascend.wheels:
        step(BIN / "wheel", "unpack", cache.location(pin))
        tree = scratch / f"{patch_set.package}-{patch_set.ascend.version}"
        for patch in series.load(patch_set.folder):
            file = patch_set.folder / patch.name
            step("patch", "--strip=1", "--fuzz=0", "--quiet", "--no-backup-if-mismatch", "-i", file, folder=tree)
        begin = time.perf_counter()
        for overlay in filter(Path.is_dir, paths.overlay_dirs(patch_set.name)):
            package = overlay / patch_set.package
            if package.is_dir():
                shutil.copytree(package, tree / patch_set.package, dirs_exist_ok=True)
        seconds += time.perf_counter() - begin
        step(BIN / "wheel", "pack", "--local-version", "dp.1", tree)
        shutil.rmtree(tree)
    return seconds, peak


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
    ratios = [mine[0] / theirs[0] for theirs, mine in pairs]
    first, _, third = statistics.quantiles(ratios, n=4)
    seconds = {side: statistics.median(pair[at][0] for pair in pairs) for at, side in enumerate(SIDES)}
    megabytes = {side: max(pair[at][1] for pair in pairs) for at, side in enumerate(SIDES)}
    document = {
        "seconds": seconds | {"ratio": statistics.median(ratios), "quartiles": [first, third]},
        "megabytes": megabytes,
    }
    given.out.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
