# SPDX-License-Identifier: Apache-2.0
"""The benchmark's report: ratios and targets from the scripts' documents and the cost model."""

from __future__ import annotations

from typing import Any

import pytest

from patchset.system.terminal import Terminal
from selftest.bench import scaling, tables
from selftest.bench.report import BenchReport, Measure, Table, show
from selftest.bench.scaling import CPU, DEVICE, PRISTINE, Cost, Sample

TRUE = Cost(base=40.0, hop=15.0, word=6.0, cores=2, error=0.0)


def step(ranks: int) -> dict[str, Any]:
    """What metadata_sync.py writes for one number of ranks, by the model."""
    words = {"pristine": ranks + 2, "device": -(-ranks // 2), "cpu": -(-ranks // 4)}
    times = {side: TRUE.here(ranks, words.get(side, 1)) for side in (*words, "word")}
    ratios = {side: [times[side] / times["pristine"]] * 3 for side in ("device", "cpu")}
    clocks = {
        "wall": times,
        "host": times,
        "process": times,
        "least": times,
        "blocked": {"nothing": 50.0, "decode": 30.0, "prefill": 0.0},
    }
    quartiles = {f"{clock} ratios": ratios for clock in ("wall", "host", "process")}
    counts = {"pristine": 5, "device": 1, "cpu": 0}
    return {
        **clocks,
        **quartiles,
        "blocked ratios": {"decode": [0.5, 0.6, 0.7], "prefill": [0.0, 0.0, 0.1]},
        "words": words,
        "reads": counts,
        "tensors": counts,
        "collectives": dict.fromkeys(counts, 1),
    }


SYNC = {str(ranks): step(ranks) for ranks in (2, 4, 8, 16, 32)}


def test_the_model_is_recovered_from_steps_that_follow_it() -> None:
    found = scaling.fit(tables.samples(SYNC), cores=2)
    assert (found.base, found.hop, found.word) == pytest.approx((40.0, 15.0, 6.0), rel=1e-6)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_no_part_of_a_fit_is_negative() -> None:
    found = scaling.fit([Sample(2, 4, 100.0), Sample(4, 6, 90.0), Sample(8, 10, 80.0)], cores=2)
    assert min(found.base, found.hop, found.word) >= 0


def test_predictions_grow_with_the_rounds_and_say_nothing_of_hccl_s_time() -> None:
    found = {(one.ranks, one.group): one for one in scaling.predictions(TRUE)}
    assert found[32, PRISTINE].bytes == 136
    assert found[32, DEVICE].bytes == found[32, CPU].bytes == 64
    assert [found[ranks, CPU].rounds for ranks in (32, 256, 1024)] == [62, 510, 2046]
    assert [found[ranks, DEVICE].rounds for ranks in (32, 256, 1024)] == [5, 8, 10]
    assert found[1024, DEVICE].ms is None
    assert found[256, CPU].ms < found[256, PRISTINE].ms  # type: ignore[operator]


@pytest.mark.parametrize(
    ("ratio", "spread", "limit", "verdict"),
    [
        (0.4, (0.3, 0.6), 0.5, "meets 0.5"),
        (0.6, (0.4, 0.7), 0.5, "0.5 within noise"),
        (0.6, (0.55, 0.7), 0.5, "misses 0.5"),
        (2.0, None, 1.0, "misses 1"),
        (2.0, None, None, ""),
        (None, None, 1.0, ""),
    ],
)
def test_a_target_is_missed_where_three_quarters_of_the_pairs_miss_it(
    ratio: float | None, spread: tuple[float, float] | None, limit: float | None, verdict: str
) -> None:
    assert Measure("m", 1.0, 1.0, ratio, spread, limit).verdict == verdict


def test_every_number_of_ranks_has_its_time_on_both_groups_and_counts_come_once() -> None:
    names = [row.name for row in tables.sync_rows(SYNC)]
    for ranks in SYNC:
        for group in ("device group", "CPU group"):
            assert f"metadata, DP {ranks}, {group}, elapsed (us)" in names
    assert len(names) == len(set(names)) == 5 * 3 * 2 + 3 * 2


def test_the_tools_own_speed_has_a_target_for_each_promise() -> None:
    one = {"baseline": 2.0, "ours": 3.0, "ratio": 1.5, "quartiles": [1.4, 1.6]}
    keys = ("in place, git am", "in place, quilt", "in place, allowed", "build tree", "status, allowed", "linear")
    rows = list(tables.applying_rows(dict.fromkeys(keys, one) | {"sizes": {"50 patches on 1,250 files": one}}))
    assert [row.name.partition(";")[0] for row in rows if row.verdict == "misses 1"] == [
        "apply in place",
        "apply in place",
        "apply in place",
        "status",
        "apply 200 patches on 5,000 files",
        "apply 50 patches on 1,250 files",
    ]
    assert all((row.baseline, row.ours, row.spread) == (2.0, 3.0, (1.4, 1.6)) for row in rows) and len(rows) == 7


def test_the_report_names_what_it_misses(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        Measure("slow thing", 1.0, 2.0, 2.0, (1.9, 2.1), 1.0),
        Measure("fast thing", 1.0, 0.5, 0.5, (0.4, 0.6), 1.0),
    )
    tables_ = (Table("pristine", "patched", rows),)
    report = BenchReport("v1", tables_, TRUE, scaling.predictions(TRUE))
    show(report, Terminal())
    out = capsys.readouterr().out
    assert "target missed: slow thing: 2.00 instead of 1" in out
    assert "target missed: fast" not in out
    assert report.as_dict()["tables"][0]["rows"][0]["verdict"] == "misses 1"


def test_engines_waits_and_tracing_have_rows_of_their_own() -> None:
    times = {clock: {"pristine": 4.0, "untraced": 4.0, "patched": 2.0} for clock in ("wall", "cpu")}
    ratios = {f"{clock} ratios": {"patched": [0.4, 0.5, 0.6]} for clock in ("wall", "cpu")}
    engine = {**times, **ratios, "peak_rss_mib": {"pristine": 100.0, "untraced": 100.0, "patched": 110.0}}
    found = {"modes": {"eager": engine}, "rows beside a prefill": {"pristine": 150, "patched": 1}, "tracing": engine}
    elapsed, cpu, memory, rows = tables.token_rows(found)
    assert (elapsed.ratio, elapsed.spread, elapsed.verdict) == (0.5, (0.4, 0.6), "meets 1")
    assert cpu.baseline == 4.0 and memory.ratio == pytest.approx(1.1)
    assert (rows.baseline, rows.ours, rows.limit) == (150, 1, None)
    assert [row.verdict for row in tables.tracing_rows(found)] == ["meets 1.01", "meets 1.01", ""]
    waits = {row.name: row.ratio for row in tables.blocked_rows(SYNC)}
    assert waits["waiting for the others, DP 2, after preparing a decode (us)"] == 0.6
    assert len(waits) == 2 * len(SYNC)
