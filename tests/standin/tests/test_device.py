# SPDX-License-Identifier: Apache-2.0
"""The device "npu" is known to torch, and copies as a device does."""

import pickle
import subprocess
import sys

import pytest
import torch


def test_torch_loads_the_standin_by_itself() -> None:
    code = "import torch; assert torch.npu.is_available(); import sys; assert 'torch_npu' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_torch_npu_first_works_too() -> None:
    subprocess.run([sys.executable, "-c", "import torch_npu, torch; torch.npu.Stream()"], check=True, timeout=60)


@pytest.mark.parametrize("device", ["npu", "npu:1", torch.device("npu"), torch.device("npu", 3), torch.device("npu:2")])
def test_factories_take_the_device(device: object) -> None:
    assert torch.full((2,), 7, device=device).tolist() == [7, 7]
    assert torch.tensor([1, 2], device=device).tolist() == [1, 2]
    assert torch.ones(2).to(device).tolist() == [1, 1]
    assert torch.ones(2).new_zeros(3, device=device).shape == (3,)


def test_device_context() -> None:
    with torch.device("npu"):
        assert torch.arange(3).tolist() == [0, 1, 2]


def test_device_type_still_is_torchs() -> None:
    assert isinstance(torch.device("npu"), torch.device)
    assert isinstance(torch.ones(1).device, torch.device)
    assert type(torch.ones(1).device) == torch.device  # noqa: E721
    assert pickle.loads(pickle.dumps(torch.device("npu"))) == torch.device("npu")
    assert torch.device("cpu") == torch.ones(1).device
    assert torch.device(type="npu", index=0) == torch.device("npu")


def test_upload_and_download_copy() -> None:
    host = torch.zeros(2)
    on_device = host.to("npu", non_blocking=True)
    back = on_device.cpu()
    host.fill_(1)
    on_device.fill_(2)
    assert (host.tolist(), on_device.tolist(), back.tolist()) == ([1, 1], [2, 2], [0, 0])


def test_a_module_moves() -> None:
    """``Module.to`` names the device first and the dtype as None."""
    module = torch.nn.Linear(1, 1).to(torch.device("npu:0"))
    assert module.weight.is_npu and module.weight.dtype == torch.float32


def test_to_takes_its_arguments_as_torch_does() -> None:
    x = torch.ones(1)
    npu = torch.device("npu")
    for moved in (x.to(npu, torch.float16), x.to("npu", torch.float16, True), x.to(device="npu", dtype=torch.float16)):
        assert moved.dtype == torch.float16
    assert x.to(None, torch.float16).dtype == x.to(torch.float16).dtype == x.to(moved).dtype == torch.float16
    assert torch.nn.Linear(1, 1).to("npu").to(npu, torch.float16).to(torch.device("cpu")).weight.dtype == torch.float16


def test_pinned_memory_is_plain_memory() -> None:
    assert torch.zeros(2, pin_memory=True).pin_memory().tolist() == [0, 0]


def test_a_missing_operator_says_so() -> None:
    import torch_npu

    with pytest.raises(AttributeError, match="npu_of_the_future"):
        _ = torch_npu.npu_of_the_future
    assert not hasattr(torch_npu, "npu_of_the_future")


def test_free_memory_falls() -> None:
    first, total = torch.npu.mem_get_info()
    second, _ = torch.npu.mem_get_info()
    assert second < first <= total


@pytest.mark.parametrize(("soc", "name"), [("202", "Ascend310P3"), ("223", "Ascend910B4"), ("253", "Ascend910_9391")])
def test_soc(monkeypatch: pytest.MonkeyPatch, soc: str, name: str) -> None:
    monkeypatch.setenv("STANDIN_SOC", soc)
    assert (torch.npu.get_soc_version(), torch.npu.get_device_name()) == (int(soc), name)


def test_unknown_soc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_SOC", "7")
    with pytest.raises(ValueError, match="STANDIN_SOC=7"):
        torch.npu.get_device_name()
