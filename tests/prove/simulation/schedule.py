# SPDX-License-Identifier: Apache-2.0
"""What is simulated: a deployment, and what its schedulers give each rank in each step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Mode(Enum):
    EAGER = "eager"
    ACL_GRAPH = "ACL graph"
    FULL_DECODE = "full decode graph"
    BOTH = "full decode graph beside ACL graph"
    TORCHAIR = "TorchAir"

    @property
    def acl_graphs(self) -> bool:
        return self in (Mode.ACL_GRAPH, Mode.FULL_DECODE, Mode.BOTH)


class Layers(Enum):
    """Which of upstream's MoE layers the model has: Qwen3-MoE under ACL graph generic ones, DeepSeek custom ones.

    Since 0.11.0 custom ones are those of TorchAir's runner alone. Since 0.18.0 there is one kind of MoE layer, and
    custom says that the attention is DeepSeek's, with its output projection within.
    """

    DENSE = "dense"
    GENERIC = "generic MoE"
    CUSTOM = "custom MoE"


class KVRole(Enum):
    NONE = "none"
    PRODUCER = "kv_producer"
    CONSUMER = "kv_consumer"
    BOTH = "kv_both"


class Drafter(Enum):
    NONE = "none"
    NGRAM = "ngram"
    EAGLE = "eagle"
    MTP = "deepseek_mtp"


class Loads(Enum):
    """In which steps the loads of experts are counted, for balancing them; each rank counts all of its steps or those
    of some sizes."""

    NONE = "none"
    ALL = "all"
    PREFILL = "prefill"
    DECODE = "decode"


class Kind(Enum):
    """What a rank has in a step. An idle rank has no request; an aborted one lost its requests to their clients after
    it was woken; a waiting one has requests whose KV cache is still on its way. All three run a dummy batch."""

    IDLE = "idle"
    ABORTED = "aborted"
    WAITING = "waiting for KV"
    DECODE = "decode"
    SPECULATIVE = "speculative decode"
    PREFILL = "prefill"
    CHUNKED = "chunked prefill"
    MIXED = "prefill with decodes"

    @property
    def busy(self) -> bool:
        return self not in (Kind.IDLE, Kind.ABORTED, Kind.WAITING)

    @property
    def prefills(self) -> bool:
        return self in (Kind.PREFILL, Kind.CHUNKED, Kind.MIXED)


@dataclass(frozen=True)
class Deployment:
    """What all ranks were started with.

    ``graph_sizes`` are ACL graph's capture sizes in tokens, or TorchAir's in requests. ``drafts`` is the number of
    speculative tokens; with ``unpadded_drafter`` rejected ones are taken from the drafter's batch. ``sequence_pass`` is
    sequence parallelism by vLLM's compile pass, ``recompute`` a decode node whose scheduler prefills nothing,
    ``context_parallel`` the decodes' attention over tensor-parallel ranks. With ``prefill_mc2`` MC2 takes as many rows
    as a step may have, with ``counts_on_device`` no metadata goes over the hosts. All limits are per DP rank.
    """

    dp: int = 2
    tp: int = 1
    soc: str = "A2"
    mode: Mode = Mode.EAGER
    layers: Layers = Layers.CUSTOM
    expert_parallel: bool = False
    shared_expert_dp: bool = False
    lmhead_parallel: bool = False
    mlp_parallel: bool = False
    oproj_parallel: bool = False
    embedding_parallel: bool = False
    sequence_parallel: bool = False
    sequence_pass: bool = False
    context_parallel: bool = False
    recompute: bool = False
    unpadded_drafter: bool = False
    dbo: bool = False
    cpu_group: bool = False
    prefill_mc2: bool = False
    counts_on_device: bool = False
    loads: Loads = Loads.NONE
    kv_role: KVRole = KVRole.NONE
    drafter: Drafter = Drafter.NONE
    drafts: int = 0
    max_num_seqs: int = 16
    max_num_batched_tokens: int = 64
    graph_sizes: tuple[int, ...] = (1, 8)

    @property
    def ep_size(self) -> int:
        """Ranks of the expert-parallel group."""
        return self.dp * self.tp if self.expert_parallel else 1

    @property
    def decode_tokens(self) -> int:
        """Tokens of one request in a decode step."""
        return 1 + self.drafts

    @property
    def gathers(self) -> bool:
        """Layers within the model exchange rows over the DP ranks, beside the experts."""
        return self.embedding_parallel or self.mlp_parallel or self.oproj_parallel

    @property
    def agrees_on_nothing(self) -> bool:
        """No rank's forward depends on another's batch."""
        return self.layers is Layers.DENSE and not (self.lmhead_parallel or self.gathers)

    @property
    def decodes_alone(self) -> bool:
        """No request is prefilled here, as upstream asks of these layers, or else no release makes their rows equal, or
        tells the ranks of it: with the recompute scheduler and without graphs they exchange nothing."""
        return (self.recompute and self.mode is Mode.EAGER) or (
            self.mode is Mode.TORCHAIR and (self.mlp_parallel or self.oproj_parallel)
        )

    def __str__(self) -> str:
        named = {
            "": (self.mode.value, self.layers.value, self.soc),
            "tp": self.tp,
            "expert parallel": self.ep_size if self.expert_parallel else None,
            "kv role": self.kv_role.value if self.kv_role is not KVRole.NONE else None,
            "drafter": f"{self.drafter.value} of {self.drafts}" if self.drafter is not Drafter.NONE else None,
            "loads of experts in steps of": self.loads.value if self.loads is not Loads.NONE else None,
            "graph sizes": None if self.mode is Mode.EAGER else list(self.graph_sizes),
        }
        flags = {
            "shared-expert DP": self.shared_expert_dp,
            "lm-head parallel": self.lmhead_parallel,
            "MLP parallel": self.mlp_parallel,
            "o_proj parallel": self.oproj_parallel,
            "embedding parallel": self.embedding_parallel,
            "sequence parallel": self.sequence_parallel,
            "sequence parallel by the pass": self.sequence_pass,
            "context parallel": self.context_parallel,
            "recompute scheduler": self.recompute,
            "unpadded drafter": self.unpadded_drafter,
            "DBO": self.dbo,
            "CPU group": self.cpu_group,
            "MC2 for prefills": self.prefill_mc2,
            "counts on the device": self.counts_on_device,
        }
        words = [f"DP {self.dp}", *named.pop("")]
        words += [f"{name} {value}" for name, value in named.items() if value not in (None, 1)]
        words += [name for name, on in flags.items() if on]
        return ", ".join([*words, f"max_num_seqs {self.max_num_seqs}", f"max tokens {self.max_num_batched_tokens}"])


@dataclass(frozen=True)
class Row:
    """One request in a batch: tokens computed before, tokens scheduled now, how many of those are drafts; and tokens of
    its prompt where their logprobs are asked for, else 0."""

    computed: int
    scheduled: int
    drafts: int = 0
    prompt: int = 0


@dataclass(frozen=True)
class Work:
    """What one rank has in one step: ``requests`` decodes, ``tokens`` of a prompt; ``rejected`` drafts of the step.

    ``logprobs`` says that those of the prompt are asked for.
    """

    kind: Kind = Kind.IDLE
    requests: int = 1
    tokens: int = 1
    rejected: int = 0
    logprobs: bool = False

    def rows(self, deployment: Deployment) -> tuple[Row, ...]:
        """The batch, cut to what the scheduler may hand out."""
        if not self.kind.busy:
            return ()
        budget, seqs = deployment.max_num_batched_tokens, deployment.max_num_seqs
        count = min(self.tokens, budget)
        if self.kind is Kind.PREFILL:
            return (Row(0, count, prompt=count * self.logprobs),)
        if self.kind is Kind.CHUNKED:  # neither the first tokens of the prompt nor its last
            return (Row(16, count, prompt=(16 + count + 1) * self.logprobs),)
        drafts = deployment.drafts if self.kind is not Kind.DECODE else 0
        prompt = () if self.kind is not Kind.MIXED or seqs < 2 else (Row(0, count, prompt=count * self.logprobs),)
        budget -= sum(row.scheduled for row in prompt)
        decodes = min(self.requests, seqs - len(prompt), budget // (1 + drafts))
        return (Row(16, 1 + drafts, drafts),) * decodes + prompt

    def __str__(self) -> str:
        words = {
            Kind.DECODE: f" of {self.requests}",
            Kind.SPECULATIVE: f" of {self.requests}" + (f", {self.rejected} rejected" if self.rejected else ""),
            Kind.PREFILL: f" of {self.tokens} tokens",
            Kind.CHUNKED: f" of {self.tokens} tokens",
            Kind.MIXED: f": {self.tokens} tokens, {self.requests} decodes",
        }
        return self.kind.value + words.get(self.kind, "") + ", prompt logprobs" * self.logprobs


@dataclass(frozen=True)
class Schedule:
    """Steps, each with one work per rank."""

    deployment: Deployment
    steps: tuple[tuple[Work, ...], ...]

    def lines(self) -> list[str]:
        """One line for the deployment and one for each step."""
        steps = [
            f"step {number}: " + "; ".join(f"rank {rank} {work}" for rank, work in enumerate(works))
            for number, works in enumerate(self.steps, 1)
        ]
        return [str(self.deployment), *steps]
