# SPDX-License-Identifier: Apache-2.0
"""The hooks that upstream's runner calls, on a runner with nothing else."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from vllm import envs
from vllm.config import ParallelConfig
from vllm.distributed.parallel_state import init_distributed_environment

import vllm_ascend.data_parallel.engines  # noqa: F401
from vllm_ascend.data_parallel import start, upstream
from vllm_ascend.data_parallel.agreement import DisagreementError
from vllm_ascend.data_parallel.metadata import LocalBatch, StepMetadata
from vllm_ascend.data_parallel.moe_comm import MoECommConfig
from vllm_ascend.data_parallel.plan import StepPlan
from vllm_ascend.data_parallel.recorder import NO_RECORDER, Phase, Recorder
from vllm_ascend.data_parallel.settings import TABLE
from vllm_ascend.data_parallel.start import join, patient, recorded

PLAN = StepPlan(StepMetadata((1, 1), with_prefill=False, enable_dbo=False, graph_usable=False), 0)


class Runner:
    """Upstream's methods, as far as they are marked."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.starting: bool | None = None

    @recorded
    def execute_model(self, fails: bool = False) -> str:
        """Has a docstring."""
        self.recorder.issued(LocalBatch(1, False))
        self.recorder.awaiting()
        self.recorder.decided(PLAN)
        assert self.recorder is NO_RECORDER or self.recorder.entered is not None
        self.starting = self.recorder.entered and self.recorder.entered.starting
        if fails:
            raise RuntimeError("Connection closed by peer")
        return "tokens"

    @recorded
    def _dummy_run(self) -> str:
        return self.execute_model()

    @patient
    def profile_run(self) -> str:
        return self._dummy_run()


def test_a_marked_method_is_itself_and_one_step() -> None:
    runner = Runner(Recorder(4))
    assert runner.execute_model() == "tokens" and runner.execute_model.__doc__ == "Has a docstring."
    assert runner._dummy_run() == "tokens"
    assert [step.what for step in runner.recorder.steps()] == ["execute_model", "_dummy_run"]
    assert runner.starting is False


def test_start_up_is_told_from_serving() -> None:
    runner = Runner(Recorder(4))
    assert runner.profile_run() == "tokens"
    runner.profile_run()
    assert runner.starting is True
    runner.execute_model()
    assert runner.starting is False


def test_a_step_that_fails_is_reported_and_fails_as_it_did() -> None:
    runner = Runner(Recorder(4))
    said: list[str] = []
    runner.recorder.on_failure = lambda why, _: said.append(why)
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        runner.execute_model(fails=True)
    assert said == ["execute_model failed: RuntimeError('Connection closed by peer')"]
    assert runner.recorder.entered is None and runner.execute_model() == "tokens"


def test_without_a_recorder_nothing_is_added() -> None:
    runner = Runner(NO_RECORDER)
    assert runner.profile_run() == "tokens" and NO_RECORDER.steps() == []


@pytest.fixture(autouse=True)
def _on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the release's own default is."""
    monkeypatch.setattr(upstream, "metadata_on_hosts", lambda _: False)


ALONE = SimpleNamespace(
    parallel_config=SimpleNamespace(data_parallel_size=1), scheduler_config=SimpleNamespace(async_scheduling=False)
)


def test_one_rank_reads_its_settings_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert join(ALONE, MoECommConfig("A2", 1, 256)) is NO_RECORDER
    monkeypatch.setenv("VLLM_ASCEND_DP_TIMEOUT", "0")
    with pytest.raises(ValueError, match="VLLM_ASCEND_DP_TIMEOUT='0' is not one of"):
        join(ALONE, MoECommConfig("A2", 1, 256))


_AGREEMENTS: dict[str, tuple[bool, ...]] = {"has_unfinished_dp": (True,), "sync_dp_state": (True, False)}


