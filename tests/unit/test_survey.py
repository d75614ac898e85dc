# SPDX-License-Identifier: Apache-2.0
"""The pure parts of the survey: what is drawn, how it is judged, and how it is reduced."""

import itertools
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from survey import asks, draw, exclusions, judge, models, pictures, reading, reduce, space
from survey.judge import Answer, Verdict

from patchset.system import paths

LATEST = space.of_set("v0.11.0")
RIGHT = Answer("done")
WRONG = Answer("done", wrong=("p0",))
DEAD = Answer("error")
HANG = Answer("hang")
WRITES = Answer("done", written=1)
DIFFER = Answer("done", agrees=False)
COST = Answer("done", start=10.0, cpu=5.0, memory=200_000.0, wait=0.3)


# One array of a release takes long: what holds for any space is tested on a few of its dimensions.
_FEW = ("model", "dtype", "dp", "expert_parallel", "mode", "drafter", "soc", "ask")
FEW = space.Space(
    {name: LATEST.dimensions[name] for name in _FEW},
    tuple(one for one in LATEST.exclusions if set(one.dimensions) <= set(_FEW)),
)


@pytest.mark.parametrize(("set_name", "seed"), [(name, seed) for seed, name in enumerate(exclusions.EVERY_SET)])
def test_every_admissible_pair_is_drawn_and_sixty_deployments_have_every_value(set_name: str, seed: int) -> None:
    of = space.of_set(set_name)
    rows = draw.covering(of, seed)
    assert all(map(of.admits, rows))
    # Those that only exclusions of other dimensions forbid: 310P is float16 alone, which the vllm scheduler admits.
    assert draw.uncovered(of, rows) == set()
    drawn = {name: {row[name] for row in rows[:60]} for name in of.dimensions}
    assert drawn == {name: set(values) for name, values in of.dimensions.items()}
    assert all(of.parse(space.line(row)) == row for row in rows)


def test_an_exclusion_says_what_it_excludes_and_why() -> None:
    for one in exclusions.EXCLUSIONS:
        assert one.why
        assert set(one.sets) <= set(exclusions.EVERY_SET)
        values = [space.DIMENSIONS[name] for name in one.dimensions]
        # Each forbids something, and not the default.
        assert not all(one.holds(*given) for given in itertools.product(*values)), one.why
        assert one.admits(space.DEFAULT), one.why


def test_every_value_is_in_the_space_of_some_release() -> None:
    spaces = [space.of_set(set_name) for set_name in exclusions.EVERY_SET]
    for name, values in space.DIMENSIONS.items():
        assert {value for of in spaces for value in of.dimensions[name]} == set(values)


@pytest.mark.parametrize("ask", space.DIMENSIONS["ask"])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_what_is_asked_has_names_of_its_own(ask: str, ranks: int) -> None:
    asked = asks.of(ask, ranks, 8)
    names = [one.id for of in asked for one in of]
    assert len(asked) == ranks
    assert names
    assert len(set(names)) == len(names)
    assert all(one.follows is None or one.follows in names for of in asked for one in of)


@pytest.mark.parametrize("ask", space.DIMENSIONS["ask"])
def test_every_phase_of_a_deployment_is_asked_something(ask: str) -> None:
    phases = {one.phase for of in asks.of(ask, 2, 8) for one in of}
    assert phases == set(range(1 + len(asks.BETWEEN.get(ask, ()))))


def test_what_is_called_between_phases_is_of_an_ask() -> None:
    assert set(asks.BETWEEN) < set(space.DIMENSIONS["ask"])


@pytest.mark.parametrize("ask", space.DIMENSIONS["ask"])
def test_every_other_request_of_a_model_that_sees_begins_with_a_picture(ask: str) -> None:
    without = [one for of in asks.of(ask, 2, 8) for one in of]
    seen = [one for of in asks.with_pictures((tuple(without),)) for one in of]
    assert [one.id for one in seen] == [one.id for one in without]
    for one, before in zip(seen, without, strict=True):
        begins = one.prompt[:3] == asks.MARKS
        assert begins == (one.picture is not None and one.follows is None)
        assert begins or one.prompt == before.prompt
        if one.follows is not None:
            assert one.picture == next(first.picture for first in seen if first.id == one.follows)
    assert any(one.picture is not None for one in seen)


def test_first_turns_with_a_picture_end_on_a_block_boundary_too() -> None:
    turns = [one for one in asks.first_requests(sees=True) if one.tokens == asks.ANSWERED]
    sizes = {len(pictures.expanded(one.prompt, asks.MARKS[1])) + asks.ANSWERED - 1 for one in turns}
    assert sizes == {asks.BLOCK}
    assert {one.picture is None for one in turns} == {True, False}


def test_no_prompt_has_the_mark_of_a_picture_by_itself() -> None:
    given = {token for one in asks.first_requests(sees=False) for token in one.prompt}
    assert max(given) < min(asks.MARKS)


