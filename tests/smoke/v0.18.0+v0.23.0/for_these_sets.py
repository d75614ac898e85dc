# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin of the folders of smoke tests that few sets have: ranks find their modules, after all others."""

import os
import sys
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
