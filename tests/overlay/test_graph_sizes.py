# SPDX-License-Identifier: Apache-2.0
"""TorchAir's graph sizes: sorted, multiples, within the buffers, and covering the largest decode batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_ascend.data_parallel.graph_sizes import DecodeLimits, decode_graph_sizes

limits = st.builds(
    DecodeLimits,
    max_num_seqs=st.integers(1, 300),
    tokens_per_req=st.integers(1, 4),
    max_num_batched_tokens=st.integers(1, 2048),
    multiple_of=st.sampled_from([1, 2, 3, 4, 8, 16]),
    mc2_capacity=st.sampled_from([None, 256, 512]),
    pads_requests=st.booleans(),
)


@given(st.lists(st.integers(-5, 400), max_size=8), limits)
def test_sizes_cover_every_decode_batch_within_the_buffers_or_are_refused(
    requested: list[int], limit: DecodeLimits
) -> None:
    try:
        sizes = decode_graph_sizes(requested, limit)
    except ValueError as refusal:
        assert "max_num_seqs" in str(refusal) or "max_num_batched_tokens" in str(refusal)
        return
    assert sizes == sorted(set(sizes))
    assert all(size > 0 and size % limit.multiple_of == 0 and size % limit.tokens_per_req == 0 for size in sizes)
    assert sizes[-1] <= limit.max_num_batched_tokens
    assert limit.pads_requests or sizes[-1] <= limit.max_num_seqs * limit.tokens_per_req
    assert sizes[-1] >= limit.largest_batch
    assert limit.mc2_capacity is None or sizes[-1] <= limit.mc2_capacity


@given(limits)
def test_settings_that_divide_evenly_are_never_refused(limit: DecodeLimits) -> None:
    requests = limit.max_num_seqs * limit.multiple_of
    even = DecodeLimits(requests, limit.tokens_per_req, requests * limit.tokens_per_req, limit.multiple_of)
    assert decode_graph_sizes([], even)[-1] == requests * limit.tokens_per_req


@pytest.mark.parametrize(
    ("limit", "change"),
    [
        (DecodeLimits(30, 1, 30, multiple_of=4), "raise max_num_batched_tokens to 32"),
        (DecodeLimits(13, 1, 2048, multiple_of=8), "set max_num_seqs to 16 or 8"),
        (DecodeLimits(512, 2, 2048, mc2_capacity=512), "lower max_num_seqs to 256"),
        (DecodeLimits(4, 3, 2), "raise max_num_batched_tokens to 3"),
        # Six requests with a draft and one without are 13 tokens, which no whole number of requests of 2 is.
        (DecodeLimits(13, 2, 13), "raise max_num_batched_tokens to 14"),
    ],
)
def test_a_refusal_names_the_option_to_change(limit: DecodeLimits, change: str) -> None:
    with pytest.raises(ValueError, match=change):
        decode_graph_sizes([], limit)


def test_a_graph_of_more_requests_stays_where_the_release_pads_them() -> None:
    """Four requests of one token, over eight tensor-parallel ranks: upstream serves them on an A3 since #2719."""
    assert decode_graph_sizes([], DecodeLimits(4, 1, 1024, multiple_of=8, pads_requests=True)) == [8]
    with pytest.raises(ValueError, match="set max_num_seqs to 8"):
        decode_graph_sizes([], DecodeLimits(4, 1, 1024, multiple_of=8))


def test_requested_sizes_are_kept_and_the_largest_batch_is_added() -> None:
    assert decode_graph_sizes([8, 2, 500], DecodeLimits(24, 2, 2048, multiple_of=4)) == [4, 16, 48]
    assert decode_graph_sizes([], DecodeLimits(24, 2, 24)) == [2, 24]
