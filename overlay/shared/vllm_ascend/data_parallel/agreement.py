# SPDX-License-Identifier: Apache-2.0
"""The ranks hold their fingerprints against each other, over the store by which they have found each other.

Not a collective: a rank that does not run this patch set would not take part, and every other one would hang in it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Optional, Sequence

from torch.distributed import Store
from vllm.logger import logger

from vllm_ascend.data_parallel.fingerprint import Fingerprint, differences, reference
from vllm_ascend.data_parallel.told import key, tell, tell_text, told, told_text

AGREED = "agreed"
# For the others to read the verdict before this process, which may hold the store, ends.
_LEAVE_LIMIT_S = 5.0
_LEAVE_POLL_S = 0.05
FOR_EVER = timedelta(days=365)


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

    def after(self, rank: int) -> int:
        """The next rank, in a ring."""
        return self.ranks[(rank - self.ranks[0] + 1) % len(self.ranks)]

    def place_in_dp_rank(self, rank: int) -> int:
        """Which of its DP rank's processes it is; those of one place are one DP group."""
        return (rank - self.ranks[0]) % self.ranks_per_dp_rank


def agree(store: Store, mine: Fingerprint, members: Members, look_s: Optional[float], limit_s: Optional[float]) -> None:
    """Wait up to ``limit_s`` seconds for every member's fingerprint, None for ever, and return if all are equal.

    After ``look_s``, None for never, those that have come are held against each other, and who is missing is named in a
    warning: a host that reads from a cold disk may take long.

    Every member comes to the same verdict, that of the first to reach one: the last that comes, or one whose limit is
    over. So all but that one ask the store a fixed number of times, however many there are. Raises
    ``DisagreementError`` on each of them that names the ranks that are missing or differ, their hosts, and how they
    differ.
    """
    tell_text(store, key("details", mine.rank), mine.dumps())
    tell(store, key("digest", mine.rank), mine.key)
    decided = key("verdict", members.ranks[0])
    if store.add(key("come", members.ranks[0]), 1) < len(members.ranks):
        _wait(store, members, decided, look_s, limit_s)
    if not store.check([decided]):
        tell_text(store, key("verdict of", mine.rank), _verdict(store, members, limit_s))
        store.compare_set(decided, "", str(mine.rank))
    verdict = told_text(store, key("verdict of", store.get(decided).decode()))
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


def _wait(store: Store, members: Members, decided: str, look_s: Optional[float], limit_s: Optional[float]) -> None:
    """Wait for a verdict, until the limit or until one can be reached."""
    if look_s is not None and (limit_s is None or look_s < limit_s):
        if _comes(store, decided, look_s):
            return
        digests = _digests(store, members)
        if len(set(digests.values())) > 1:
            return
        missing = ", ".join(members.name(rank) for rank in members.ranks if rank not in digests)
        text = "%s gave no fingerprint within %g s: not started yet, or without this patch set; waiting on"
        logger.warning(text, missing, look_s)
        limit_s = None if limit_s is None else limit_s - look_s
    _comes(store, decided, limit_s)


def _comes(store: Store, key: str, limit_s: Optional[float]) -> bool:
    with suppress(RuntimeError):
        store.wait([key], FOR_EVER if limit_s is None else timedelta(seconds=limit_s))
        return True
    return False


def _verdict(store: Store, members: Members, limit_s: Optional[float]) -> str:
    digests = _digests(store, members)
    faults = [
        f"{members.name(rank)} on host {gloo_host(store, rank)} gave no fingerprint within {limit_s:g} s: it does not "
        "run this patch set, or has not started"
        for rank in members.ranks
        if rank not in digests and limit_s is not None
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
    found = told(store, {rank: key("digest", rank) for rank in members.ranks})
    return {rank: data.decode() for rank, data in found.items()}


def _details(store: Store, rank: int) -> Fingerprint:
    return Fingerprint.loads(told_text(store, key("details", rank)))


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
