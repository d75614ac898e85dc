# SPDX-License-Identifier: Apache-2.0
"""Lets Ray's workers and engines have this set's settings: vLLM copies the variables that it knows, no others.

From vLLM 0.18 on it also takes the variables that it knows into the key of its compile cache. Nothing that is compiled
depends on these, so they are kept out: another limit is no reason to compile a model anew.
"""

from __future__ import annotations

import functools
import os
from typing import Callable

from vllm import envs

from vllm_ascend.data_parallel.settings import TABLE


def without_settings(compile_factors: Callable[[], dict[str, object]]) -> Callable[[], dict[str, object]]:
    """vLLM's own, but for this set's settings."""
    names = {setting.name for setting in TABLE}

    @functools.wraps(compile_factors)
    def factors() -> dict[str, object]:
        return {name: value for name, value in compile_factors().items() if name not in names}

    return factors


for _setting in TABLE:
    envs.environment_variables.setdefault(_setting.name, functools.partial(os.environ.get, _setting.name))
if hasattr(envs, "compile_factors"):  # up to vLLM 0.11 the key has a list of its own
    envs.compile_factors = without_settings(envs.compile_factors)
