# SPDX-License-Identifier: Apache-2.0
"""The pure parts of the survey: what is drawn, how it is judged, and how it is reduced."""

import tomllib
from pathlib import Path

import pytest
from survey import asks, draw, judge, reading, reduce, space
from survey.judge import Answer, Verdict

from patchset.system import paths

LATEST = space.of_set("v0.11.0")
RIGHT = Answer("done")
WRONG = Answer("done", wrong=("p0",))
DEAD = Answer("error")
HANG = Answer("hang")
WRITES = Answer("done", written=1)
DIFFER = Answer("done", agrees=False)


@pytest.mark.parametrize(("set_name", "seed"), list(zip(space.EVERY_SET, range(5), strict=True)))
def test_every_admissible_pair_is_drawn(set_name: str, seed: int) -> None:
    of = space.of_set(set_name)
    rows = draw.covering(of, seed)
    assert all(map(of.admits, rows))
    # Those that only exclusions of other dimensions forbid: 310P is float16 alone, which the vllm scheduler admits.
    assert draw.uncovered(of, rows) == set()


def test_an_array_that_lacks_a_row_is_seen() -> None:
    of = space.of_set("v0.11.0")
    rows = draw.covering(of, 0)
    assert any(draw.uncovered(of, rows[:i] + rows[i + 1 :]) for i in range(len(rows)))


def test_the_seed_decides_and_decides_alone() -> None:
    of = space.of_set("v0.11.0")
    assert draw.covering(of, 0) == draw.covering(of, 0) != draw.covering(of, 1)


def test_more_deployments_than_one_array_has_are_all_different() -> None:
    of = space.of_set("v0.10.1.1")
    rows = draw.draw(of, 50, 0)
    assert len({space.line(row) for row in rows}) == 50


@pytest.mark.parametrize(
    ("pristine", "patched", "verdict"),
    [
        (RIGHT, RIGHT, Verdict.SAME),
        (HANG, RIGHT, Verdict.BETTER),
        (WRONG, RIGHT, Verdict.BETTER),
        (RIGHT, WRONG, Verdict.WORSE),
        (RIGHT, HANG, Verdict.WORSE),
        (RIGHT, DEAD, Verdict.WORSE),
        (WRONG, DEAD, Verdict.WORSE),
        (WRONG, WRONG, Verdict.BOTH_FAIL),
        (DEAD, DEAD, Verdict.BOTH_FAIL),
        # Wrong in silence where upstream hangs: a failure that nobody sees.
        (HANG, WRONG, Verdict.WORSE),
        (RIGHT, DIFFER, Verdict.WORSE),
        (RIGHT, WRITES, Verdict.WORSE),
        (WRITES, RIGHT, Verdict.BETTER),
        # What pristine risks does not excuse what patched does.
        (WRITES, WRONG, Verdict.WORSE),
        (DIFFER, DEAD, Verdict.WORSE),
        (HANG, WRITES, Verdict.WORSE),
        (WRITES, WRITES, Verdict.BOTH_FAIL),
    ],
)
def test_a_row_is_judged(pristine: Answer, patched: Answer, verdict: Verdict) -> None:
    assert judge.judge(pristine, patched) is verdict


@pytest.mark.parametrize(
    ("request_", "choices", "right"),
    [
        (asks.Request("p0", (1,)), [[7, 8]], True),
        (asks.Request("p0", (1,)), [[7, 8, 99]], True),
        (asks.Request("p0", (1,)), [[7]], False),
        (asks.Request("p0", (1,)), [[7, 9]], False),
        (asks.Request("p0", (1,)), None, False),
        (asks.Request("p0", (1,), abort_at=4), None, True),
        (asks.Request("p0", (1,), sampling=(("n", 2),)), [[7, 8], [7, 8]], True),
        (asks.Request("p0", (1,), sampling=(("n", 2),)), [[7, 8]], False),
    ],
)
def test_an_answer_is_held_against_the_expected_tokens(
    request_: asks.Request, choices: list[list[int]] | None, right: bool
) -> None:
    assert reading.is_right(request_, choices, [7, 8]) is right


def test_the_first_error_is_told_of_a_rank_that_did_more_than_lose_its_peer() -> None:
    lost = "INFO x\ntorch.distributed.DistNetworkError: Connection closed by peer\n"
    died = "Traceback (most recent call last):\n  x\nIndexError: index 0\n\nAttributeError: 'bool' has no 'shutdown'\n"
    assert reading.first_error([lost, died]) == "IndexError: index 0"
    assert reading.first_error([lost]).startswith("torch.distributed.DistNetworkError")
    assert reading.first_error(["all is well"]) == ""


def test_a_deployment_is_reduced_to_the_departures_that_show_it() -> None:
    row = {**space.DEFAULT, "model": "qwen3", "dp": "3", "max_num_seqs": "1", "mode": "acl_graph", "ask": "late"}
    tried = []

    def shows(settings: space.Settings) -> bool:
        tried.append(settings)
        return settings["max_num_seqs"] == "1" and settings["mode"] == "acl_graph"

    assert space.line(reduce.reduce(LATEST, row, shows)) == "mode=acl_graph,max_num_seqs=1"
    assert all(map(LATEST.admits, tried))


def test_reducing_never_tries_what_is_excluded() -> None:
    row = LATEST.parse("model=qwen3,dtype=float16,soc=310p,metadata_group=cpu")
    fewest = reduce.reduce(LATEST, row, lambda settings: settings["soc"] == "310p")
    assert space.line(fewest) == "dtype=float16,soc=310p"


@pytest.mark.parametrize("line", ["model=gpt", "colour=red", "dp", "scheduler=vllm", "model=qwen3,expert_parallel=on"])
def test_a_line_that_is_no_deployment_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"dimension|mask|experts"):
        LATEST.parse(line)


def test_lines_are_read_as_they_are_written() -> None:
    for row in draw.covering(LATEST, 2):
        assert LATEST.parse(space.line(row)) == row


def test_first_turns_end_on_a_block_boundary() -> None:
    assert {len(prompt) + asks.ANSWERED - 1 for prompt in asks.FIRST_TURNS} == {asks.BLOCK}


def test_what_was_found_can_be_run() -> None:
    table = tomllib.loads((Path(space.__file__).parent / "found.toml").read_text())
    for one in table["found"]:
        assert set(one["shown"]) <= set(one["sets"]) <= set(paths.sets())
        for set_name in one["sets"]:
            assert space.line(space.of_set(set_name).parse(one["only"])) == one["only"]
