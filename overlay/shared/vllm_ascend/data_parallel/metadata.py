# SPDX-License-Identifier: Apache-2.0
"""What the data-parallel ranks tell each other once a step, and its packed form.

Packed, a step is a string of bits in which every rank owns a field; rank r's begins at bit ``r * width``::

    [prompt rounds | tokens - 1 | whole graph : 1 | prefill : 1 | DBO : 1 | graph usable : 1]

with as many bits for the first two as their largest value needs; none for prompt rounds where there can be none, and
none for whole graphs where the release's graphs are all of one kind.

A rank fills its own field in a string of zeros. No bit is ever set twice, so that a SUM all-reduce, over words of any
size, is an OR: nothing carries from one word into the next, and a field may lie across two.

The string is short because its length is what a small collective costs where a ring carries every element as a message
of its own, as gloo's does: half a word of 32 bits for each rank with batches of up to 8192 tokens.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

PREFILL, DBO, GRAPH, WHOLE = 0b0001, 0b0010, 0b0100, 0b1000
FLAG_BITS = 3  # and one more where there are whole graphs

# Most ranks whose fields are read by shifting the whole string. Each shift copies the string, so that the time grows
# with the square of the ranks; an array has a fixed cost, which pays from here on.
_MOST_SHIFTED = 128
_WINDOW = np.dtype("<u8")  # read at the byte in which a field begins: holds any field of up to 57 bits


class GraphMode(IntEnum):
    """What of a forward a graph holds: nothing, what lies between attentions, all. The values are vLLM's."""

    NONE = 0
    PIECEWISE = 1
    FULL = 2


class LocalBatch(NamedTuple):
    """What one rank brings to a step.

    ``num_tokens`` counts scheduled tokens, without any padding. ``graph_usable`` says that this rank could replay a
    captured ACL graph for a batch of that many tokens; ``whole_graph``, only with it, that the graph would hold all of
    the forward, where the release has both kinds. ``prompt_rounds`` is how many times this rank runs a parallel lm head
    for the logprobs of prompts.
    """

    num_tokens: int
    with_prefill: bool
    enable_dbo: bool = False
    graph_usable: bool = False
    prompt_rounds: int = 0
    whole_graph: bool = False

    def alone(self, dp_size: int = 1) -> StepMetadata:
        """The metadata of a step in which no other rank matters, as if all ``dp_size`` brought what this one does."""
        return StepMetadata(
            (self.num_tokens,) * dp_size,
            self.with_prefill,
            self.enable_dbo,
            self.graph_usable,
            self.prompt_rounds,
            self.whole_graph,
        )


class StepMetadata(NamedTuple):
    """What every rank knows of a step after its one collective; equal on all ranks by construction.

    Where no rank depends on another's batch there is no collective, and each knows its own batch: `LocalBatch.alone`.

    ``prompt_rounds`` is the largest over the ranks.
    """

    tokens_per_rank: tuple[int, ...]
    with_prefill: bool
    enable_dbo: bool
    graph_usable: bool
    prompt_rounds: int = 0
    whole_graph: bool = False

    @property
    def graph_mode(self) -> GraphMode:
        """The least of what the ranks could replay."""
        return GraphMode.FULL if self.whole_graph else GraphMode.PIECEWISE if self.graph_usable else GraphMode.NONE

    @property
    def max_num_tokens(self) -> int:
        """The largest unpadded count over the ranks."""
        return max(self.tokens_per_rank)


class BitFields:
    """The layout of the packed form: ``num_bits`` bits, ``width`` of them for each rank.

    ``max_num_tokens`` is the largest batch that a rank can bring, ``max_prompt_rounds`` the most rounds for prompts'
    logprobs, 0 where no lm head is parallel, and ``whole_graphs`` says whether the release has such graphs beside
    others; all must be the same on every rank.
    """

    def __init__(
        self, dp_size: int, max_num_tokens: int, max_prompt_rounds: int = 0, whole_graphs: bool = False
    ) -> None:
        self.max_num_tokens, self.max_prompt_rounds = max_num_tokens, max_prompt_rounds
        self.whole_graphs = whole_graphs
        token_bits = (max_num_tokens - 1).bit_length()
        self._tokens_shift = FLAG_BITS + whole_graphs
        self.width = self._tokens_shift + token_bits + max_prompt_rounds.bit_length()
        self._token_mask = (1 << token_bits) - 1
        self._rounds_shift = self._tokens_shift + token_bits
        self.num_bits = dp_size * self.width
        self._shifts = range(0, self.num_bits, self.width)
        self._field = (1 << self.width) - 1
        one_of_each = sum(1 << shift for shift in self._shifts)
        self._of_all = {flag: flag * one_of_each for flag in (PREFILL, DBO, GRAPH, WHOLE)}
        begins = np.arange(dp_size, dtype=np.int64) * self.width
        self._begin_bytes, self._begin_bits = begins >> 3, (begins & 7).astype(_WINDOW)

    def pack(self, batch: LocalBatch, dp_rank: int) -> int:
        """A rank's summand. Raises ``ValueError`` for a batch that its field cannot hold."""
        if not 1 <= batch.num_tokens <= self.max_num_tokens:
            raise ValueError(f"a batch of {batch.num_tokens} tokens; from 1 to {self.max_num_tokens} can be told")
        if batch.prompt_rounds > self.max_prompt_rounds:
            raise ValueError(f"{batch.prompt_rounds} prompt rounds; up to {self.max_prompt_rounds} can be told")
        field = (
            batch.prompt_rounds << self._rounds_shift
            | (batch.num_tokens - 1) << self._tokens_shift
            | WHOLE * (batch.whole_graph and self.whole_graphs)
            | PREFILL * batch.with_prefill
            | DBO * batch.enable_dbo
            | GRAPH * batch.graph_usable
        )
        return field << self._shifts[dp_rank]

    def unpack(self, packed: int) -> StepMetadata:
        """Read the sum over the ranks: one has a prefill; all have DBO, a graph, a whole graph."""
        of_all = self._of_all
        tokens, prompt_rounds = self._counts(packed)
        return StepMetadata(
            tokens_per_rank=tuple(tokens),
            with_prefill=packed & of_all[PREFILL] != 0,
            enable_dbo=packed & of_all[DBO] == of_all[DBO],
            graph_usable=packed & of_all[GRAPH] == of_all[GRAPH],
            prompt_rounds=prompt_rounds,
            whole_graph=self.whole_graphs and packed & of_all[WHOLE] == of_all[WHOLE],
        )

    def _counts(self, packed: int) -> tuple[list[int], int]:
        """Each rank's tokens, and the most prompt rounds."""
        if len(self._shifts) > _MOST_SHIFTED:
            fields = self._fields(packed)
            return ((fields >> self._tokens_shift & self._token_mask) + 1).tolist(), int(
                fields.max()
            ) >> self._rounds_shift
        low = self._tokens_shift
        mask = self._token_mask << low
        tokens = [((packed >> shift & mask) >> low) + 1 for shift in self._shifts]
        if not self.max_prompt_rounds:
            return tokens, 0
        return tokens, max([packed >> shift & self._field for shift in self._shifts]) >> self._rounds_shift

    def _fields(self, packed: int) -> np.ndarray:
        """Every rank's field as a number, shape ``[dp_size]``, in time linear in the ranks."""
        num_bytes = -(-self.num_bits // 8)
        data = packed.to_bytes(num_bytes + _WINDOW.itemsize, "little")
        windows = np.ndarray((num_bytes,), _WINDOW, data, strides=(1,))[self._begin_bytes]
        fields: np.ndarray = windows >> self._begin_bits & self._field
        return fields
