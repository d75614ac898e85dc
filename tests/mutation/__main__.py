# SPDX-License-Identifier: Apache-2.0
"""``PYTHONPATH=tests python -m mutation [--jobs N] [PART ...]``: run mutmut on each part, then say what survived."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import tomlkit

from mutation import mutants, parts, report
from patchset.errors import Findings, PatchsetError
from patchset.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mutation.parts import Part

_MEMORY = 4 << 30  # bytes of address space of a process: some mutants never stop appending
_NEVER_CUT_SHORT = 5.0  # seconds that a mutant has beyond what its tests take


def main() -> int:
    """The exit code: 0 where the tests notice what they must, 1 where not."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time (default: all cores)")
    parser.add_argument("parts", metavar="PART", nargs="*", help="a part of parts.toml (default: all)")
    arguments = parser.parse_args()
    terminal = Terminal()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        run(Path(__file__).resolve().parents[2], arguments.parts, arguments.jobs, terminal)
    except PatchsetError as error:
        terminal.error(error)
        return error.exit_code
    return 0


def run(root: Path, names: Sequence[str], jobs: int, terminal: Terminal) -> None:
    """Mutates each part in build/mutate/<part>.

    Args:
        root: the repository.
        names: of parts; none for all.
        jobs: how many mutants are tried at a time.
        terminal: where progress and the report go.

    Raises:
        UsageError: there is no such part.
        Findings: the tests of a part do not pass, or do not notice what they must.
    """
    chosen = parts.load(root / "tests" / "mutation" / "parts.toml").chosen(names)
    modules: list[report.Module] = []
    for part in chosen.parts:
        place = root / "build" / "mutate" / part.name
        prepare(part, root, place)
        mutate(part, place, jobs, terminal)
        modules += [report.Module(name, mutants.read(place, name), lowest) for name, lowest in part.lowest.items()]
    report.show(modules, chosen.explained, terminal)


def prepare(part: Part, root: Path, place: Path) -> None:
    """Lays the tool, its tests and mutmut's settings out as mutmut wants them."""
    shutil.rmtree(place, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "scripts" / "patchset", place / "src" / "patchset", ignore=ignored)
    shutil.copytree(root / "tests" / "unit", place / "tests" / "unit", ignore=ignored)
    mutmut = {
        "source_paths": ["src"],
        "only_mutate": [f"src/patchset/{name.replace('.', '/')}.py" for name in part.lowest],
        "pytest_add_cli_args_test_selection": [f"tests/unit/{test}" for test in part.tests],
        # The same examples for each mutant.
        "pytest_add_cli_args": ["--hypothesis-seed=0", "-p", "no:cacheprovider", "-p", "no:xdist"],
        "timeout_constant": _NEVER_CUT_SHORT,
        "timeout_multiplier": 2.0,
        "use_git_change_detection": False,
    }
    pytest = {"ini_options": {"filterwarnings": ["error"], "timeout": 120}}
    (place / "pyproject.toml").write_text(tomlkit.dumps({"tool": {"mutmut": mutmut, "pytest": pytest}}))


def mutate(part: Part, place: Path, jobs: int, terminal: Terminal) -> None:
    """Runs mutmut, whose spinner goes to a log.

    Raises:
        Findings: it did not get to the mutants.
    """
    log = place / "mutmut.log"
    label = f"mutating {', '.join(part.lowest)}; {log} tells more"
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(jobs)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    begin = time.monotonic()
    with log.open("w") as output, terminal.progress(label, 0):
        done = subprocess.run(
            command, cwd=place, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        raise Findings(f"mutmut ended with {done.returncode} on the {part.name}", hint=f"read {log}")
    terminal.step(f"{part.name}: {(time.monotonic() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    sys.exit(main())
