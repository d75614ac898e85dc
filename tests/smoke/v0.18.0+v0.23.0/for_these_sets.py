# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin of the folders of smoke tests that few sets have: ranks find their modules, after all others, and
tests call functions of these."""

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    """Sets what ranks import, once the shared conftest is there."""
    conftest = sys.modules["conftest"]
    of_all, own = conftest.Bench.environment, os.environ["PYTHONPATH"]

    def environment(*arguments: Any, **named: Any) -> dict[str, str]:
        found: dict[str, str] = of_all(*arguments, **named)
        return found | {"PYTHONPATH": os.pathsep.join((found["PYTHONPATH"], own))}

    conftest.Bench.environment = environment


@pytest.fixture(scope="session")
def call(bench: Any, launcher: Callable[..., Any]) -> Callable[..., Any]:
    """``call(tree, "module.function", **arguments)``: its answer where it runs on ``tree``."""
    numbers = itertools.count()

    def call(tree: Any, function: str, **arguments: object) -> Any:
        folder = bench.work / f"own-call{next(numbers)}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "job.json").write_text(json.dumps({"script": "called", "function": function, "arguments": arguments}))
        ranks = launcher(tree)
        pid = ranks.start(folder, {})
        while (code := ranks.poll(pid)) is None:
            time.sleep(0.02)
        if code:
            pytest.fail(f"{function} on {tree.value}: exit {code}\n{(folder / 'log').read_text()}", pytrace=False)
        return json.loads((folder / "answer.json").read_text())

    return call
