# SPDX-License-Identifier: Apache-2.0
"""From the documents that the benchmarks write to the rows of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selftest.bench.report import Measure
from selftest.bench.scaling import Sample

# What the step should cost, as shares of upstream's.
SYNC_LIMIT = 0.5
TOKEN_LIMIT = 1.0
TRACING_LIMIT = 1.01
GROUPS = {"device": "device group", "cpu": "CPU group"}
CLOCKS = {"wall": "elapsed", "process": "CPU time of a rank", "host": "CPU time of its main thread"}


def sync_rows(found: Mapping[str, Any]) -> Iterator[Measure]:
    """Of metadata_sync.py: time, collectives, reads and tensors of a step at every number of ranks."""
    for size, one in found.items():
        for clock, what in CLOCKS.items():
            for group, name in GROUPS.items():
                limit = SYNC_LIMIT if clock == "wall" else None
                yield _times(f"metadata, DP {size}, {name}, {what} (us)", one, clock, "pristine", group, limit)
    one = next(iter(found.values()))
    for what, name in (("collectives", "collectives"), ("reads", "device reads"), ("tensors", "tensors made")):
        for group, group_name in GROUPS.items():
            limit = 1.0 if what == "collectives" else None
            yield _count(f"{name} of a step, {group_name}", one[what]["pristine"], one[what][group], limit)


def blocked_rows(found: Mapping[str, Any]) -> Iterator[Measure]:
    """Of metadata_sync.py: the wait for the others, with input preparation before it and without."""
    for size, one in found.items():
        for what in ("decode", "prefill"):
            name = f"waiting for the others, DP {size}, after preparing a {what} (us)"
            yield _times(name, one, "blocked", "nothing", what, None)


def token_rows(found: Mapping[str, Any]) -> Iterator[Measure]:
    """Of output_tokens.py: time and memory in every mode, and rows beside a prefill."""
    for mode, one in found["modes"].items():
        for clock, what in (("wall", "elapsed"), ("cpu", "CPU time")):
            name = f"time per output token, {mode}, {what} (ms)"
            yield _times(name, one, clock, "pristine", "patched", TOKEN_LIMIT)
        memory = one["peak_rss_mib"]
        yield _count(f"peak memory of a rank, {mode} (MiB)", memory["pristine"], memory["patched"], None)
    rows = found["rows beside a prefill"]
    yield _count("rows of a decode of 1 beside a prefill of 150", rows["pristine"], rows["patched"], None)


def tracing_rows(found: Mapping[str, Any]) -> Iterator[Measure]:
    """Of output_tokens.py: the ring of last steps and the watchdog, on against off."""
    one = found["tracing"]
    for clock, what in (("wall", "elapsed"), ("cpu", "CPU time")):
        yield _times(f"time per output token, {what} (ms)", one, clock, "untraced", "patched", TRACING_LIMIT)
    memory = one["peak_rss_mib"]
    yield _count("peak memory of a rank (MiB)", memory["untraced"], memory["patched"], None)


def store_rows(found: Mapping[str, Any]) -> Iterator[Measure]:
    """Of store_requests.py."""
    ranks = found["ranks"]
    names = {
        "agreement": f"{ranks} ranks: every rank has the verdict at start, elapsed (s)",
        "beats": f"{ranks} ranks: every rank tells a beat, CPU time of the store (s)",
        "looking": f"{ranks} ranks: every rank reads all beats, CPU time of the store (s)",
        "by itself": f"{ranks} ranks read a quarter of the beats at once; one by one (s)",
    }
    for key, name in names.items():
        yield _compared(name, found[key], 1.0)


def wheel_rows(found: Mapping[str, Any]) -> Iterator[Measure]:
    """Of wheels.py."""
    names = {
        "elapsed": "six wheels, downloads cached, elapsed (s)",
        "processor": "six wheels, processor time (s)",
        "memory": "six wheels, peak memory of a process (MB)",
    }
    for key, name in names.items():
        yield _compared(name, found[key], None)


def applying_rows(found: Mapping[str, Any]) -> Iterator[Measure]:
    """Of applying.py: apply and status on the set's series and tree, and on made-up ones that grow."""
    names = {
        "in place, git am": ("apply in place; git am (s)", 1.0),
        "in place, quilt": ("apply in place; quilt push -a (s)", 1.0),
        "in place, allowed": ("apply in place; what it may take (s)", 1.0),
        "status, allowed": ("status; what it may take (s)", 1.0),
        "build tree": ("apply to a new build tree; cp, git init, commit, am (s)", None),
        "linear": ("apply 200 patches on 5,000 files; 4 times 50 on 1,250 (s)", 1.0),
    }
    for key, (name, limit) in names.items():
        yield _compared(name, found[key], limit)
    for size, one in found["sizes"].items():
        yield _compared(f"apply {size}; git am (s)", one, 1.0)


def samples(found: Mapping[str, Any]) -> list[Sample]:
    """The quickest steps of metadata_sync.py, for the cost model: what else the machine does only slows them."""
    return [
        Sample(int(size), one["words"].get(side, 1), one["least"][side])
        for size, one in found.items()
        for side in ("pristine", "device", "cpu", "word")
    ]


def _compared(name: str, one: Mapping[str, Any], limit: float | None) -> Measure:
    low, high = one["quartiles"]
    return Measure(name, one["baseline"], one["ours"], one["ratio"], (low, high), limit)


def _times(name: str, one: Mapping[str, Any], clock: str, baseline: str, ours: str, limit: float | None) -> Measure:
    low, middle, high = one[f"{clock} ratios"][ours]
    return Measure(name, one[clock][baseline], one[clock][ours], middle, (low, high), limit)


def _count(name: str, baseline: float, ours: float, limit: float | None) -> Measure:
    return Measure(name, baseline, ours, ours / baseline if baseline else None, None, limit)
