# SPDX-License-Identifier: Apache-2.0
"""Trace files of ranks: lined up, the first difference named, and drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Capture

from patchset import cli
from patchset.node.errors import UsageError
from patchset.trace.align import clock_offsets, line_up, timeline
from patchset.trace.load import RankTrace, load, load_all

SIZE = 3
Lines = list[dict[str, Any]]


def head(rank: int, **other: Any) -> dict[str, Any]:
    made = {"kind": "rank", "format": 1, "rank": rank, "dp_size": SIZE, "world_rank": rank, "host": f"h{rank}"}
    return made | {"pid": 100 + rank, "build": "b" * 64, "why": "has waited for 3 s", "at": 1000.0} | other


def step(
    number: int, rank: int, tokens: tuple[int, ...] = (5, 1, 1), clock: float = 0.0, **other: Any
) -> dict[str, Any]:
    batch = {"num_tokens": tokens[rank], "with_prefill": False, "enable_dbo": False, "graph_usable": False}
    decision = {
        "tokens_per_rank": list(tokens),
        "with_prefill": False,
        "enable_dbo": False,
        "graph": False,
        "padded_tokens_per_rank": list(tokens),
        "moe_generic": "ALL_GATHER",
        "moe_custom": "ALL_GATHER",
    }
    spans = {"issued": 900.0 + number + clock, "prepared_s": 0.001, "waited_s": 0.002, "forward_s": 0.01}
    made = {"kind": "step", "step": number, "what": "execute_model", **spans, "batch": batch, "decision": decision}
    return made | {"collectives": ["all_reduce int32[6]"]} | other


def wait(number: int, **other: Any) -> dict[str, Any]:
    made = {"kind": "wait", "step": number, "phase": "forward", "for": "its forward", "since": 997.0, "seconds": 3.0}
    made |= {"at": "vllm_ascend/ops/fused_moe.py:470 in forward", "stack": ["a", "b"], "op": "all_gather_into_tensor"}
    return made | {"tensor": "float32[1,64]", "group": "dp (device)"} | other


def run(last: int = 6, first: int = 1) -> list[Lines]:
    """Three ranks that agree, and wait in the last step."""
    return [[head(rank), *(step(n, rank) for n in range(first, last + 1)), wait(last)] for rank in range(SIZE)]


def written(folder: Path, ranks: list[Lines]) -> list[Path]:
    files = []
    for number, lines in enumerate(ranks):
        files.append(folder / f"{number}.jsonl")
        files[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    return files


def loaded(folder: Path, ranks: list[Lines]) -> tuple[RankTrace, ...]:
    return load_all(written(folder, ranks))


def test_ranks_that_agree(tmp_path: Path) -> None:
    found = line_up(loaded(tmp_path, run()))
    assert found.ok and found.difference is None and found.first == 1
    assert found.verdict == "all ranks agree in every step that they remember"


def two_differences(ranks: list[Lines]) -> None:
    ranks[1][3]["decision"]["with_prefill"] = True
    ranks[1][5]["decision"]["graph"] = True


def another_batch(ranks: list[Lines]) -> None:
    ranks[2][4]["batch"]["num_tokens"] = 7


def another_sequence(ranks: list[Lines]) -> None:
    ranks[0][2]["collectives"] = ["all_reduce int32[6]", "broadcast"]


def never_came(ranks: list[Lines]) -> None:
    ranks[2] = [*ranks[2][:6], wait(5)]
    for lines in ranks[:2]:
        lines[6]["decision"] = lines[6]["waited_s"] = lines[6]["forward_s"] = None


def another_wait(ranks: list[Lines]) -> None:
    ranks[1][-1] = wait(6, op="broadcast", tensor="float32[5,64]")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (two_differences, "3: the decision (with_prefill) differs: rank 0, rank 2: False; rank 1: True"),
        (another_batch, "4: the number of tokens of rank 2 differs: rank 0, rank 1: was told 1; rank 2: brought 7"),
        (another_sequence, "2: the sequence of collectives differs: rank 0: all_reduce int32[6], broadcast; rank 1"),
        (never_came, "6: who has come to it differs: rank 0, rank 1: reached step 6; rank 2: in step 5"),
        (another_wait, "6: what they wait in differs: rank 0, rank 2: all_gather_into_tensor of float32[1,64] on"),
    ],
)
def test_the_first_difference_is_named(tmp_path: Path, change, difference: str) -> None:  # type: ignore[no-untyped-def]
    ranks = run()
    change(ranks)
    found = line_up(loaded(tmp_path, ranks))
    assert not found.ok and str(found.difference).startswith(f"step {difference}")


def test_an_all_to_all_may_send_each_rank_its_own_rows(tmp_path: Path) -> None:
    ranks = run()
    for rank, lines in enumerate(ranks):
        lines[-1] = wait(6, op="all_to_all_single", tensor=f"float32[{rank},64]")
    assert line_up(loaded(tmp_path, ranks)).ok


def test_only_steps_that_all_remember_are_compared(tmp_path: Path) -> None:
    ranks = run(last=9)
    ranks[0] = [ranks[0][0], *ranks[0][5:]]
    ranks[1][2]["decision"]["graph"] = True
    found = line_up(loaded(tmp_path, ranks))
    assert found.first == 5 and found.ok


def test_a_rank_without_a_trace_is_named(tmp_path: Path) -> None:
    found = line_up(loaded(tmp_path, run()[:2]))
    assert not found.ok and list(found.silent) == [2]
    assert found.verdict.startswith("no trace of DP rank 2: stopped, killed, or its file was not given")


def test_a_rank_without_any_step(tmp_path: Path) -> None:
    ranks = run()
    ranks[1] = [head(1)]
    found = line_up(loaded(tmp_path, ranks))
    assert found.first is None and not found.ok
    assert found.difference is not None and found.difference.step == 1


def test_ranks_of_more_than_one_process(tmp_path: Path) -> None:
    ranks = run() + run()
    for world, lines in enumerate(ranks):
        lines[0]["rank"], lines[0]["world_rank"] = world // 2, world
        for line in lines:
            if line["kind"] == "step":
                line["batch"]["num_tokens"] = line["decision"]["tokens_per_rank"][world // 2]
    found = line_up(loaded(tmp_path, ranks))
    assert found.ok and [rank.name for rank in found.ranks][:3] == ["rank 0", "rank 0 (1)", "rank 1 (2)"]


def text(*lines: dict[str, Any]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "empty"),
        (b"\xff\xfe", "not UTF-8"),
        ("{}\n", "a line of kind None where 'rank' belongs"),
        ("nonsense\n", ":1: not JSON: 'nonsense'"),
        ("[]\n", "not a JSON object"),
        (text(head(0, format=3)), "format 3, and this tool reads 1 and 2"),
        (text(head(3)), "rank 3 of 3"),
        (text(head(0, host=7)), "Expected `str`, got `int` - at `$.host`"),
        (text(head(0), wait(1), step(1, 0)), ":2: a line of kind 'wait'"),
        (text(head(0), step(1, 0))[:500], ":2: not JSON"),
        (text(head(0), step(1, 0, issued="x")), "Expected `float`, got `str` - at `$.issued`"),
        (text(head(0), step(1, 0, (1, 1))), "2 token counts for 3 ranks"),
        (text(head(0), step(1, 0, collectives=[1])), "`int` - at `$.collectives[0]`"),
        (text(head(0), step(1, 0, batch=[])), "got `array` - at `$.batch`"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, data: str | bytes, why: str) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(UsageError, match=re.escape(why)) as caught:
        load(file)
    assert str(file) in caught.value.message


def test_files_that_are_not_of_one_run_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0\.jsonl and .*1\.jsonl are both of rank 0"):
        loaded(tmp_path, [run()[0], run()[0]])
    with pytest.raises(UsageError, match="not one run"):
        loaded(tmp_path, [run()[0], [head(1, dp_size=2)]])


def test_the_timeline_has_each_span_and_the_first_step_that_differs(tmp_path: Path) -> None:
    ranks = run()
    found = timeline(line_up(loaded(tmp_path, ranks)))
    spans = [one for one in found["traceEvents"] if one["ph"] == "X"]
    names = [one["name"].partition(" ")[0] for one in spans]
    assert {name: names.count(name) for name in names} == {"prepare": 18, "wait": 18, "forward": 18, "stuck": 3}
    assert all(one["dur"] >= 0 and one["args"]["step"] for one in spans)
    named = {one["pid"]: one["args"]["name"] for one in found["traceEvents"] if one["ph"] == "M"}
    assert sorted(named) == list(range(SIZE)) and named[0].startswith("rank 0, ")
    assert not [one for one in found["traceEvents"] if one["ph"] == "i"]
    ranks[1][4]["decision"]["graph"] = True
    found = timeline(line_up(loaded(tmp_path, ranks)))
    marks = [one for one in found["traceEvents"] if one["ph"] == "i"]
    assert [one["pid"] for one in marks] == list(range(SIZE))


def test_spans_of_a_step_follow_each_other_on_one_clock(tmp_path: Path) -> None:
    ranks = run()
    ranks[1] = [head(1), *(step(n, 1, clock=7.5) for n in range(1, 7))]
    found = timeline(line_up(loaded(tmp_path, ranks)))["traceEvents"]
    assert list(clock_offsets(loaded(tmp_path, ranks)).values()) == pytest.approx([0.0, -7.5, 0.0])
    begun = {
        rank: [one["ts"] for one in found if one["ph"] == "X" and one["pid"] == rank and one["name"] == "prepare"]
        for rank in (0, 1)
    }
    assert begun[1] == pytest.approx(begun[0])
    one, after = (next(e for e in found if e["pid"] == 0 and e["name"] == name) for name in ("prepare", "wait"))
    assert after["ts"] == pytest.approx(one["ts"] + one["dur"])


def test_ranks_without_steps_have_a_name_alone(tmp_path: Path) -> None:
    found = timeline(line_up(loaded(tmp_path, [[head(rank)] for rank in range(SIZE)])))
    assert [one["ph"] for one in found["traceEvents"]] == ["M"] * SIZE


def test_the_command_prints_the_ranks_and_the_verdict(tmp_path: Path, capsys: Capture) -> None:
    files = [str(file) for file in written(tmp_path, run()[:2])]
    timeline = tmp_path / "t.json"
    assert cli.main(["trace", *files, "--events", str(timeline)]) == 1
    shown = capsys.readouterr().out
    assert "rank 0" in shown and "steps 2 to 6" in shown and "no trace of DP rank 2" in shown
    assert json.loads(timeline.read_text())["traceEvents"]


def test_the_command_prints_what_the_ranks_said_of_themselves(tmp_path: Path, capsys: Capture) -> None:
    ranks = run()
    for lines in ranks:
        lines[0]["format"] = 2
        lines.insert(-1, {"kind": "peers", "said": ["DP rank 0: works", "DP rank 1: waits in all_reduce"]})
    files = written(tmp_path, ranks)
    assert cli.main(["trace", *map(str, files)]) == 0
    shown = capsys.readouterr().out
    assert "what the ranks said of themselves, to rank 0:\n  DP rank 0: works\n  DP rank 1: waits in" in shown


def test_the_command_s_document(tmp_path: Path, capsys: Capture) -> None:
    files = [str(file) for file in written(tmp_path, run())]
    assert cli.main(["trace", *files, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] and document["difference"] is None
    assert document["ranks"][0]["steps"][0]["decision"]["tokens_per_rank"] == [5, 1, 1]


def test_a_missing_file_ends_with_the_code_of_the_disk(tmp_path: Path, capsys: Capture) -> None:
    assert cli.main(["trace", str(tmp_path / "none.jsonl")]) == 6
    assert "none.jsonl" in capsys.readouterr().err
