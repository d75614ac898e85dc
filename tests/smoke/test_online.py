# SPDX-License-Identifier: Apache-2.0
"""``vllm serve`` with data parallelism: however requests come and go, the tokens are Hugging Face's."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import serving
from checkpoints import Model
from fork_server import Launcher, Spawner
from job import Mode, Tree
from serving import NoAnswerError, Server

Serve = Callable[..., Server]
Expected = Callable[[Model], dict[int, list[int]]]

MODEL = Model.QWEN3_MOE
# The first request of an idle server is answered in well under a second.
HANG_LIMIT = 12.0
IDLE_SECONDS = 3.0
STAGGER_SECONDS = 0.15


@pytest.fixture(scope="module")
def serve(bench: Any, checkpoint: Callable[[Model], Path], launcher: Callable[[Tree], Launcher]) -> Iterator[Serve]:
    """``serve(tree, mode, dp_size)``: the server of these settings; one at a time, and none afterwards."""
    with ExitStack() as running:
        servers: dict[tuple[Tree, Mode, int], Server] = {}

        def serve(tree: Tree, mode: Mode, dp_size: int = 2) -> Server:
            wanted = tree, mode, dp_size
            if wanted not in servers:
                servers.clear()
                running.close()
                ranks = launcher(tree) if bench.standin else Spawner(serving.SCRIPT, bench.environment(tree))
                folder = bench.work / f"server-{tree.value}-{mode.name.lower()}-{dp_size}"
                server = serving.serving(checkpoint(MODEL), mode, dp_size, folder, ranks, fork=bool(bench.standin))
                servers[wanted] = running.enter_context(server)
            return servers[wanted]

        yield serve


@pytest.mark.defect("D1")
@pytest.mark.parametrize("tree", [Tree.PRISTINE])
def test_eager_server_never_answers_its_first_request(serve: Serve, tree: Tree, seen: Callable[[str], None]) -> None:
    server = serve(tree, Mode.EAGER)
    with pytest.raises(NoAnswerError) as caught:
        server.ask(0, limit=HANG_LIMIT)
    seen(f"the first request: {caught.value}")


@pytest.mark.defect("D1", "D18")
@pytest.mark.parametrize("tree", [Tree.PATCHED])
@pytest.mark.parametrize(
    ("mode", "dp_size"),
    [(Mode.EAGER, 2), (Mode.ACL_GRAPH, 2), (Mode.EAGER, 4)],
    ids=lambda it: str(getattr(it, "value", it)),
)
def test_server_answers(serve: Serve, expected: Expected, tree: Tree, mode: Mode, dp_size: int) -> None:
    """One request, more than ranks at once, staggered, one aborted beside others, and one after a pause."""
    server, want = serve(tree, mode, dp_size), expected(MODEL)
    assert server.ask(0) == want[0], "one request"
    assert server.ask_all() == want, "more requests than ranks"
    by_rank = server.generated()
    assert len(by_rank) == dp_size and all(by_rank.values()), f"a rank got nothing to do: {by_rank}"
    assert server.ask_all(pause=STAGGER_SECONDS) == want, "staggered"
    with ThreadPoolExecutor(1) as thread:
        others = thread.submit(server.ask_all)
        server.abort(2)
        assert others.result() == want, "beside one that is aborted"
    time.sleep(IDLE_SECONDS)
    assert server.ask(3) == want[3], "after a pause"
