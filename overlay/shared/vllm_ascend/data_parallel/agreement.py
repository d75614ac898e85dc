# SPDX-License-Identifier: Apache-2.0
"""The ranks hold their fingerprints against each other, over the store by which they have found each other.

Not a collective: a rank that does not run this patch set would not take part, and every other one would hang in it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Sequence

from torch.distributed import Store
from vllm.logger import logger

from vllm_ascend.data_parallel.fingerprint import Fingerprint, differences, reference

AGREED = "agreed"
_PREFIX = "vllm_ascend/data_parallel"
# For the others to read the verdict before this process, which may hold the store, ends.
_LEAVE_LIMIT_S = 5.0
_LEAVE_POLL_S = 0.05


class DisagreementError(RuntimeError):
    """A rank does not run this patch set, or not the same build or settings."""


@dataclass(frozen=True)
class Members:
    """The ranks that must agree: consecutive ranks of the world group, ``ranks_per_dp_rank`` for each DP rank."""

    ranks: Sequence[int]
    ranks_per_dp_rank: int = 1

    def name(self, rank: int) -> str:
        """What a user calls a rank."""
        dp_rank = (rank - self.ranks[0]) // self.ranks_per_dp_rank
        return f"DP rank {dp_rank}" if self.ranks_per_dp_rank == 1 else f"DP rank {dp_rank} (world rank {rank})"


def agree(store: Store, mine: Fingerprint, members: Members, limit_s: float) -> None:
    """Wait up to ``limit_s`` seconds for every member's fingerprint, and return if all are equal.

    Every member comes to the same verdict, that of the first to reach one. Raises ``DisagreementError`` on each of them
    that names the ranks that are missing or differ, their hosts, and how they differ.
    """
    store.set(key("details", mine.rank), mine.dumps())
    store.set(key("digest", mine.rank), mine.key)
    verdict = store.compare_set(key("verdict", members.ranks[0]), "", _verdict(store, members, limit_s)).decode()
    seen = store.add(key("seen", members.ranks[0]), 1)
    if verdict == AGREED:
        return
    logger.error(verdict)
    present = len(_digests(store, members))
    deadline = time.monotonic() + _LEAVE_LIMIT_S
    while seen < present and time.monotonic() < deadline:
        time.sleep(_LEAVE_POLL_S)
        seen = store.add(key("seen", members.ranks[0]), 0)
    raise DisagreementError(verdict)


def _verdict(store: Store, members: Members, limit_s: float) -> str:
    with suppress(RuntimeError):  # which ones are missing is seen below
        store.wait([key("digest", rank) for rank in members.ranks], timedelta(seconds=limit_s))
    digests = _digests(store, members)
    faults = [
        f"{members.name(rank)} on host {gloo_host(store, rank)} gave no fingerprint within {limit_s:g} s: it does not "
        "run this patch set, or has not started"
        for rank in members.ranks
        if rank not in digests
    ]
    common = reference(list(digests.values()))
    model = next(_details(store, rank) for rank, digest in digests.items() if digest == common)
    for rank, digest in digests.items():
        if digest != common:
            other = _details(store, rank)
            how = "; ".join(differences(model, other))
            faults.append(f"{members.name(rank)} on host {other.host} differs from {members.name(model.rank)}: {how}")
    if not faults:
        return AGREED
    return (
        "These ranks would hang at the first uneven step, because they do not run the same code or settings:\n  "
        + "\n  ".join(faults)
        + "\nInstall the same patched vllm-ascend, and set the same options, on every rank."
    )


def _digests(store: Store, members: Members) -> dict[int, str]:
    """Digest by rank of those that have given one."""
    keys = {rank: key("digest", rank) for rank in members.ranks}
    return {rank: store.get(key).decode() for rank, key in keys.items() if store.check([key])}


def _details(store: Store, rank: int) -> Fingerprint:
    return Fingerprint.loads(store.get(key("details", rank)))


def gloo_host(store: Store, rank: int) -> str:
    """The host that a rank named when the store's gloo group was made, whatever build it runs.

    gloo puts an eight-byte length and the host's name before the addresses (rendezvous/context.cc).
    """
    key = f"cpu//0/{rank}"
    if not store.check([key]):
        return "unknown"
    data = store.get(key)
    size = int.from_bytes(data[:8], "little")
    name = data[8 : 8 + size]
    return name.decode() if 0 < size == len(name) and name.isascii() else "unknown"


def key(*parts: object) -> str:
    return "/".join(map(str, (_PREFIX, *parts)))
