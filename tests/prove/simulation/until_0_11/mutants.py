# SPDX-License-Identifier: Apache-2.0
"""The overlay broken on purpose, one way at a time: a proof that finds none of these would prove nothing."""

from __future__ import annotations

from typing import Any

from simulation.mutant import Break, Mutant
from simulation.until_0_11 import patched
from simulation.until_0_11.releases import THIS
from vllm_ascend.data_parallel import mc2, moe_comm, runner, upstream
from vllm_ascend.data_parallel.metadata import GRAPH, BitFields, LocalBatch, StepMetadata
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.row_groups import RowGroup
from vllm_ascend.data_parallel.runner import DataParallelStep, TorchairStep
from vllm_ascend.data_parallel.synchronizer import PendingStep


def _without(**flags: int) -> Break:
    """A batch that says ``flags`` whatever it is."""
    return lambda pack: lambda fields, batch, rank: pack(fields, batch._replace(**flags), rank)


def _slot_zero(pack: Any) -> Any:
    return lambda fields, batch, rank: pack(fields, batch, 0)


def _any_graph(unpack: Any) -> Any:
    def broken(fields: BitFields, packed: int) -> StepMetadata:
        usable = packed & sum(GRAPH << shift for shift in fields._shifts) != 0
        return unpack(fields, packed)._replace(graph_usable=usable)  # type: ignore[no-any-return]

    return broken


def _unsynchronised(original: Any) -> Any:
    def broken(self: Any, batch: LocalBatch) -> PendingStep:
        if self.vllm_config.model_config.enforce_eager:
            same = batch.alone()._replace(tokens_per_rank=(batch.num_tokens,) * self.dp_size)
            return PendingStep(known=same)
        return original(self, batch)  # type: ignore[no-any-return]

    return broken


def _idle_says_nothing(original: Any) -> Any:
    def broken(self: Any, num_tokens: int, with_prefill: bool, *_: Any) -> StepPlan:
        alone = LocalBatch(num_tokens, with_prefill).alone()
        same = alone._replace(tokens_per_rank=(num_tokens,) * self.dp_size)
        self.step = StepPlan(same, self.dp_rank)
        return self.step  # type: ignore[no-any-return]

    return broken


def _producer_afterwards(original: Any) -> Any:
    def broken(self: Any, *batch: Any) -> StepPlan:
        role, self.is_kv_producer = self.is_kv_producer, False
        step = original(self, *batch)
        self.is_kv_producer = role
        if role:
            step = step._replace(metadata=step.metadata._replace(with_prefill=True))
        return step  # type: ignore[no-any-return]

    return broken


def _idle_runs_eager(original: Any) -> Any:
    def broken(self: Any, *batch: Any) -> StepPlan:
        step = original(self, *batch)
        self.step = step._replace(metadata=step.metadata._replace(graph_usable=False))
        return step  # type: ignore[no-any-return]

    return broken


def _own_count(original: Any) -> Any:
    def broken(self: Any, metadata: StepMetadata) -> Any:
        own = metadata.tokens_per_rank[self.dp_rank]
        return original(self, metadata._replace(tokens_per_rank=(own,) * self.dp_size))

    return broken


def _drafter_synchronises(original: Any) -> Any:
    def broken(self: Any, requests: int, kept: int, *rest: Any) -> None:
        if self.deployment.drafter.value == "deepseek_mtp":
            self._issue_step(LocalBatch(kept, False)).result()
        original(self, requests, kept, *rest)

    return broken


def _own_counts_handed_on(original: Any) -> Any:
    def broken(plan: StepPlan, rows: int) -> Any:
        own = plan if len(plan.metadata.tokens_per_rank) == 1 else plan._replace(uniform_size=rows)
        return original(own, rows)

    return broken


def _without_group(group: RowGroup) -> Break:
    return lambda sizes_of: lambda config: {one: size for one, size in sizes_of(config).items() if one is not group}


def _own_count_of_o_proj(original: Any) -> Any:
    """TorchAir's graphs make the rows equal, so that no other break of this group shows."""

    def broken(self: Any, metadata: StepMetadata) -> Any:
        if RowGroup.O_PROJ not in self._row_groups:
            return original(self, metadata)
        own = metadata.tokens_per_rank[self.dp_rank]
        return original(self, metadata._replace(tokens_per_rank=(own,) * self.dp_size))

    return broken


def _kept_tokens(original: Any) -> Any:
    return lambda plan, tokens: (tokens, plan.with_rows(tokens))


def _lmhead_of_requests(original: Any) -> Any:
    return property(lambda self: self.max_num_reqs if self.step.with_prefill else original.fget(self))


