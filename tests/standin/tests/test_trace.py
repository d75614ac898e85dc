# SPDX-License-Identifier: Apache-2.0
"""What the trace counts as the host waiting for the device; each case runs in a traced process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Each case is one step, named by the reads that it must report.
CASES = {
    "values": (
        "t = torch.ones(1, device='npu'); t.item(); bool(t); int(t); float(t); t.tolist(); t.numpy(); t[:1].item()",
        ["item", "bool", "int", "float", "tolist", "numpy", "item"],
    ),
    "results of results": (
        "t = torch.cat((torch.zeros(2).to('npu'), torch.ones(1))); (t.cumsum(0)[-1] > 0).item()",
        ["item"],
    ),
    "where a tensor is": (
        "t = torch.ones(2, device='npu'); torch.empty(2, device=t.device).copy_(t).tolist()",
        ["tolist"],
    ),
    "host values": ("t = torch.ones(1); t.item(); bool(t); t.cpu(); t.copy_(torch.zeros(1)); t.tolist()", []),
    "downloads": ("t = torch.ones(1, device='npu'); h = t.cpu(); h.item(); h.copy_(t)", ["to", "copy_"]),
    "upload": ("t = torch.ones(1, device='npu'); t.copy_(torch.zeros(1))", []),
    "wait for a download": (
        (
            "t = torch.ones(1, device='npu'); h = t.to('cpu', non_blocking=True); e = torch.npu.Event(); e.record(); "
            "e.synchronize(); e.synchronize(); h.item()"
        ),
        ["event"],
    ),
    "bounds": (
        "n = torch.tensor(1, device='npu'); torch.zeros(3)[n:]; torch.empty((n, 2))",
        ["index", "index"],
    ),
    "inside an operator": (
        (
            "torch_npu.npu_grouped_matmul(x=[torch.ones(2, 2, device='npu')], weight=[torch.ones(1, 2, 2)], "
            "group_type=0, "
            "group_list=torch.tensor([2], device='npu'), group_list_type=1)[0].sum().item()"
        ),
        ["item"],
    ),
    "host values in a capture": (
        (
            "n, g = torch.tensor([1, 2]), torch.npu.NPUGraph()\n"
            "with torch.inference_mode(), torch.npu.graph(g): u = torch.empty((n[-1], 3), device='npu')\n"
            "assert u.shape == (2, 3)"
        ),
        [],
    ),
    "device values in a capture": (
        (
            "t, g = torch.ones(2, device='npu'), torch.npu.NPUGraph()\n"
            "with torch.inference_mode(), torch.npu.graph(g):\n"
            "    for read in (lambda: t[0].item(), lambda: (t + 1)[0].item(), lambda: torch.empty((t[0].int(), 1))):\n"
            "        try: read()\n"
            "        except RuntimeError: continue\n"
            "        raise AssertionError(read)"
        ),
        ["item", "item", "index"],
    ),
    "replay": (
        (
            "t = torch.ones(1, device='npu'); g = torch.npu.NPUGraph()\n"
            "with torch.npu.graph(g): u = t + 1\n"
            "g.replay(); u.item()"
        ),
        ["item"],
    ),
}


def _run(code: str, directory: Path, *, traced: bool = True) -> list[dict[str, object]]:
    environment = {key: value for key, value in os.environ.items() if key != "STANDIN_TRACE"}
    if traced:
        environment["STANDIN_TRACE"] = str(directory)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
    return [json.loads(line) for file in sorted(directory.glob("*.jsonl")) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    code = "import torch, torch_npu\nfrom torch_npu import trace\ntrace.start()\n"
    for name, (body, _) in CASES.items():
        code += f"with trace.step({name!r}):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    found: dict[str, list[str]] = {}
    for event in _run(code, tmp_path_factory.mktemp("trace")):
        if event["kind"] == "step" and not event.get("end"):
            step = found.setdefault(str(event["what"]), [])
        elif event["kind"] == "host_read":
            step.append(str(event["how"]))
    return found


@pytest.mark.parametrize("name", CASES)
def test_reads(reads: dict[str, list[str]], name: str) -> None:
    assert reads[name] == CASES[name][1]


def test_collectives_once_and_by_device(tmp_path: Path) -> None:
    code = f"""
import torch, torch.distributed as dist
from torch_npu import trace
trace.start()
dist.init_process_group("hccl", init_method="file://{tmp_path}/store", rank=0, world_size=1)
cpu = dist.new_group([0], backend="gloo")
x = torch.ones(3, dtype=torch.int32, device="npu")
dist.all_reduce(x, async_op=True).wait()
dist.all_reduce(x.cpu(), group=cpu)
graph = torch.npu.NPUGraph()
with torch.npu.graph(graph):
    dist.all_gather_into_tensor(torch.empty(3, dtype=torch.int32), x)
graph.replay()
"""
    events = [event for event in _run(code, tmp_path / "trace") if event["kind"] == "collective"]
    seen = [(e["op"], e["device"], e["shape"], e["dtype"], e["async"], e["replayed"]) for e in events]
    assert seen == [
        ("all_reduce", "npu", [3], "int32", True, False),
        ("all_reduce", "cpu", [3], "int32", False, False),
        ("all_gather_into_tensor", "npu", [3], "int32", False, False),
        ("all_gather_into_tensor", "npu", [3], "int32", False, True),
    ]


def test_nothing_is_installed_without_the_variable(tmp_path: Path) -> None:
    code = (
        "import torch\n"
        "from torch_npu import collectives, device, library, trace\n"
        "from torch_npu.npu import streams\n"
        "assert not trace.enabled() and torch._C._len_torch_function_stack() == 0\n"
        "assert device.on_placed is collectives.on_collective is library.on_python_kernel is "
        "streams.on_host_wait is None"
    )
    assert _run(code, tmp_path, traced=False) == []
