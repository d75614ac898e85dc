# SPDX-License-Identifier: Apache-2.0
"""Lets Ray's workers and engines have this set's settings: vLLM copies the variables that it knows, no others."""

from __future__ import annotations

import functools
import os

from vllm import envs

from vllm_ascend.data_parallel.settings import TABLE

for _setting in TABLE:
    envs.environment_variables.setdefault(_setting.name, functools.partial(os.environ.get, _setting.name))
