# SPDX-License-Identifier: Apache-2.0
"""Upstream's drafters without their models: what they exchange is decided by `_propose` and `dummy_run`, which run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from vllm_ascend.spec_decode.eagle_proposer import AscendEagleProposer
from vllm_ascend.spec_decode.ngram_proposer import AscendNgramProposer

from simulation.schedule import Drafter
from simulation.since_0_18.configuration import MOST_ROWS
from simulation.since_0_18.model import Model
from simulation.since_0_18.releases import THIS

if TYPE_CHECKING:
    from simulation.since_0_18.rank import Rank

# Shared by all: what is written to some decides nothing, and indices are those of row 0.
_indices, _written, _hidden = (
    torch.zeros(size, dtype=kind)
    for size, kind in ((MOST_ROWS, torch.int64), (MOST_ROWS, torch.int64), ((MOST_ROWS, 1), torch.float32))
)


class Proposer(AscendEagleProposer):  # type: ignore[misc]
    """Upstream's drafter of Eagle and MTP."""

    def __init__(self, rank: Rank) -> None:
        one = rank.deployment
        self.runner, self.vllm_config, self.device = rank, rank.vllm_config, rank.device
        self.speculative_config, self.method = rank.speculative_config, rank.speculative_config.method
        self.num_speculative_tokens, self.decode_threshold = one.drafts, one.decode_tokens
        self.pcp_size = self.dcp_size = 1
        # As its own __init__ has it.
        eager = THIS.graphs_unpadded and self.method == "mtp" and one.unpadded_drafter
        self.use_cuda_graph = rank._use_aclgraph() and not eager
        self.pass_hidden_states_to_model, self.extra_slots_per_request = True, 1
        self.supports_mm_inputs = self.uses_mrope = self.parallel_drafting = self.enable_enpu = False
        self.is_multimodal_model = self.needs_extra_input_slots = False
        self.uses_xdrope_dim = self.draft_uses_xdrope_dim = 0
        self.input_ids = self.positions = _written
        self.arange = self.token_indices_to_sample = _indices
        self.hidden_states = _hidden
        self.slot_mapping_group = [_written[:1]] * one.drafts
        self.query_start_loc = rank.query_start_loc
        self.seq_lens_group = self.query_start_loc_group = [_written] * one.drafts
        self.use_compress = self._share_mtp_indices = False
        self.attn_layer_names = ["draft"]
        metadata = SimpleNamespace(num_prefills=0)
        builder = SimpleNamespace(build=lambda _, common, *__: SimpleNamespace(num_prefills=common.num_prefills))
        self.draft_attn_groups = [SimpleNamespace(get_metadata_builder=lambda: builder)]
        self.attn_update_stack_num_spec_norm = lambda _, __, common, *___, **____: (common, metadata)
        self._update_full_graph_params = lambda *_: None
        self.model = Model(rank, "drafter", experts=self.method == "mtp", returns_tuple=self.method != "mtp")
        self._runnable = self._run

    def _run(self, **inputs: Any) -> Any:
        """The forwards. Context parallelism is told to them alone: what else it changes decides nothing."""
        self.dcp_size = 2 if self.runner.deployment.context_parallel else 1
        try:
            return self._run_merged_draft(**inputs)
        finally:
            self.dcp_size = 1

    def set_inputs_first_pass(self, target_token_ids: Any, cad: Any, **_: Any) -> tuple[int, Any, Any, None]:
        return target_token_ids.shape[0], _indices[: cad.num_reqs], cad, None

    def maybe_pad_and_reduce(self, hidden_states: Any, positions: Any) -> tuple[Any, Any]:
        return hidden_states, positions

    def maybe_all_gather_and_unpad(self, last: Any, positions: Any, hidden: Any = None) -> tuple[Any, Any, Any]:
        return last, positions, hidden


def of(rank: Rank) -> Any:
    """The rank's drafter; None where it has none."""
    drafter = rank.deployment.drafter
    if drafter is Drafter.NONE:
        return None
    return AscendNgramProposer.__new__(AscendNgramProposer) if drafter is Drafter.NGRAM else Proposer(rank)


def propose(drafter: Any, tokens: int, common: Any, batch_descriptor: Any) -> None:
    """The drafter's pass over the ``tokens`` that it is given of a step; ngram's has no forward."""
    if isinstance(drafter, Proposer):
        drafter._propose(
            target_token_ids=_written[:tokens],
            target_positions=_written[:tokens],
            target_hidden_states=_hidden[:tokens],
            next_token_ids=None,
            token_indices_to_sample=None,
            common_attn_metadata=common,
            target_model_batch_desc=batch_descriptor,
            sampling_metadata=None,
        )
