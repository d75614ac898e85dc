# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a read of a busy device, on a CPU, where it measures nothing: it runs, or says why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.shared
TESTS = Path(__file__).resolve().parents[1]


def measured(device: str, out: Path) -> dict[str, Any]:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))}
    script = TESTS / "benchmarks" / "device_read.py"
    command = [sys.executable, str(script), "--device", device, "--least", "1", "--out", str(out)]
    subprocess.run(command, env=environ, check=True, timeout=300)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_each_group_is_measured_with_each_queue(tmp_path: Path) -> None:
    found = measured("cpu", tmp_path / "out.json")
    names = [row["name"] for row in found["rows"]]
    assert len(set(names)) == 6 and not found["notes"]
    assert all(row["baseline"] > 0 and row["ours"] > 0 for row in found["rows"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_nothing_is_measured_and_that_is_said(tmp_path: Path) -> None:
    found = measured("cuda", tmp_path / "out.json")
    assert not found["rows"] and "skipped" in found["notes"][0]