def test_sizes_of_the_model_that_sees_are_divided_by_two_and_three() -> None:
    assert pictures.VOCABULARY % 6 == 0
    assert asks.VOCABULARY + len(pictures.WORDS) <= pictures.VOCABULARY


def test_models_are_those_of_the_space_and_some_of_each_kind() -> None:
    assert tuple(models.KINDS) == space.DIMENSIONS["model"]
    assert set(models.EXPERTS) | set(models.DENSE) == set(models.KINDS)
    assert {one.embeds for one in models.KINDS.values()} == {one.sees for one in models.KINDS.values()} == {True, False}


def test_an_array_that_lacks_a_row_is_seen() -> None:
    rows = draw.covering(FEW, 3)
    assert any(draw.uncovered(FEW, rows[:i] + rows[i + 1 :]) for i in range(len(rows)))


def test_the_seed_decides_and_decides_alone() -> None:
    assert draw.covering(FEW, 3) == draw.covering(FEW, 3) != draw.covering(FEW, 2)


def test_more_deployments_than_one_array_has_are_all_different() -> None:
    few = len(draw.covering(FEW, 0))
    rows = draw.draw(FEW, few + 20, 0)
    assert len({tuple(row.items()) for row in rows}) == few + 20


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


EXPECTED = {"tokens": [7, 8], "top": [[-0.1, -3.0], [-0.2, -2.0]], "prompt": [-4.0]}
P0 = asks.Request("p0", (1, 2))
WITH_LOGPROBS = asks.Request("p0", (1, 2), sampling=(("logprobs", 2),))
WITH_PROMPT_LOGPROBS = asks.Request("p0", (1, 2), sampling=(("prompt_logprobs", 1),))


def answer(*choices: list[int], top: list[list[float]] | None = None, prompt: list[float] | None = None) -> Any:
    return {"choices": [{"tokens": ids, "top": top or []} for ids in choices], "prompt": prompt}


@pytest.mark.parametrize(
    ("request_", "given", "right"),
    [
        (P0, answer([7, 8]), True),
        (P0, answer([7, 8, 99]), True),
        (P0, answer([7]), False),
        (P0, answer([7, 9]), False),
        (P0, None, False),
        (asks.Request("p0", (1,), abort_at=4), None, True),
        (asks.Request("p0", (1,), sampling=(("n", 2),)), answer([7, 8], [7, 8]), True),
        (asks.Request("p0", (1,), sampling=(("n", 2),)), answer([7, 8]), False),
        (WITH_LOGPROBS, answer([7, 8], top=[[-0.1, -3.0], [-0.2, -2.0]]), True),
        # As float16 may round them.
        (WITH_LOGPROBS, answer([7, 8], top=[[-0.3, -3.2], [-0.1, -2.4]]), True),
        (WITH_LOGPROBS, answer([7, 8], top=[[-0.1, -3.0], [-0.2, -3.0]]), False),
        (WITH_LOGPROBS, answer([7, 8], top=[[-0.1, -3.0]]), False),
        (WITH_LOGPROBS, answer([7, 8]), False),
        (WITH_PROMPT_LOGPROBS, answer([7, 8], prompt=[-4.1]), True),
        (WITH_PROMPT_LOGPROBS, answer([7, 8], prompt=[-5.0]), False),
        (WITH_PROMPT_LOGPROBS, answer([7, 8], prompt=[]), False),
    ],
)
def test_an_answer_is_held_against_what_is_expected(request_: asks.Request, given: Any, right: bool) -> None:
    assert reading.is_right(request_, given, EXPECTED) is right


@pytest.mark.parametrize(
    ("vector", "right"),
    [
        ([0.6, 0.8], True),
        # Of any length, and as bfloat16 may turn it.
        ([6.1, 7.9], True),
        ([0.8, 0.6], False),
        ([-0.6, -0.8], False),
        ([0.0, 0.0], False),
        ([0.6, 0.8, 0.0], False),
        ([float("nan"), 0.8], False),
    ],
)
def test_a_vector_is_held_against_the_one_that_is_expected(vector: list[float], right: bool) -> None:
    assert reading.is_right(P0, {"vector": vector}, {"vector": [0.6, 0.8]}) is right
    assert not reading.is_right(P0, None, {"vector": [0.6, 0.8]})


def test_a_completion_is_read_as_an_engine_s_own_answer() -> None:
    steps = [{"t7": -0.1, "t5": -3.0}, {"t3": -2.0, "t8": -0.2}]
    of_prompt = [None, {"2": {"logprob": -4.0}, "9": {"logprob": -0.1}}]
    choice = {"text": "t7 t8", "logprobs": {"top_logprobs": steps}, "prompt_logprobs": of_prompt}
    given = reading.of_completion({"choices": [choice]}, P0.prompt)
    assert given == answer([7, 8], top=EXPECTED["top"], prompt=EXPECTED["prompt"])
    plain = {"text": "t7 t8", "logprobs": None, "prompt_logprobs": None}
    assert reading.of_completion({"choices": [plain, plain]}, P0.prompt) == answer([7, 8], [7, 8])


