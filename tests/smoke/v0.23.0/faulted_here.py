# SPDX-License-Identifier: Apache-2.0
"""faulted.py, for a release whose worker tells its profiler of each step and of the end."""

import time
from types import SimpleNamespace
from typing import Any

import faulted


def profile(engine: Any, seconds: float) -> None:
    """Stop a profiler that has much to write."""
    worker = faulted._worker(engine)
    worker.profiler_config = SimpleNamespace(profiler="torch")
    told = {name: lambda: None for name in ("start", "step", "shutdown")}
    worker.profiler = SimpleNamespace(stop=lambda: time.sleep(seconds), **told)
    engine.start_profile()
    engine.stop_profile()


faulted.STRAYS["profile"] = profile
main = faulted.main
