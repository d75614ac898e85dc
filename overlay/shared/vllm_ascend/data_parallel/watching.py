# SPDX-License-Identifier: Apache-2.0
"""What upstream's model runner calls so that its steps are recorded, checked and bounded.

``join`` at start; the decorators on the methods that ranks run together.
"""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

from torch.distributed import distributed_c10d
from vllm.distributed.parallel_state import get_world_group
from vllm.logger import logger

import vllm_ascend
from vllm_ascend.data_parallel.agreement import Members, agree
from vllm_ascend.data_parallel.facts import facts
from vllm_ascend.data_parallel.fingerprint import Fingerprint, build_digest, digests
from vllm_ascend.data_parallel.flight import NO_FLIGHT, Flight, Limit, most_steps
from vllm_ascend.data_parallel.metadata_group import settings_of
from vllm_ascend.data_parallel.moe_comm import MoECommChoice, MoECommConfig, select_moe_comm
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.rollcall import RollCall
from vllm_ascend.data_parallel.settings import START_TIMEOUT, TIMEOUT, TRACE_STEPS, MetadataGroup, Setting
from vllm_ascend.data_parallel.tracefile import Identity
from vllm_ascend.data_parallel.watchdog import GRACE_S, Reporter, Watchdog

# For fingerprints, where steps may take as long as they like.
_DEFAULT_TIMEOUT_S = 60.0

Method = TypeVar("Method", bound=Callable[..., Any])

_flight: Flight = NO_FLIGHT


def flight_of_process() -> Flight:
    """The flight of the rank that this process is."""
    return _flight


def recorded(method: Method) -> Method:
    """Mark a runner's method as a step: recorded, and reported where it fails."""

    @functools.wraps(method)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        flight = self.flight
        if not flight.begin(method.__name__):
            return method(self, *args, **kwargs)
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            flight.on_failure(f"{method.__name__} failed: {error!r}", error)
            raise
        finally:
            flight.end()

    return step  # type: ignore[return-value]


def patient(method: Method) -> Method:
    """Mark a runner's method as part of the start, where ranks load and compile for longer than a step takes."""

    @functools.wraps(method)
    def starting(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.flight.patiently():
            return method(self, *args, **kwargs)

    return starting  # type: ignore[return-value]


def join(vllm_config: Any, moe: MoECommConfig) -> Flight:
    """Hold this rank against the others, and watch it from here on.

    Raises ``ValueError`` for a setting that is not allowed, and ``DisagreementError`` where the ranks differ. With one
    DP rank only the settings are read.
    """
    global _flight
    settings = settings_of(vllm_config)
    parallel = vllm_config.parallel_config
    if parallel.data_parallel_size == 1:
        return NO_FLIGHT
    world = get_world_group()
    # vLLM lays its ranks out as replica x DP x PP x TP.
    processes = parallel.tensor_parallel_size * parallel.pipeline_parallel_size
    replica = processes * parallel.data_parallel_size
    first = world.rank // replica * replica
    members = Members(range(first, first + replica), processes)
    store = distributed_c10d._get_process_group_store(world.cpu_group)
    host, files = socket.gethostname(), digests(Path(vllm_ascend.__file__).parent)
    mine = Fingerprint(world.rank, host, facts(vllm_config, settings, moe), files)
    agree(store, mine, members, settings.timeout or _DEFAULT_TIMEOUT_S)
    build = build_digest(files)
    logger.info("All %d ranks run vllm-ascend build %s with the same settings", replica, build)
    if settings.timeout is None and settings.trace_steps == 0:
        return NO_FLIGHT
    timeout, start_timeout = _limit(TIMEOUT, settings.timeout), _limit(START_TIMEOUT, settings.start_timeout)
    kept = most_steps(settings.trace_steps, parallel.data_parallel_size)
    if kept < settings.trace_steps:
        logger.warning("%s=%d: memory for %d steps is set aside", TRACE_STEPS.name, settings.trace_steps, kept)
    _flight = Flight(kept, timeout, start_timeout, settings.metadata_group is MetadataGroup.CPU)
    identity = Identity(parallel.data_parallel_rank, parallel.data_parallel_size, world.rank, host, os.getpid(), build)
    roll_call = RollCall(store, members, world.rank, GRACE_S)
    reporter = Reporter(identity, _flight, roll_call, settings.trace_dir, functools.partial(_choice, moe))
    _flight.on_failure = reporter.report
    if timeout or start_timeout:
        Watchdog(reporter).start()
    return _flight


def _limit(setting: Setting, seconds: Optional[float]) -> Optional[Limit]:
    return None if seconds is None else Limit(seconds, setting.name)


def _choice(moe: MoECommConfig, plan: StepPlan) -> MoECommChoice:
    return select_moe_comm(max(plan.padded_tokens_per_rank), plan.with_prefill, moe)
