# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin of this set's smoke tests: what is this release's alone lies in this folder, for ranks too."""

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).resolve().parent


def pytest_sessionstart(session: pytest.Session) -> None:
    """Has ranks find this folder's modules after all others, once the shared conftest is there."""
    conftest = sys.modules["conftest"]
    of_all = conftest.Bench.environment

    def environment(*arguments: Any, **named: Any) -> dict[str, str]:
        found: dict[str, str] = of_all(*arguments, **named)
        return found | {"PYTHONPATH": os.pathsep.join((found["PYTHONPATH"], str(_FOLDER)))}

    conftest.Bench.environment = environment


@pytest.fixture(scope="session")
def call(bench: Any, launcher: Callable[..., Any]) -> Callable[..., Any]:
    """``call(tree, function, **arguments)``: the answer of a function of calls.py that runs on ``tree``."""
    numbers = itertools.count()

    def call(tree: Any, function: str, **arguments: object) -> Any:
        folder = bench.work / f"own-call{next(numbers)}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "job.json").write_text(json.dumps({"script": "calls", "function": function, "arguments": arguments}))
        ranks = launcher(tree)
        pid = ranks.start(folder, {})
        while (code := ranks.poll(pid)) is None:
            time.sleep(0.02)
        if code:
            pytest.fail(f"{function} on {tree.value}: exit {code}\n{(folder / 'log').read_text()}", pytrace=False)
        return json.loads((folder / "answer.json").read_text())

    return call