@pytest.mark.parametrize("agreement", [name for name in _AGREEMENTS if hasattr(ParallelConfig, name)])
def test_what_engines_agree_on_between_steps_is_watched(monkeypatch: pytest.MonkeyPatch, agreement: str) -> None:
    recorder = Recorder(4)
    seen: list[Phase] = []
    said: list[str] = []

    def reduced(_: torch.Tensor, op: object, group: dist.ProcessGroup | None) -> None:
        del op
        assert recorder.entered is not None
        seen.append(recorder.entered.phase)
        if group is None:
            raise RuntimeError("Connection reset by peer")

    monkeypatch.setattr(start, "_recorder", recorder)
    monkeypatch.setattr(dist, "all_reduce", reduced)
    recorder.on_failure = lambda why, _: said.append(why)
    agree, mine = getattr(ParallelConfig, agreement), _AGREEMENTS[agreement]
    of_two = SimpleNamespace(size=lambda: 2)
    assert agree(of_two, *mine) in (True, (True, False))
    with pytest.raises(RuntimeError, match="Connection reset"):
        agree(None, *mine)
    assert seen == [Phase.ENGINES] * 2 and recorder.entered is None
    assert said == ["lost the other engines: RuntimeError('Connection reset by peer')"]


def config(dp_rank: int, dp_size: int, context: int = 1) -> Any:
    """What joining reads of vLLM's configuration; ``context`` ranks of a DP rank share its prefills."""
    hf_config = SimpleNamespace(architectures=["Qwen3MoeForCausalLM"])
    model = SimpleNamespace(enforce_eager=True, dtype="float32", quantization=None, hf_config=hf_config)
    model.get_vocab_size, model.get_hidden_size = lambda: 256, lambda: 64
    return SimpleNamespace(
        parallel_config=SimpleNamespace(
            data_parallel_size=dp_size,
            data_parallel_rank=dp_rank,
            tensor_parallel_size=1,
            pipeline_parallel_size=1,
            prefill_context_parallel_size=context,
            distributed_executor_backend=None,
            enable_expert_parallel=False,
        ),
        scheduler_config=SimpleNamespace(max_num_seqs=8, max_num_batched_tokens=1024, async_scheduling=False),
        model_config=model,
        speculative_config=None,
        compilation_config=SimpleNamespace(cudagraph_capture_sizes=[1, 2]),
        additional_config={
            "torchair_graph_config": {"enabled": False},
            "expert_map_path": f"/host{dp_rank}",
            "hamming_sparse": {"sparse_json_location": f"/host{dp_rank}"},
            "enable_cpu_binding": dp_rank == 0,
        },
    )


USUAL_GROUP, OTHER_GROUP = "device", "cpu"
# Of rank 1, by what they are.
ENVIRONMENTS = {
    "same": {},
    "spelt out": {"HCCL_BUFFSIZE": "200", "VLLM_ASCEND_DP_TIMEOUT": "30.0", "VLLM_ASCEND_ENABLE_BATCH_MEMCPY": "1"},
    "different": {"VLLM_ASCEND_ENABLE_MATMUL_ALLREDUCE": "1", "VLLM_ASCEND_DP_METADATA_GROUP": OTHER_GROUP},
}


def join_as(rank: int, folder: str, environment: str, agreement: str, context: int, alone: bool) -> None:
    """One process of two DP ranks: writes what its recorder or its error is."""
    os.environ.update({"VLLM_ASCEND_DP_TIMEOUT": "30", "VLLM_ASCEND_DP_AGREEMENT": agreement})
    dp_rank = rank // context
    start._watchdog = SimpleNamespace(stop=Path(folder, f"stopped {rank}").touch)  # of an engine before
    if dp_rank == 1:
        os.environ.update(ENVIRONMENTS[environment])
        torch.__version__ = torch.torch_version.TorchVersion(f"{torch.__version__.partition('+')[0]}+another")
    init_distributed_environment(2 * context, rank, f"file://{folder}/rendezvous", rank, "gloo")
    try:
        recorder = join(config(dp_rank, 2, context), MoECommConfig("A2", 1, 256), decides_alone=alone)
        said = f"{type(recorder).__name__} {recorder is start.recorder_of_process()}"
    except DisagreementError as error:
        said = str(error)
    Path(folder, str(rank)).write_text(said)


