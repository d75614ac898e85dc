# SPDX-License-Identifier: Apache-2.0
"""Proves what it can about one tree: ``main.py MODEL --schedules N --seed S --out FILE``.

MODEL is "patched", "pristine" or "mutants" (the patched tree, broken on purpose), and must be the tree on PYTHONPATH.
Writes one JSON document, and a line ``done N`` to stdout as schedules are done. The same seed, code and number of
schedules give the same document, whatever the number of workers.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

# Before vLLM configures its own: a run makes a warning for every refused deployment.
logging.disable(logging.WARNING)

from simulation import family  # noqa: E402
from simulation.checker import Finding  # noqa: E402
from simulation.coverage import Coverage  # noqa: E402
from simulation.schedule import Schedule  # noqa: E402
from simulation.search import Violation, search  # noqa: E402

# Schedules of one search: hypothesis remembers each, to draw none twice.
CHUNK = 1000
# Schedules of one mutant that the watchdog's verdict is held against.
JUDGED = 100


def chunk(task: tuple[str, int, int]) -> tuple[dict[str, Any], dict[str, Any] | None, int]:
    """Checks one chunk of schedules: counts, a violation if there is one, schedules drawn."""
    model, count, seed = task
    make = family.module(model).make
    coverage = Coverage()
    from simulation.detector import Detector  # the overlay's, which the pristine tree has not

    found = search(make, count, seed, seen=coverage.add, watch=Detector)
    return coverage.groups, found.violation and as_json(found.violation), found.drawn


def as_json(one: Violation) -> dict[str, Any]:
    """A violation."""
    finding, schedule = one.finding, one.schedule
    return {
        "invariant": finding.invariant.value,
        "step": finding.step,
        "what": finding.what,
        "ranks": schedule.deployment.dp,
        "steps": len(schedule.steps),
        "schedule": schedule.lines(),
        "after": one.after,
    }


def patched(schedules: int, seed: int, workers: int) -> dict[str, Any]:
    """Every schedule, until one shows a violation."""
    sizes = [min(CHUNK, schedules - start) for start in range(0, schedules, CHUNK)]
    # Chunks of one seed do not meet those of its neighbours.
    tasks = [("patched", size, seed * 1_000_003 + number) for number, size in enumerate(sizes)]
    coverage, violations, drawn = Coverage(), [], 0
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for groups, found, count in pool.imap(chunk, tasks):
            coverage.merge(groups)
            drawn += count
            progress(drawn)
            if found is not None:
                violations.append(found)
                break
    return {"schedules": drawn, "coverage": coverage.groups, "violations": violations}


def pristine(schedules: int, seed: int, workers: int) -> dict[str, Any]:
    """One violation for each defect that the schedules show, and one for each cause that is no known defect."""
    make, defect_of = family.module("pristine").make, family.module("defects").defect_of

    def cause(finding: Finding, schedule: Schedule) -> Any:
        return defect_of(finding, schedule.deployment) or finding.key

    found: dict[Any, dict[str, Any]] = {}
    drawn = 0
    while True:
        one = search(make, schedules, seed + len(found), lambda *what: cause(*what) in found)
        drawn += one.drawn
        progress(drawn)
        if one.violation is None:
            return {"schedules": drawn, "violations": list(found.values())}
        name = defect_of(one.violation.finding, one.violation.schedule.deployment)
        found[cause(one.violation.finding, one.violation.schedule)] = as_json(one.violation) | {"defect": name}


def mutant(task: tuple[int, int, int]) -> dict[str, Any]:
    """Looks for one mutant, and at what the watchdog makes of the waits to which it leads."""
    from simulation.detector import Detector, wrong_verdict

    number, schedules, seed = task
    make, one = family.module("patched").make, family.module("mutants").MUTANTS[number]
    with one.installed():
        found = search(make, schedules, seed, watch=Detector)
        verdicts: Counter[str] = Counter()
        wrong = wrong_verdict(
            make,
            min(schedules, JUDGED),
            seed,
            seen=lambda _, outcome: verdicts.update(filter(None, [outcome.verdict])),
        )
    violation = wrong or found.violation
    return {
        "mutant": one.name,
        "drawn": found.drawn,
        "violation": violation and as_json(violation),
        "waits": verdicts.total(),
        "told": verdicts["DEADLOCK"],
    }


def watchdog(task: tuple[int, int, int]) -> dict[str, Any]:
    """Looks for one broken watchdog."""
    from simulation.detector import wrong_verdict
    from simulation.watchdogs import WATCHDOGS

    number, schedules, seed = task
    with WATCHDOGS[number].installed():
        found = wrong_verdict(family.module("patched").make, schedules, seed)
    return {
        "mutant": f"the watchdog: {WATCHDOGS[number].name}",
        "drawn": found.after if found else schedules,
        "violation": found and as_json(found),
        "watchdog": True,
    }


def mutants(schedules: int, seed: int, workers: int) -> dict[str, Any]:
    """Every mutant and every broken watchdog, each looked for in up to ``schedules``."""
    from simulation.watchdogs import WATCHDOGS

    of_tree = [(number, schedules, seed) for number in range(len(family.module("mutants").MUTANTS))]
    of_watchdog = [(number, schedules, seed) for number in range(len(WATCHDOGS))]
    results = []
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for result in chain(pool.imap(mutant, of_tree), pool.imap(watchdog, of_watchdog)):
            results.append(result)
            progress(sum(one["drawn"] for one in results))
    return {"schedules": sum(one["drawn"] for one in results), "mutants": results}


def progress(done: int) -> None:
    print(f"done {done}", flush=True)


MODELS = {"patched": patched, "pristine": pristine, "mutants": mutants}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--schedules", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    document = MODELS[given.model](given.schedules, given.seed, given.workers)
    given.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