def test_a_turn_of_a_chat_is_read_as_an_engine_s_own_answer() -> None:
    content = [{"top_logprobs": [{"logprob": a}, {"logprob": b}]} for a, b in EXPECTED["top"]]
    choice = {"message": {"content": "t7 t8"}, "logprobs": {"content": content}}
    given = reading.of_completion({"choices": [choice], "prompt_logprobs": [None, {"2": {"logprob": -4.0}}]}, P0.prompt)
    assert given == answer([7, 8], top=EXPECTED["top"], prompt=EXPECTED["prompt"])
    plain = {"message": {"content": "t7"}, "logprobs": None}
    assert reading.of_completion({"choices": [plain], "prompt_logprobs": None}, P0.prompt) == answer([7])


@pytest.mark.parametrize(
    ("joined", "alike"),
    [
        ({0: ["ab"], 1: ["ab"]}, True),
        # One of them was killed first.
        ({0: ["abc"], 1: ["ab"]}, True),
        ({0: ["ab"], 1: ["ba"]}, False),
        ({0: ["ab"], 1: ["ab"], 2: ["ac"]}, False),
        # Two workers each.
        ({0: ["ab", "cd"], 1: ["ab", "cd"]}, True),
        ({0: ["ab", "cd"], 1: ["ab", "dc"]}, False),
        ({0: ["ab"]}, True),
        ({}, True),
    ],
)
def test_collectives_of_workers_in_one_place_are_alike(joined: dict[int, list[str]], alike: bool) -> None:
    assert reading.alike(joined) is alike


def test_the_first_error_is_told_of_a_rank_that_did_more_than_lose_its_peer() -> None:
    lost = "INFO x\ntorch.distributed.DistNetworkError: Connection closed by peer\n"
    died = "Traceback (most recent call last):\n  x\nIndexError: index 0\n\nAttributeError: 'bool' has no 'shutdown'\n"
    assert reading.first_error([lost, died]) == "IndexError: index 0"
    assert reading.first_error([lost]).startswith("torch.distributed.DistNetworkError")
    assert reading.first_error(["all is well"]) == ""
    worker = "\x1b[1;36m(EngineCore_DP0 pid=7)\x1b[0;0m ERROR 11-28 21:22:05 [core.py:700] ValueError: no\n"
    assert reading.first_error(["INFO [x.py:1] no Error: here\n" + worker]) == "ValueError: no"


@pytest.mark.parametrize(
    ("patched", "says"),
    [
        ({"start": 400.0, "cpu": 12.0, "memory": 330_000.0, "wait": 2.4}, ""),
        ({"cpu": 16.0}, "cpu 16 instead of 5"),
        ({"memory": 400_000.0}, "memory 400000 instead of 200000"),
        ({"wait": 5.0}, "wait 5 instead of 0"),
    ],
)
def test_what_takes_far_more_is_worse(patched: dict[str, float], says: str) -> None:
    other = replace(COST, **patched)  # type: ignore[arg-type]
    assert judge.dearer(COST, other) == says
    assert judge.dearer(other, COST) == ""
    assert judge.judge(COST, other) is (Verdict.WORSE if says else Verdict.SAME)
    # Not beside one that fails.
    assert judge.judge(HANG, other) is Verdict.BETTER


def test_the_least_of_two_runs_counts_where_both_are_clean() -> None:
    slow = replace(COST, cpu=90.0, memory=100_000.0)
    assert COST.least(slow) == replace(COST, memory=100_000.0)
    assert COST.least(WRONG) is WRONG
    assert replace(COST, cpu=None).least(slow).cpu is None


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


@pytest.mark.parametrize(
    "line",
    [
        "model=gpt",
        "colour=red",
        "dp",
        "scheduler=vllm",
        "model=qwen3,expert_parallel=on",
        "model=llama,drafter=eagle3",
        "model=qwen3,dtype=float16,drafter=eagle3",
        "model=qwen3_embedding,ask=n2",
        "dp=1,client=serve_external",
    ],
)
def test_a_line_that_is_no_deployment_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"dimension|mask|experts|head|vector|share"):
        LATEST.parse(line)


def test_first_turns_end_on_a_block_boundary() -> None:
    assert {len(prompt) + asks.ANSWERED - 1 for prompt in asks.FIRST_TURNS} == {asks.BLOCK}


def test_what_was_found_can_be_run() -> None:
    table = tomllib.loads((Path(space.__file__).parent / "found.toml").read_text())
    for one in table["found"]:
        assert set(one["shown"]) <= set(one["sets"]) <= set(paths.sets())
        for set_name in one["sets"]:
            assert space.line(space.of_set(set_name).parse(one["only"])) == one["only"]
