# SPDX-License-Identifier: Apache-2.0
"""What upstream's model runner calls so that its steps are recorded, checked and bounded.

``join`` at start; the decorators on the methods that ranks run together.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, TypeVar

import vllm_ascend.envs as envs_ascend
from torch.distributed import Store, distributed_c10d
from vllm.distributed.parallel_state import get_world_group
from vllm.logger import logger

import vllm_ascend
from vllm_ascend.data_parallel.agreement import Members, agree
from vllm_ascend.data_parallel.beats import Observer
from vllm_ascend.data_parallel.deployment import facts, facts_of_any
from vllm_ascend.data_parallel.exchange import Exchange
from vllm_ascend.data_parallel.executor import loss
from vllm_ascend.data_parallel.fingerprint import Fingerprint, build_digest, digests
from vllm_ascend.data_parallel.metadata_group import agree_on_default, settings_of
from vllm_ascend.data_parallel.moe_comm import MoECommChoice, MoECommConfig, select_moe_comm
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import NO_RECORDER, EngineRecorder, Recorder, most_steps
from vllm_ascend.data_parallel.settings import TABLE, TRACE_STEPS, Settings, gloo_seconds, not_settings
from vllm_ascend.data_parallel.tracefile import Identity, TraceFiles
from vllm_ascend.data_parallel.watchdog import Limits, Reporter, Watchdog

# How vLLM names the processes of its engines and of their workers.
_PROCESSES = ("EngineCore", "VllmWorker")

Method = TypeVar("Method", bound=Callable[..., Any])

_recorder: Recorder = NO_RECORDER
_watchdog: Optional[Watchdog] = None


def recorder_of_process() -> Recorder:
    """The recorder of the rank that this process is."""
    return _recorder


@functools.cache
def own_files() -> Mapping[str, str]:
    """Digests of the package that this process runs: taken once, at start, for to read all files takes a while."""
    return digests(Path(vllm_ascend.__file__).parent)


def recorded(method: Method) -> Method:
    """Mark a runner's method as a step: recorded, and reported where it fails."""

    @functools.wraps(method)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = self.recorder
        if not recorder.begin(method.__name__):
            return method(self, *args, **kwargs)
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            recorder.on_failure(f"{method.__name__} failed: {error!r}", error)
            raise
        finally:
            recorder.end()

    return step  # type: ignore[return-value]


