# SPDX-License-Identifier: Apache-2.0
"""patchset-cluster.pyz: the checks and what they expect in one file, for the Python of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset import pyz
from patchset.cluster.node.main import EXPECTED

if TYPE_CHECKING:
    from patchset.cluster.node.expected import Expected

NAME = "patchset-cluster.pyz"

_MAIN = """\
from patchset.cluster.node.main import main

sys.exit(main())
"""


def build(expected: Expected) -> bytes:
    """The bytes of the kit."""
    modules = ("cluster/__init__.py", "cluster/node/*.py")
    return pyz.build(modules, _MAIN, {f"patchset/cluster/node/{EXPECTED}": expected.to_json()})
