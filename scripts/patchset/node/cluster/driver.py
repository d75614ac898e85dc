# SPDX-License-Identifier: Apache-2.0
"""The process that talks to Ray: one task as its last argument, one JSON event a line on stdout.

    {"nodes": [{id, host, address, name, alive, why}]}   the cluster as Ray knows it
    {"node": id, "survey": ... | "failed": why | "lost": why}
    {"ranks": [node id of each rank], "device": "npu" | "cpu"}
    {"rank": number, "result": ... | "failed": why | "lost": why}
    {"error": {kind, message, hint}}                     it could not go on
    {"end": true}                                        nothing else comes

"failed" is an exception of our own code there, "lost" a process or node that Ray cannot reach. No wait here is
longer than the task's limit; a Ray call that never comes back is the business of whoever started this process.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import patchset
from patchset.node.cluster.rank import Part, Rank
from patchset.node.cluster.schedule import Schedule
from patchset.node.cluster.survey import survey
from patchset.node.errors import Findings, PatchsetError, Unavailable, UsageError

Event = Mapping[str, Any]
Tell = Callable[[Event], None]

_CONNECT_S = 5.0
# After one rank is gone, how long the others may take to say so.
_GRACE_S = 5.0
# Reasons of a node's death that someone meant: `ray stop`, or an autoscaler (NodeDeathInfo.Reason of Ray's protocol).
_LEFT = (1, 3, 4)


def main() -> None:
    # Ray and what it loads may print; our events have a stdout of their own.
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(event: Event) -> None:
        print(json.dumps(event), file=events, flush=True)

    task = json.loads(sys.argv[-1])
    deadline = time.monotonic() + task["limit"]
    try:
        _connect(task["address"])
        if task["do"] == "survey":
            _survey(task["package"], tell, deadline)
        else:
            _run_ranks(task, tell, deadline)
    except PatchsetError as error:
        tell({"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}})
    tell({"end": True})  # Ray takes its leave at exit


def _connect(address: str) -> None:
    """Joins the cluster as a driver, and has our code travel by value. Raises UsageError where the address is no
    HOST:PORT; Unavailable where there is no Ray here, or no cluster there."""
    try:
        import ray
    except ImportError as error:
        hint = "run it with the Python that vLLM runs on, on a node"
        raise Unavailable(f"{sys.executable} cannot import Ray: {error}", hint=hint) from error
    where = "" if address == "auto" else f" at {address}"
    if where:
        _knock(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="patchset")
    except (RuntimeError, ConnectionError, OSError, ValueError, ray.exceptions.RayError) as error:
        hint = "run it on a node of the cluster, with that node's Python; `ray status` says whether Ray is up"
        raise Unavailable(f"cannot join the Ray cluster{where}: {' '.join(str(error).split())}", hint=hint) from error
    ray.cloudpickle.register_pickle_by_value(patchset)


def _knock(address: str) -> None:
    """Says at once what Ray would find out after a minute."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        hint = "give HOST:PORT of its head, or leave --address out"
        raise UsageError(f"{address!r} is no address of a cluster", hint=hint)
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        hint = "is the head up? `ray status --address HOST:PORT` says"
        raise Unavailable(f"no Ray cluster at {address}: {error}", hint=hint) from error


def _survey(package: str, tell: Tell, deadline: float) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = _nodes()
    tell({"nodes": [_introduced(node) for node in nodes]})
    ask = ray.remote(num_cpus=0, max_retries=0)(survey)
    asked = {}
    for node in nodes:
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[ask.options(scheduling_strategy=there).remote(package)] = node["NodeID"]
    for node_id, kind, answer in _answers(asked, deadline):
        tell({"node": node_id, ("survey" if kind == "result" else kind): answer})


