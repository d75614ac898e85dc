# SPDX-License-Identifier: Apache-2.0
"""The expected tokens: no rounding changes them, and what an engine may get wrong does."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lead
import pytest
import torch
from checkpoints import Model
from reference import PROMPTS, TOKENS, walk

Expected = Callable[[Model], dict[int, list[int]]]
# Prompts whose tokens may stay as they are by chance.
SPARED = 1
LONGER = tuple(index for index, prompt in enumerate(PROMPTS) if len(prompt) > 1)

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module", params=Model, ids=lambda model: model.value)
def model(request: pytest.FixtureRequest) -> Model:
    found: Model = request.param
    return found


@pytest.fixture(scope="module")
def net(model: Model, checkpoint: Callable[[Model], Path]) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint(model), torch_dtype=torch.float32).eval()


def _greedy(net: Any, prompt: tuple[int, ...]) -> list[int]:
    return walk(net, prompt).tokens


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_no_rounding_changes_a_token(net: Any, model: Model, expected: Expected, dtype: str) -> None:
    rounding = lead.rounding(net, dtype)
    assert {index: _greedy(rounding, prompt) for index, prompt in enumerate(PROMPTS)} == expected(model)


def _unchanged(want: dict[int, list[int]], found: dict[int, list[int]]) -> int:
    """How many prompts have the same tokens."""
    return sum(found[index] == want[index] for index in found)


@pytest.mark.parametrize("model", [Model.QWEN3_MOE, Model.DEEPSEEK_V3], ids=lambda model: model.value, indirect=True)
def test_tokens_of_another_expert_are_others(net: Any, model: Model, expected: Expected) -> None:
    """Each row goes to the experts beside its own."""
    wrong = copy.deepcopy(net)
    routers = [module for name, module in wrong.named_modules() if name.endswith("mlp.gate")]
    assert routers
    with torch.no_grad():
        for router in routers:
            router.weight.copy_(router.weight.roll(1, 0))
    found = {index: _greedy(wrong, prompt) for index, prompt in enumerate(PROMPTS)}
    assert _unchanged(expected(model), found) <= SPARED


def test_tokens_of_another_slot_are_others(net: Any, model: Model, expected: Expected) -> None:
    """Before each decode, the slot of the token before holds the key and value of the prompt's first token."""
    found = {index: _with_a_wrong_slot(net, PROMPTS[index]) for index in LONGER}
    assert _unchanged(expected(model), found) <= SPARED


def _with_a_wrong_slot(net: Any, prompt: tuple[int, ...]) -> list[int]:
    given, cache, tokens = list(prompt), None, list[int]()
    while len(tokens) < TOKENS:
        with torch.no_grad():
            step = net(torch.tensor([given]), past_key_values=cache, use_cache=True)
        cache = step.past_key_values
        for keys, values in cache:  # of each layer: [1, heads, slots, head size]
            keys[:, :, -1], values[:, :, -1] = keys[:, :, 0].clone(), values[:, :, 0].clone()
        tokens.append(int(step.logits[0, -1].argmax()))
        given = tokens[-1:]
    return tokens


def test_tokens_without_one_of_a_prompts_are_others(net: Any, model: Model, expected: Expected) -> None:
    found = {index: _greedy(net, (*PROMPTS[index][:-2], PROMPTS[index][-1])) for index in LONGER}
    assert _unchanged(expected(model), found) <= SPARED


def test_tokens_at_other_positions_are_others(net: Any, model: Model, expected: Expected) -> None:
    """Positions begin at zero again with the last token of the prompt."""
    found = {index: _begun_again(net, PROMPTS[index]) for index in LONGER if len(PROMPTS[index]) > 2}
    assert _unchanged(expected(model), found) <= SPARED


def _begun_again(net: Any, prompt: tuple[int, ...]) -> list[int]:
    ids, tokens = list(prompt), list[int]()
    while len(tokens) < TOKENS:
        positions = torch.arange(len(ids))
        positions[len(prompt) - 1 :] -= len(prompt) - 1
        with torch.no_grad():
            logits = net(torch.tensor([ids]), position_ids=positions[None]).logits[0, -1]
        tokens.append(int(logits.argmax()))
        ids.append(tokens[-1])
    return tokens
