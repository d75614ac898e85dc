# SPDX-License-Identifier: Apache-2.0
"""What many ranks ask of the one store by which they found each other: at start, in each period, and when they wait.

``python store_requests.py --ranks 1024 --out FILE`` with the patched tree, vLLM and the NPU's stand-in on PYTHONPATH.
Each rank is a thread with a connection of its own, in a few processes; the store has a process to itself.

Of beats the store's CPU time counts: on a cluster each rank has a core of its own, and only the store is shared.
"""

import argparse
import json
import multiprocessing
import multiprocessing.synchronize
import os
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from selftest.bench.pairs import Pair, Row, compared
from vllm_ascend.data_parallel.agreement import Members, agree
from vllm_ascend.data_parallel.beats import Beat, Collective, State
from vllm_ascend.data_parallel.fingerprint import Fingerprint
from vllm_ascend.data_parallel.told import key, tell, told

AGREEMENT_S, BEATS_S, LOOKING_S = 5.0, 0.2, 5.0
TURNS, PROCESSES = 6, 8
PATIENCE = timedelta(seconds=300)
# As many as a real rank has.
FACTS, FILES = 60, 350
FORK = multiprocessing.get_context("fork")


def keep(tell: Callable[[int], None]) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    tell(store.port)
    threading.Event().wait()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Crowd:
    """Some of the ranks, in one process, which do a thing together with those of the other processes."""

    def __init__(self, ranks: range, size: int, keeper: tuple[int, int], barrier: Any) -> None:
        self.ranks, self.size = ranks, size
        self._keeper, port = keeper
        self._barrier = barrier
        self.stores = {rank: TCPStore("127.0.0.1", port, is_master=False, timeout=PATIENCE) for rank in ranks}

    def together(self, one: Callable[[int], object]) -> tuple[float, float]:
        """Elapsed seconds until all ranks have done it, and seconds of the store's CPU time."""
        threads = [threading.Thread(target=one, args=(rank,)) for rank in self.ranks]
        self._barrier.wait()
        begin, before = time.monotonic(), cpu_seconds(self._keeper)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._barrier.wait()
        return time.monotonic() - begin, cpu_seconds(self._keeper) - before


def beat(rank: int, size: int) -> str:
    collective = Collective("all_reduce", "of the metadata", (0, size), 1000)
    at = "vllm_ascend/data_parallel/synchronizer.py:37 in result"
    return Beat(rank, 12, State.COLLECTIVE, 1000, "METADATA", 61.5, at, collective, "deadbeef").dumps()


def run(crowd: Crowd, answer: Callable[[dict[str, tuple[float, float]]], None]) -> None:
    stores, members = crowd.stores, Members(range(crowd.size))
    facts, files = {f"fact {n}": "value" for n in range(FACTS)}, {f"p/{n}.py": "a" * 64 for n in range(FILES)}
    beats = {rank: key("beat/rank", rank) for rank in members.ranks}
    quarter = dict(list(beats.items())[: crowd.size // 4])

    def one_by_one(rank: int) -> None:
        for name in quarter.values():
            if stores[rank].check([name]):
                stores[rank].get(name)

    found = {
        "agreement": crowd.together(
            lambda rank: agree(stores[rank], Fingerprint(rank, "h", facts, files), members, None, 300)
        ),
        "beats": crowd.together(lambda rank: tell(stores[rank], beats[rank], beat(rank, crowd.size))),
        "looking": crowd.together(lambda rank: told(stores[rank], beats)),
        "at once": crowd.together(lambda rank: told(stores[rank], quarter)),
        "by itself": crowd.together(one_by_one),
    }
    answer(found)


def turn(size: int) -> dict[str, tuple[float, float]]:
    """One start of so many ranks: each thing's elapsed seconds of the slowest process, and the store's CPU seconds."""
    ports, answers, barrier = FORK.SimpleQueue(), FORK.Queue(), FORK.Barrier(PROCESSES)
    keeper = FORK.Process(target=keep, args=(ports.put,), daemon=True)
    keeper.start()
    port = ports.get()
    assert keeper.pid is not None

    def crowd(number: int) -> None:
        assert keeper.pid is not None
        ranks = range(number * size // PROCESSES, (number + 1) * size // PROCESSES)
        run(Crowd(ranks, size, (keeper.pid, port), barrier), answers.put)

    processes = [FORK.Process(target=crowd, args=(number,)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    keeper.kill()
    keeper.join()
    return {name: (max(one[name][0] for one in found), max(one[name][1] for one in found)) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=1024)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    turns = [turn(arguments.ranks) for _ in range(TURNS)]
    size = arguments.ranks

    def row(name: str, pairs: list[Pair], against: str = "what it may take") -> Row:
        return compared("Many ranks on one store", f"{size} ranks {name} (s)", against, pairs, 1.0)

    rows = [
        row("have the verdict at start, elapsed", [(AGREEMENT_S, one["agreement"][0]) for one in turns]),
        row("tell a beat, CPU time of the store", [(BEATS_S, one["beats"][1]) for one in turns]),
        row("read all beats, CPU time of the store", [(LOOKING_S, one["looking"][1]) for one in turns]),
        row(
            "read a quarter of the beats, elapsed",
            [(one["by itself"][0], one["at once"][0]) for one in turns],
            "one by one",
        ),
    ]
    arguments.out.write_text(json.dumps({"rows": [asdict(one) for one in rows]}, indent=1))


if __name__ == "__main__":
    main()
