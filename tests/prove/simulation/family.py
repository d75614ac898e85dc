# SPDX-License-Identifier: Apache-2.0
"""Which modules simulate the release on the import path: its family's, whose runners decide their steps alike.

A family is a folder with the same modules: ``patched`` and ``pristine`` make its ranks, ``strategies`` draws its
deployments, ``settings`` answers for upstream's accessors, ``mutants`` breaks its overlay, ``defects`` names what its
pristine trees show. Its ``releases`` says how its releases differ.
"""

from __future__ import annotations

import importlib
from typing import Any

import vllm

VERSION = tuple(map(int, vllm.__version__.split(".")[:2]))
# Since 0.18.0 one method decides every step, and there is no TorchAir.
FAMILY = "until_0_11" if VERSION <= (0, 11) else "since_0_18"


def module(name: str) -> Any:
    """The family's module of this name."""
    return importlib.import_module(f"simulation.{FAMILY}.{name}")