def joined(
    folder: Path, environment: str, agreement: str = "on", context: int = 1, *, alone: bool = False
) -> list[str]:
    processes = 2 * context
    given = (str(folder), environment, agreement, context, alone)
    mp.start_processes(join_as, args=given, nprocs=processes, start_method="fork")
    return [(folder / str(rank)).read_text() for rank in range(processes)]


@pytest.mark.parametrize("environment", ["same", "spelt out"])
def test_ranks_that_fit_join(tmp_path: Path, environment: str) -> None:
    """Another build of the same torch, a default that is spelt out and what is a host's own are no differences."""
    assert joined(tmp_path, environment) == ["Recorder True"] * 2
    assert len(list(tmp_path.glob("stopped *"))) == 2


def test_ranks_with_other_settings_are_refused_and_told_which(tmp_path: Path) -> None:
    one, other = joined(tmp_path, "different")
    assert one == other
    how = f"VLLM_ASCEND_DP_METADATA_GROUP is {OTHER_GROUP} instead of {USUAL_GROUP}; "
    how += "VLLM_ASCEND_ENABLE_MATMUL_ALLREDUCE is True instead of False"
    assert f"\n  DP rank 1 on host {socket.gethostname()} differs from DP rank 0: {how}\n" in one


def test_ranks_that_decide_alone_may_have_settings_of_their_own(tmp_path: Path) -> None:
    assert joined(tmp_path, "different", alone=True) == ["Recorder True"] * 2


def test_ranks_that_share_prefills_are_one_dp_rank(tmp_path: Path) -> None:
    said = joined(tmp_path, "different", context=2)
    assert len(set(said)) == 1
    for rank in (2, 3):
        assert f"\n  DP rank 1 (world rank {rank}) on host {socket.gethostname()} differs from DP rank 0" in said[0]


def test_a_layout_that_is_another_programs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of unequal ranks, say: this one would wait for some that do not exist."""
    monkeypatch.setattr(start, "get_world_group", lambda: SimpleNamespace(world_size=7, rank=0))
    assert join(config(0, 2), MoECommConfig("A2", 1, 256)) is NO_RECORDER


def test_ranks_that_are_not_held_against_each_other_join(tmp_path: Path) -> None:
    assert joined(tmp_path, "different", "off") == ["Recorder True"] * 2


@pytest.mark.parametrize(
    ("name", "executor", "ours"),
    [
        ("EngineCore_0", None, True),
        ("EngineCore_DP3", "uni", True),
        ("VllmWorker-1", "mp", True),
        ("MainProcess", "ray", True),
        ("MainProcess", "external_launcher", False),
        ("Process-1", None, False),
    ],
)
def test_whose_process_it_is(monkeypatch: pytest.MonkeyPatch, name: str, executor: str | None, ours: bool) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "name", name)
    assert start._is_vllms(SimpleNamespace(), executor) is ours


def test_an_engine_of_rays_is_vllms() -> None:
    assert start._is_vllms(SimpleNamespace(data_parallel_backend="ray"))


def test_ray_copies_the_settings() -> None:
    from vllm.ray.ray_env import get_env_vars_to_copy

    importlib.import_module("vllm_ascend.data_parallel.ray_variables")
    assert {setting.name for setting in TABLE} <= get_env_vars_to_copy(destination="DPEngineCoreActor")


def test_vllms_compile_cache_is_the_same_for_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("vllm_ascend.data_parallel.ray_variables")
    keys = set()
    for number in range(2):
        for setting in TABLE:
            monkeypatch.setenv(setting.name, str(number))
        keys.add(compile_key())
    assert len(keys) == 1
    monkeypatch.setenv("VLLM_PP_LAYER_PARTITION", "1,2")
    assert compile_key() not in keys


def compile_key() -> str:
    """What vLLM makes of the environment."""
    if not hasattr(envs, "compile_factors"):
        return str(envs.compute_hash())
    return str(importlib.import_module("vllm.config.utils").hash_factors(envs.compile_factors()))
