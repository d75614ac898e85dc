# SPDX-License-Identifier: Apache-2.0
"""Which requests for logprobs of a prompt a platform refuses that cannot serve them with a parallel lm head."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm import PoolingParams, SamplingParams
from vllm_ascend.platform import NPUPlatform

from vllm_ascend import ascend_config

_PROMPT = {"type": "token", "prompt_token_ids": [3, 1, 4]}
_ASKED = SamplingParams(prompt_logprobs=0)


@pytest.fixture
def lm_head(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The configuration of a process whose lm head is split over so many ranks; None: it has made none."""
    split = SimpleNamespace(lmhead_tensor_parallel_size=request.param)
    # By the other two, later releases see that it is finished.
    config = SimpleNamespace(finegrained_tp_config=split, ascend_compilation_config=None, eplb_config=None)
    monkeypatch.setattr(ascend_config, "_ASCEND_CONFIG", None if request.param is None else config)


@pytest.mark.usefixtures("lm_head")
@pytest.mark.parametrize("lm_head", [2, 16], indirect=True)
def test_it_is_refused_where_other_ranks_would_have_to_join() -> None:
    with pytest.raises(ValueError, match=r"prompt_logprobs .* lmhead_tensor_parallel_size"):
        NPUPlatform.validate_request(_PROMPT, _ASKED)


@pytest.mark.usefixtures("lm_head")
@pytest.mark.parametrize("lm_head", [None, 0, 1], indirect=True)
@pytest.mark.parametrize("params", [_ASKED, SamplingParams(), PoolingParams()], ids=["logprobs", "tokens", "pooling"])
def test_a_head_of_one_rank_or_none_known_serves_everything(params: Any) -> None:
    NPUPlatform.validate_request(_PROMPT, params)


@pytest.mark.usefixtures("lm_head")
@pytest.mark.parametrize("lm_head", [2], indirect=True)
@pytest.mark.parametrize(
    ("prompt", "params"),
    [
        (_PROMPT, SamplingParams()),
        (_PROMPT, SamplingParams(logprobs=5)),
        (_PROMPT, PoolingParams()),
        (_PROMPT | {"prompt_token_ids": [3]}, _ASKED),
        ({"type": "embeds"}, SamplingParams()),
    ],
    ids=["tokens", "logprobs of answers", "pooling", "a prompt of one token", "embeddings"],
)
def test_a_parallel_head_serves_whatever_needs_no_logits_of_a_prompt(prompt: Any, params: Any) -> None:
    NPUPlatform.validate_request(prompt, params)
