# SPDX-License-Identifier: Apache-2.0
"""The benchmark's report and the cost model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from patchset.system.terminal import Terminal
from selftest.bench import report, scaling
from selftest.bench.pairs import Row
from selftest.bench.report import BenchReport
from selftest.bench.scaling import CPU, DEVICE, PRISTINE, Cost, Sample

TRUE = Cost(base=40.0, hop=15.0, word=6.0, cores=2, error=0.0)
ROW = Row("Question", "thing (us)", "pristine", 2.0, 2.2, 1.1, 1.05, 1.15, 30, 1.0, "physics")


def of_step(ranks: int) -> dict[str, float]:
    words = {"pristine": ranks + 2, "device": -(-ranks // 2), "cpu": -(-ranks // 4), "word": 1}
    return {side: TRUE.here(ranks, count) for side, count in words.items()}


def test_the_model_is_recovered_from_steps_that_follow_it() -> None:
    samples = scaling.samples({str(ranks): of_step(ranks) for ranks in (2, 4, 8, 16, 32)})
    found = scaling.fit(samples, cores=2)
    assert (found.base, found.hop, found.word) == pytest.approx((40.0, 15.0, 6.0), rel=1e-6)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_no_part_of_a_fit_is_negative() -> None:
    found = scaling.fit([Sample(2, 4, 100.0), Sample(4, 6, 90.0), Sample(8, 10, 80.0)], cores=2)
    assert min(found.base, found.hop, found.word) >= 0


def test_growth_says_how_well_the_model_fits_and_how_much_is_sent() -> None:
    assert [scaling.words_of(group, 32) for group in (PRISTINE, DEVICE, CPU)] == [34, 16, 8]
    rows = scaling.rows(replace(TRUE, error=0.23))
    assert all("to within 23%" in row.question and row.verdict == "met" for row in rows)
    (bytes_sent,) = (row for row in rows if row.name == "DP 1024, bytes of a step")
    assert (bytes_sent.baseline, bytes_sent.ours) == (4104, 2048)


REPORT = BenchReport(
    "v1", "2 cores", False, (ROW, replace(ROW, name="fast", high=0.9, ratio=0.8, low=0.7)), ("A note.",), 600.0
)


def test_the_report_names_what_it_misses(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(REPORT, Terminal())
    out = capsys.readouterr().out
    assert "missed: thing (us): 1.10 against 1: physics" in out
    assert "missed: fast" not in out and "A note." in out


def test_a_document_has_a_table_for_each_question_and_the_reason_of_what_is_missed() -> None:
    text = report.markdown(REPORT)
    assert "### Question" in text and text.count("physics") == 1 and text.endswith("- A note.")
    assert "| thing (us) | pristine | 2 | 2.2 | 1.100 | 1.050 to 1.150 | 30 | 1 | missed |" in text


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(REPORT.as_dict()))
    assert BenchReport.load(file) == REPORT


def test_this_machine_is_told_without_its_name_and_paths() -> None:
    told = report.machine()
    assert re.match(r"\d+ cores of .+ GiB, Linux [\d.]+, Python [\d.]+, load [\d.]+ as it began$", told)
    assert "/" not in told


def test_a_script_that_ran_alone_takes_the_place_of_its_tables() -> None:
    other = replace(ROW, question="Another")
    whole = replace(REPORT, rows=(ROW, other))
    apart = replace(REPORT, rows=(replace(ROW, ours=9.0), replace(ROW, question="New")), machine="8 cores")
    merged = whole.with_tables_of(apart)
    assert [(row.question, row.ours) for row in merged.rows] == [("Question", 9.0), ("Another", 2.2), ("New", 2.2)]
    assert merged.machine == whole.machine
    assert merged.notes == ("A note.", "Question; New: measured apart, on 8 cores.")
    assert merged.with_tables_of(apart) == merged
