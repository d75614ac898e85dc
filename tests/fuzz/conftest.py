# SPDX-License-Identifier: Apache-2.0
"""How many cases: a few hundred for `make test`, PATCHSET_FUZZ of them for `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_FEW = 200

settings.register_profile(
    "cases",
    max_examples=int(os.environ.get("PATCHSET_FUZZ", _FEW)),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
settings.load_profile("cases")
