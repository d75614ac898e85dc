# SPDX-License-Identifier: Apache-2.0
"""Reports of engine runs on the pristine tree, kept for the next time: upstream's release does the same every time.

The folder belongs to one upstream release, vLLM, runtime, suite and stand-in; whoever runs the suite names it by their
digests. A report is kept once a test that looked at it has passed, and dropped when one fails.
"""

import gzip
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from engine import Outcome, RankReport, Report
from job import EngineRun


def file_of(run: EngineRun, folder: Path) -> Path:
    """Where the report of ``run`` is kept."""
    return folder / f"{hashlib.sha256(repr((run, run.rounds)).encode()).hexdigest()[:32]}.json.gz"


def load(run: EngineRun, folder: Path) -> "Report | None":
    """The kept report of ``run``; None where there is none."""
    file = file_of(run, folder)
    if not file.is_file():
        return None
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        found = json.load(stream)
    ranks = tuple(
        RankReport(tuple(one["lines"]), tuple(one["trace"]), one["log_tail"], one["exit_code"])
        for one in found["ranks"]
    )
    return Report(run, Outcome[found["outcome"]], found["why"], ranks, found["seconds"])


def store(report: Report, folder: Path) -> None:
    """Keeps ``report``."""
    file = file_of(report.run, folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    document = {
        "outcome": report.outcome.name,
        "why": report.why,
        "seconds": report.seconds,
        "ranks": [asdict(rank) for rank in report.ranks],
    }
    with gzip.open(partial, "wt", encoding="utf-8", compresslevel=3) as stream:
        json.dump(document, stream)
    partial.replace(file)


def drop(run: EngineRun, folder: Path) -> None:
    """Forgets the report of ``run``."""
    file_of(run, folder).unlink(missing_ok=True)
