# SPDX-License-Identifier: Apache-2.0
"""Reports of lives on the pristine tree, kept from one run to the next: upstream's release does the same every time.

The folder belongs to one upstream release, vLLM, runtime, suite and stand-in; whoever runs the suite names it by their
digests. A report is kept once a test that looked at it has passed, and dropped when one fails.
"""

import gzip
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from engine import Outcome, RankReport, Report
from job import Life


def file_of(life: Life, folder: Path) -> Path:
    """Where the report of ``life`` is kept."""
    return folder / f"{hashlib.sha256(repr((life, life.rounds)).encode()).hexdigest()[:32]}.json.gz"


def load(life: Life, folder: Path) -> "Report | None":
    """The kept report of ``life``; None where there is none."""
    file = file_of(life, folder)
    if not file.is_file():
        return None
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        found = json.load(stream)
    ranks = tuple(
        RankReport(tuple(one["lines"]), tuple(one["trace"]), one["log_tail"], one["exit_code"])
        for one in found["ranks"]
    )
    return Report(life, Outcome[found["outcome"]], found["why"], ranks, found["seconds"])


def store(report: Report, folder: Path) -> None:
    """Keeps ``report``."""
    file = file_of(report.life, folder)
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


def drop(life: Life, folder: Path) -> None:
    """Forgets the report of ``life``."""
    file_of(life, folder).unlink(missing_ok=True)