def _lmhead_of_own_tokens(original: Any) -> Any:
    def broken(self: Any) -> int:
        own = self.step.metadata.tokens_per_rank[self.dp_rank]
        return original.fget(self) if self.step.with_prefill else own  # type: ignore[no-any-return]

    return property(broken)


def _unpadded(original: Any) -> Any:
    return lambda self, hidden_states: hidden_states


def _joins_nothing(original: Any) -> Any:
    return lambda self, hidden_states: None


def _mc2_everywhere(original: Any) -> Any:
    return property(lambda config: config.ep_size >= moe_comm.MC2_MIN_EP_SIZE)


def _any_batch_fits(original: Any) -> Any:
    return lambda self, num_tokens, uniform_decode: original(self, num_tokens, True)


def _without_the_largest(original: Any) -> Any:
    return lambda *limits: original(*limits)[:-1] or [1]


_STEP, _GROUPS = DataParallelStep, THIS.row_groups
_ALL = (
    Mutant("the pack leaves the prefill flag out", BitFields, "pack", _without(with_prefill=False)),
    Mutant("the pack leaves the graph flag out", BitFields, "pack", _without(graph_usable=True)),
    Mutant("every rank packs its count at rank 0's place", BitFields, "pack", _slot_zero),
    Mutant("one graph is enough: any instead of all", BitFields, "unpack", _any_graph),
    Mutant("enforce_eager does not synchronise (D1)", _STEP, "_issue_step", _unsynchronised),
    Mutant("an idle rank does not synchronise", _STEP, "_dummy_step", _idle_says_nothing),
    Mutant("a KV producer says prefill after the ranks agreed (D3)", _STEP, "_dummy_step", _producer_afterwards),
    Mutant("an idle rank runs eager (D4)", _STEP, "_dummy_step", _idle_runs_eager),
    Mutant("a rank pads to its own count", _STEP, "_uniform_size", _own_count),
    Mutant("the counts handed on are the rank's own", StepPlan, "with_rows", _own_counts_handed_on),
    Mutant("an MTP drafter computes the tokens it kept", StepPlan, "drafter_rows", _kept_tokens),
    Mutant("an MTP drafter synchronises again (D16)", patched._Patched, "_draft", _drafter_synchronises),
    Mutant("lm-head rows of a prefill are max_num_seqs (D9)", _STEP, "lmhead_rows", _lmhead_of_requests, _GROUPS),
    Mutant("lm-head rows of a decode are the rank's own", _STEP, "lmhead_rows", _lmhead_of_own_tokens, _GROUPS),
    Mutant("Eagle's lm-head rows are a rank's requests (D9)", _STEP, "pad_lmhead", _unpadded, _GROUPS and THIS.eagle),
    Mutant("the pack leaves the rounds for prompts out", BitFields, "pack", _without(prompt_rounds=0), _GROUPS),
    Mutant("an idle rank joins no round for prompts", _STEP, "join_prompt_logits", _joins_nothing, _GROUPS),
    Mutant("MLPs over the DP ranks are forgotten", upstream, "row_group_sizes", _without_group(RowGroup.MLP), _GROUPS),
    Mutant("an lm head over them is", upstream, "row_group_sizes", _without_group(RowGroup.LM_HEAD), _GROUPS),
    Mutant("an o_proj over them is", TorchairStep, "_uniform_size", _own_count_of_o_proj, THIS.splits_o_proj),
    Mutant(
        "shared-expert DP is forgotten",
        moe_comm.MoECommConfig,
        "needs_uniform_size",
        lambda _: lambda config, choice: config.sequence_parallel,
        _GROUPS,
    ),
    Mutant(
        "sequence parallelism is forgotten",
        moe_comm.MoECommConfig,
        "needs_uniform_size",
        lambda original: lambda config, choice: not config.sequence_parallel and original(config, choice),
        THIS.sequence_parallel,
    ),
    Mutant("a full decode graph takes any batch (D21)", _STEP, "_fits_graph", _any_batch_fits, THIS.full_decode_graphs),
    Mutant("MC2 takes 512 rows on an A2 (D7)", mc2, "MC2_ROWS_PER_RANK", lambda _: {"A2": 512, "A3": 512}),
    Mutant("MC2 on every SoC", moe_comm.MoECommConfig, "mc2_available", _mc2_everywhere),
    Mutant("the largest decode graph is left out (D6)", runner, "decode_graph_sizes", _without_the_largest),
)
MUTANTS = tuple(one for one in _ALL if one.concerns)
