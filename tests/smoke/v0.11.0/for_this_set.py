# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin of this set's smoke tests: what its release needs otherwise than the shared files have it."""

import sys
from pathlib import Path

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    """Sets what ranks import, once the shared conftest is there."""
    conftest = sys.modules["conftest"]
    conftest.STANDIN = conftest.STANDIN / Path(__file__).resolve().parent.name
