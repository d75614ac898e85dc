# SPDX-License-Identifier: Apache-2.0
"""The simulator on the import path, and its ranks without a log line for each refused deployment."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parent))
logging.disable(logging.WARNING)

from simulation.family import FAMILY, VERSION, module  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Upstream's modules warn while they are imported.
    module("patched")

# The tests of other families' modules, which import what this release has not, and of what came later.
collect_ignore = [name for name in ("until_0_11", "since_0_18") if name != FAMILY]
collect_ignore += ["since_0_18/test_since_0_23.py"] if VERSION < (0, 23) else []

# Random cases are drawn however slow the machine is.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")
