# SPDX-License-Identifier: Apache-2.0
"""The simulated collectives: they reduce as real ones do, and a schedule that would hang a cluster ends at once."""

from __future__ import annotations

import pytest
import torch

from simulation.network import Call, Hang, Mismatch, Network

REDUCE = Call("dp", "all_reduce", (2,))


def test_an_all_reduce_sums_over_the_ranks_and_nobody_leaves_before_the_last_joins() -> None:
    network, order = Network(3), []
    tensors = [torch.tensor([rank, 1]) for rank in range(3)]

    def body() -> None:
        rank = network.rank
        work = network.issue(REDUCE, tensors[rank])
        order.append(("issued", rank))
        work.wait()
        order.append(("left", rank))

    network.run([body] * 3)
    assert all(tensor.tolist() == [3, 3] for tensor in tensors)
    assert [what for what, _ in order] == ["issued"] * 3 + ["left"] * 3
    assert network.calls == [REDUCE]


def test_ranks_may_be_several_unawaited_collectives_apart() -> None:
    network = Network(2)
    network.run([lambda: [network.issue(REDUCE) for _ in range(5)] and None] * 2)
    assert network.calls == [REDUCE] * 5


@pytest.mark.parametrize(
    "other", [Call("dp", "all_gather", (2,)), Call("ep", "all_reduce", (2,)), Call("dp", "all_reduce", (3,))]
)
def test_another_name_group_or_shape_in_one_place_is_a_mismatch(other: Call) -> None:
    network = Network(2)
    with pytest.raises(Mismatch, match=r"rank 0 issues all_reduce\[dp\]2, rank 1 "):
        network.run([lambda: network.issue(REDUCE) and None, lambda: network.issue(other) and None])


def test_a_rank_that_waits_for_one_that_has_ended_hangs() -> None:
    network = Network(2)
    with pytest.raises(Hang, match=r"rank 0 waits in all_reduce.* for rank 1"):
        network.run([lambda: network.issue(REDUCE).wait() and None, lambda: None])


def test_a_collective_that_one_rank_never_issues_is_a_hang_though_nobody_waits_for_it_here() -> None:
    network = Network(2)
    with pytest.raises(Hang, match="which rank 1 never does"):
        network.run([lambda: network.issue(REDUCE) and None, lambda: None])


def test_what_a_rank_raises_ends_the_run() -> None:
    network = Network(2)

    def fails() -> None:
        raise ValueError("from rank 1")

    with pytest.raises(ValueError, match="from rank 1"):
        network.run([lambda: network.issue(REDUCE).wait() and None, fails])
