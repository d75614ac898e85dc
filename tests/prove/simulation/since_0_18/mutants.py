# SPDX-License-Identifier: Apache-2.0
"""The overlay broken on purpose, one way at a time: a proof that finds none of these would prove nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from vllm.config import CUDAGraphMode
from vllm_ascend.attention import mla_v1
from vllm_ascend.platform import NPUPlatform
from vllm_ascend.worker.worker import NPUWorker

from simulation.mutant import Break, Mutant
from simulation.since_0_18.drafters import Proposer
from simulation.since_0_18.releases import RUNNER, THIS
from vllm_ascend.data_parallel import mc2, runner, upstream
from vllm_ascend.data_parallel.metadata import GRAPH, WHOLE, BitFields, LocalBatch, StepMetadata
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.runner import DataParallelStep


def _without(**flags: Any) -> Break:
    """A batch that says ``flags`` whatever it is."""
    return lambda pack: lambda fields, batch, rank: pack(fields, batch._replace(**flags), rank)


def _slot_zero(pack: Any) -> Any:
    return lambda fields, batch, rank: pack(fields, batch, 0)


def _any_rank(flag: int, field: str) -> Break:
    """A flag that one rank is enough for."""

    def breaks(unpack: Any) -> Any:
        def broken(fields: BitFields, packed: int) -> StepMetadata:
            said = packed & fields._of_all[flag] != 0
            return unpack(fields, packed)._replace(**{field: said})  # type: ignore[no-any-return]

        return broken

    return breaks


def _own_mode(agree: Any) -> Any:
    def broken(self: Any, batch: LocalBatch) -> StepMetadata:
        own = {"graph_usable": batch.graph_usable, "whole_graph": batch.whole_graph}
        return agree(self, batch)._replace(**own)  # type: ignore[no-any-return]

    return broken


def _padded_by_own_mode(decide: Any) -> Any:
    """Every rank that could replay a graph takes the largest rank's rows, though all run eager (D24)."""

    def broken(self: Any, num_tokens: int, graph: CUDAGraphMode, dispatch: Any) -> Any:
        agreed = self._uniform_size

        def own(metadata: StepMetadata, *rest: Any) -> Any:
            return metadata.max_num_tokens if graph is not CUDAGraphMode.NONE else agreed(metadata, *rest)

        self._uniform_size = lambda metadata, *rest: (agreed if metadata.graph_usable else own)(metadata, *rest)
        try:
            return decide(self, num_tokens, graph, dispatch)
        finally:
            del self._uniform_size

    return broken


def _alone(decide: Any) -> Any:
    """Decides by itself, as if every rank had what this one has."""

    def broken(self: Any, num_tokens: int, graph: CUDAGraphMode, dispatch: Any) -> Any:
        same = LocalBatch(num_tokens, False, graph_usable=graph is not CUDAGraphMode.NONE).alone(self.dp_size)
        self._agree = lambda _: same._replace(whole_graph=graph is CUDAGraphMode.FULL)
        try:
            return decide(self, num_tokens, graph, dispatch)
        finally:
            del self._agree

    return broken


def _idle(breaks: Break) -> Break:
    """Breaks `decide_step` for ranks without a request."""

    def breaks_idle(decide: Any) -> Any:
        broken = breaks(decide)
        return lambda self, *step: (decide if self.input_batch.num_reqs else broken)(self, *step)

    return breaks_idle


def _eager(decide: Any) -> Any:
    def broken(self: Any, num_tokens: int, graph: CUDAGraphMode, dispatch: Any) -> Any:
        agreed = decide(self, num_tokens, graph, dispatch)
        return (*dispatch(self.step.num_input_tokens, {CUDAGraphMode.NONE}), agreed[-1])

    return broken


def _own_count(original: Any) -> Any:
    def broken(self: Any, metadata: StepMetadata, dispatch: Any) -> Any:
        own = metadata.tokens_per_rank[self.dp_rank]
        return original(self, metadata._replace(tokens_per_rank=(own,) * self.dp_size), dispatch)

    return broken


def _own_counts_handed_on(original: Any) -> Any:
    return lambda plan, rows: original(plan._replace(uniform_size=rows), rows)


def _without_group(group: str) -> Break:
    return lambda sizes: lambda *config: {one: size for one, size in sizes(*config).items() if one.name != group}


def _never(_: Any) -> Any:
    return lambda *_, **__: False


def _always(*_: Any) -> bool:
    return True


def _property(value: Any) -> Break:
    return lambda _: property(value)


def _skips_first(sync: Any) -> Any:
    """A drafter keeps its own rows where upstream needs no counts of it, whatever else exchanges them."""

    def broken(self: Any, rows: int, **named: Any) -> Any:
        if self.dp_size > 1 and RUNNER.should_skip_allreduce_across_dp_group(self.vllm_config, True):
            return rows, torch.tensor([rows] * self.dp_size, dtype=torch.int32), False
        return sync(self, rows, **named)

    # No other program's, which would decide the steps.
    broken.__code__ = broken.__code__.replace(co_filename=sync.__code__.co_filename)
    return broken


