# SPDX-License-Identifier: Apache-2.0
"""Upstream's loop of drafts after a step, on a drafter that is made up: neither an engine nor weights."""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

DRAFTS = 3
_WIDTH, _VOCABULARY = 4, 16
_PARTS = ("_sample_draft_tokens_for_step", "_run_window_draft_steps", "_roll_window_inputs_only")  # of Step-3.5's loop


def run(
    rows: int,
    at: list[int],
    forward: Callable[[int, bool], int],
    *,
    attended: int = DRAFTS,
    prefill: bool = False,
    tuples: bool = False,
    proposer: str = "eagle_proposer.AscendEagleProposer",
    **own: Any,
) -> Any:
    """The tokens that are drafted after a step of ``rows``: ``[requests, DRAFTS]``.

    ``at`` is the row of each request. ``forward`` is the model: of its rows, and whether it has metadata, it makes the
    next token; ``tuples`` says that it answers like Eagle's. ``attended`` is how many forwards get metadata.
    ``proposer`` is whose loop it is, ``own`` what else the drafter has.
    """
    import torch

    module, name = proposer.split(".")
    kind = getattr(importlib.import_module(f"vllm_ascend.spec_decode.{module}"), name)
    common = next(one for one in kind.__mro__ if "_run_merged_draft" in vars(one))
    its: Any = sys.modules[common.__module__]
    context = SimpleNamespace(moe_layer_index=0, attn_metadata="of the first forward")
    its.get_forward_context = lambda: context
    its._EXTRA_CTX = SimpleNamespace()
    its.lmhead_tp_enable = lambda: False
    its.get_ascend_config = lambda: SimpleNamespace(enable_reduce_sample=False)

    class Model:
        def __call__(self, **inputs: Any) -> Any:
            count = inputs["input_ids"].shape[0]
            states = torch.full((count, _WIDTH), float(forward(count, context.attn_metadata is not None)))
            return (states, states) if tuples else states

        def compute_logits(self, hidden_states: Any, **_: Any) -> Any:
            return torch.nn.functional.one_hot(hidden_states[:, 0].long(), _VOCABULARY).float()

    switches = ("parallel_drafting", "uses_mrope", "use_cuda_graph", "supports_mm_inputs", "_share_mtp_indices")
    drafter = SimpleNamespace(
        model=Model(),
        num_speculative_tokens=DRAFTS,
        vllm_config=SimpleNamespace(model_config=SimpleNamespace(max_model_len=64)),
        input_ids=torch.zeros(rows, dtype=torch.int32),
        positions=torch.arange(rows),
        hidden_states=torch.zeros(rows, _WIDTH),
        arange=torch.arange(rows),
        device="cpu",
        **dict.fromkeys(switches, False),
        pass_hidden_states_to_model=True,
        model_returns_tuple=lambda: tuples,
        _get_positions=lambda count: drafter.positions[:count],
        _set_positions=lambda count, values: None,
        maybe_pad_and_reduce=lambda states, positions: (states, positions),
        maybe_all_gather_and_unpad=lambda last, positions, states: (last, positions, states),
        **{"pcp_size": 1, "dcp_size": 1, **own},
    )
    for part in _PARTS:
        if hasattr(kind, part):
            setattr(drafter, part, partial(getattr(kind, part), drafter))
    return common._run_merged_draft(
        drafter,
        num_input_tokens=rows,
        batch_size=len(at),
        token_indices_to_sample=torch.tensor(at),
        target_positions=None,
        inputs_embeds=None,
        multi_steps_attn_metadata=["metadata"] * attended,
        num_tokens=rows,
        is_prefill=int(prefill),
    )