def _run_ranks(task: Mapping[str, Any], tell: Tell, deadline: float) -> None:
    """Places the ranks over the nodes, and tells what came of each. Raises UsageError where the cluster has fewer
    devices than ranks; Findings where the devices are taken."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    schedule = Schedule(task["seed"], task["steps"], task["ranks"])
    resource = task["device"].upper()
    if resource == "AUTO":
        resource = "NPU" if any(node["Resources"].get("NPU") for node in _nodes() if node["Alive"]) else "CPU"
    group, homes = _placed(resource, schedule.ranks, deadline)
    # Ranks of one node are neighbours, as vLLM numbers them.
    order = [node["NodeID"] for node in _nodes()]
    bundles = sorted(range(schedule.ranks), key=lambda bundle: (order.index(homes[bundle]), bundle))
    tell({"ranks": [homes[bundle] for bundle in bundles], "device": resource.lower()})
    needs: dict[str, Any] = {"num_cpus": 1} if resource == "CPU" else {"num_cpus": 0, "resources": {resource: 1}}
    actor = ray.remote(Rank)
    ranks = [
        actor.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, bundle), **needs).remote()
        for bundle in bundles
    ]
    for _, kind, store in _answers({ranks[0].open.remote(_left(deadline)): 0}, deadline):
        if kind != "result":
            for number in range(schedule.ranks):
                tell({"rank": number, kind: f"rank 0 opened no store to meet at: {store}"})
            return
        # A rank that waits in vain says for what, just before nobody would hear it.
        limit = max(1.0, _left(deadline) - _GRACE_S)
        asked = {}
        for number, rank in enumerate(ranks):
            part = Part(number, schedule, tuple(store), resource != "CPU", task["group"], limit)
            asked[rank.run.remote(part)] = number
        for number, kind_of_end, end in _answers(asked, deadline, together=True):
            tell({"rank": number, kind_of_end: end})


def _placed(resource: str, ranks: int, deadline: float) -> tuple[Any, Mapping[int, str]]:
    """A placement group of one device a rank, spread over the nodes, and the node id of each bundle."""
    import ray
    from ray.util.placement_group import placement_group, placement_group_table

    have = sum(int(node["Resources"].get(resource, 0)) for node in _nodes() if node["Alive"])
    if ranks > have:
        raise UsageError(f"--dp {ranks}: the cluster has {have} {resource}s", hint=f"--dp {have} or less")
    group = placement_group([{resource: 1}] * ranks, strategy="SPREAD")
    if not group.wait(timeout_seconds=max(1, int(_left(deadline) / 2))):
        free = int(ray.available_resources().get(resource, 0))
        hint = "stop what holds the others (`ray status`), or ask for fewer ranks"
        raise Findings(f"--dp {ranks}: {free} of the cluster's {have} {resource}s are free", hint=hint)
    return group, placement_group_table(group)["bundles_to_node_id"]


def _answers(asked: Mapping[Any, Any], deadline: float, *, together: bool = False) -> Iterator[tuple[Any, str, Any]]:
    """Answers as they come: whose, `result`, `failed` or `lost`, and the result or why; silent ones do not come.
    `asked` is who was asked, by Ray's reference of the answer. Where the answers come only if all do, `together`, the
    others get a short grace after a bad one."""
    import ray

    pending = dict(asked)
    while pending and (left := _left(deadline)) > 0:
        done, _ = ray.wait(list(pending), timeout=left)
        for reference in done:
            who = pending.pop(reference)
            try:
                yield who, "result", ray.get(reference, timeout=max(1.0, _left(deadline)))
                continue
            except ray.exceptions.RayTaskError as error:
                yield who, "failed", f"{type(error.cause).__name__}: {_first_line(error.cause)}"
            except ray.exceptions.RayError as error:
                yield who, "lost", _first_line(error)
            if together:
                deadline = min(deadline, time.monotonic() + _GRACE_S)


def _nodes() -> list[dict[str, Any]]:
    """The nodes that are there, and those that are gone though nobody meant them to; one that came back counts once."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()
    back = {node["NodeName"] for node in nodes if node["Alive"]}
    shown = [
        node for node in nodes if node["Alive"] or not (node.get("DeathReason") in _LEFT or node["NodeName"] in back)
    ]
    return sorted(shown, key=lambda node: (node["NodeManagerAddress"], node["NodeName"], node["NodeID"]))


def _introduced(node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": node["NodeID"],
        "host": node["NodeManagerHostname"],
        "address": node["NodeManagerAddress"],
        "name": node["NodeName"],
        "alive": node["Alive"],
        "why": node.get("DeathReasonMessage") or "",
    }


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