def _kept_tokens(original: Any) -> Any:
    def broken(self: Any) -> Any:
        own = self.step.metadata.tokens_per_rank[self.dp_rank]
        return own, self.step.with_rows(own)

    return broken


def _drafts_once(draft: Any) -> Any:
    """A rank that prefills leaves after its first draft (D27)."""

    def broken(self: Any, **inputs: Any) -> Any:
        if not (self.dcp_size > 1 and inputs.get("is_prefill")):
            return draft(self, **inputs)
        drafts, self.num_speculative_tokens = self.num_speculative_tokens, 1
        try:
            return draft(self, **inputs)
        finally:
            self.num_speculative_tokens = drafts

    return broken


def _own_rows(self: Any, num_tokens: int) -> int:
    return num_tokens


def _leaves(original: Any) -> Any:
    return lambda self: None


# Whether a drafter may replay a graph after the step in hand.
_REPLAYS = "drafter_may_replay" if hasattr(DataParallelStep, "drafter_may_replay") else "step_replays"
_STEP, _NO_GROUP = DataParallelStep, partial(Mutant, owner=upstream, attribute="row_group_sizes")
_COUNTS = (
    Mutant("a step counts for the loads by a rank's own rows (D29)", _STEP, "most_rows", lambda _: _own_rows),
    Mutant(
        "loads do without the counts where MC2 alone meets (D29)",
        _STEP,
        "_collects_by_rows",
        _property(lambda self: False),
    ),
    Mutant("counts are reduced on hosts that are not reliable", upstream, "metadata_on_hosts", lambda _: _always),
    Mutant("a drafter's experts are forgotten (D34)", _STEP, "_drafter_exchanges", _property(lambda self: False)),
)
_ALL = (
    Mutant("the pack leaves the graph flag out", BitFields, "pack", _without(graph_usable=True, whole_graph=True)),
    Mutant("every rank packs its count at rank 0's place", BitFields, "pack", _slot_zero),
    Mutant("one graph is enough: any instead of all", BitFields, "unpack", _any_rank(GRAPH, "graph_usable")),
    Mutant("one whole graph is enough", BitFields, "unpack", _any_rank(WHOLE, "whole_graph")),
    Mutant("ranks do not agree on the mode: each replays what it could", _STEP, "_agree", _own_mode),
    Mutant("a rank pads by its own mode (D24)", _STEP, "decide_step", _padded_by_own_mode),
    Mutant("a rank pads to its own count", _STEP, "_uniform_size", _own_count),
    Mutant(
        "the mode is not agreed where the counts are skipped (D23)",
        _STEP,
        "_must_agree",
        _property(lambda self: not self._alone),
    ),
    Mutant("no rank synchronises", _STEP, "decide_step", _alone),
    Mutant("an idle rank does not synchronise", _STEP, "decide_step", _idle(_alone)),
    Mutant("an idle rank runs eager (D4)", _STEP, "decide_step", _idle(_eager)),
    Mutant("an idle rank leaves", NPUWorker, "execute_dummy_batch", _leaves),
    Mutant("the counts handed on are the rank's own", StepPlan, "with_rows", _own_counts_handed_on),
    _NO_GROUP(
        "an embedding over the DP ranks is forgotten (D26)",
        breaks=_without_group("EMBEDDING"),
        concerns=not THIS.constant_embedding,
    ),
    _NO_GROUP("MLPs over them are (D26)", breaks=_without_group("MLP")),
    _NO_GROUP("an o_proj over them is (D26)", breaks=_without_group("O_PROJ")),
    Mutant("a drafter's are (D40)", RUNNER.NPUModelRunner, "_sync_metadata_across_dp", _skips_first),
    Mutant("a draft has a row for each request (D40)", _STEP, "drafter_gathers", _property(lambda self: False)),
    Mutant("an idle rank's attention projects nothing (D41)", mla_v1, "oproj_tp_enable", _never),
    Mutant("beyond MC2 a rank goes on alone (D42)", _STEP, "_beyond_mc2", _never),
    Mutant("no decode is expected there (D42)", _STEP, "_decodes_beyond_mc2", _property(lambda self: False)),
    Mutant("sequence parallelism by the pass is forgotten (D33)", runner, "enable_sp_by_pass", _never),
    Mutant("a drafter reduces the counts again (D34)", _STEP, "drafter_follows_step", _property(lambda self: False)),
    Mutant("a drafter replays though its step runs eager (D34)", _STEP, _REPLAYS, _property(lambda self: True)),
    Mutant("a drafter computes the rank's own tokens", _STEP, "drafter_rows", _kept_tokens),
    Mutant("a rank that prefills drafts once (D27)", Proposer, "_run_merged_draft", _drafts_once),
    Mutant("MC2 takes 512 rows on an A2 (D7)", mc2, "MC2_ROWS_PER_RANK", lambda _: {"A2": 512, "A3": 512}),
    *(_COUNTS if THIS.balances else ()),
    Mutant("logprobs of a prompt are not refused (D39)", NPUPlatform, "validate_request", _never),
)
MUTANTS = tuple(one for one in _ALL if one.concerns)