def patient(method: Method) -> Method:
    """Mark a runner's method as part of the start, where ranks load and compile for longer than a step takes."""

    @functools.wraps(method)
    def starting(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.recorder.starting():
            return method(self, *args, **kwargs)

    return starting  # type: ignore[return-value]


def join(vllm_config: Any, moe: MoECommConfig, *, decides_alone: bool = False) -> Recorder:
    """Hold this rank against the others, and watch it from here on.

    Ranks of a model with which each of them ``decides_alone`` may have settings of their own.

    Raises ``ValueError`` for a setting that is not allowed, and ``DisagreementError`` where the ranks differ. With one
    DP rank only the settings are read.
    """
    global _recorder
    settings = settings_of(vllm_config)
    parallel = vllm_config.parallel_config
    if parallel.data_parallel_size == 1:
        return NO_RECORDER
    if unknown := not_settings(os.environ, envs_ascend.env_variables):
        names = ", ".join(setting.name for setting in TABLE)
        logger.warning("Without effect, for these are no settings: %s; the settings are: %s", ", ".join(unknown), names)
    world = get_world_group()
    # vLLM lays its ranks out as replica x DP x PP x PCP x TP; up to 0.11.0 it has no prefill context parallelism.
    context = getattr(parallel, "prefill_context_parallel_size", 1)
    processes = parallel.tensor_parallel_size * parallel.pipeline_parallel_size * context
    replica = processes * parallel.data_parallel_size
    if world.world_size % replica:  # another program's layout, whose ranks would wait here for some that do not exist
        text = "%d ranks are no multiple of %d, as by the parallel sizes: not held against each other, and not watched"
        logger.warning(text, world.world_size, replica)
        return NO_RECORDER
    first = world.rank // replica * replica
    members = Members(range(first, first + replica), processes)
    store = distributed_c10d._get_process_group_store(world.cpu_group)
    agree_on_default(vllm_config, store, first)
    settings = settings_of(vllm_config)
    host, files = socket.gethostname(), own_files()
    held = facts_of_any(vllm_config) if decides_alone else facts(vllm_config, settings, moe)
    mine = Fingerprint(world.rank, host, held, files)
    build = build_digest(files)
    if settings.agreement:
        agree(store, mine, members, settings.timeout, settings.start_timeout)
        logger.info("All %d ranks run vllm-ascend build %s with the same settings: %s", replica, build, settings)
    else:
        logger.info("Build %s of vllm-ascend, not held against the other ranks': %s", build, settings)
    limits = _limits(settings)
    if limits.none and settings.trace_steps == 0:
        return NO_RECORDER
    kept = most_steps(settings.trace_steps, parallel.data_parallel_size)
    if kept < settings.trace_steps:
        logger.warning("%s=%d: memory for %d steps is set aside", TRACE_STEPS.name, settings.trace_steps, kept)
    _leave()
    _recorder = Recorder(kept)
    identity = Identity(parallel.data_parallel_rank, parallel.data_parallel_size, world.rank, host, os.getpid(), build)
    place = members.place_in_dp_rank(world.rank)
    observer = Observer(world.rank, _recorder, (first + place, parallel.data_parallel_size))
    exchange = Exchange(store, members, world.rank, limits.period_s)
    traces = TraceFiles(settings.trace_dir, functools.partial(_choice, moe))
    ours = _is_vllms(parallel, parallel.distributed_executor_backend)
    _watch(identity, observer, exchange, limits, traces, ours=ours)
    return _recorder


def watch_engine(parallel: Any, store: Store) -> None:
    """Watch the engine of this process, whose workers are processes of their own, where it waits for other engines.

    ``store`` is the one by which the engines found each other. Does nothing where the process is a rank itself.
    """
    global _recorder
    settings = Settings.read(os.environ, gloo_s=gloo_seconds(parallel))
    limits = _limits(settings)
    if _recorder is not NO_RECORDER or limits.none:
        return
    _leave()
    _recorder = EngineRecorder()
    rank, size = parallel.data_parallel_rank, parallel.data_parallel_size
    identity = Identity(rank, size, rank, socket.gethostname(), os.getpid(), build_digest(own_files()))
    exchange = Exchange(store, Members(range(size)), rank, limits.period_s, "engine")
    observer = Observer(rank, _recorder, (0, size), loss)
    _watch(identity, observer, exchange, limits, None, ours=_is_vllms(parallel))


def _leave() -> None:
    """Stop what watches an engine that this process had before."""
    global _watchdog
    if _watchdog is not None:
        _watchdog.stop()
    _watchdog = None


def _limits(settings: Settings) -> Limits:
    return Limits(settings.timeout, settings.start_timeout, settings.end_timeout)


def _watch(
    identity: Identity,
    observer: Observer,
    exchange: Exchange,
    limits: Limits,
    traces: Optional[TraceFiles],
    *,
    ours: bool,
) -> None:
    global _watchdog
    reporter = Reporter(identity, _recorder, observer, exchange, traces)
    _recorder.on_failure = reporter.failed
    _watchdog = Watchdog(reporter, observer, exchange, limits, ours=ours)
    _watchdog.start()


def _is_vllms(parallel: Any, executor: object = None) -> bool:
    """Whether vLLM has started this process, and not a user who has an engine inside.

    ``executor`` is what has started it if it is a worker.
    """
    by_ray = "ray" in (executor, getattr(parallel, "data_parallel_backend", None))
    return by_ray or multiprocessing.current_process().name.startswith(_PROCESSES)


def _choice(moe: MoECommConfig, plan: StepPlan) -> MoECommChoice:
    return select_moe_comm(max(plan.padded_tokens_per_rank), plan.with_prefill, moe)
