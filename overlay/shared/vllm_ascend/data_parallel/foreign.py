# SPDX-License-Identifier: Apache-2.0
"""Code of other programs in place of upstream's methods, told by where it lies.

UCM and vLLM-Omni bring a runner's step, which relies on what upstream's has: as many rows on every rank, by which each
chooses for itself what all of them must choose alike.
"""

from __future__ import annotations

import inspect
from typing import Any

_STEP = ("execute_model", "_prepare_inputs", "_process_reqs", "_dummy_run")


def is_foreign(method: Any) -> bool:
    """Whether the code of a method, whatever it is named and says to be of, is another program's."""
    code = getattr(method, "__code__", None)
    return code is not None and not code.co_filename.startswith(_PACKAGE)


# As Python writes it, which may be otherwise than the path is written elsewhere.
_PACKAGE = is_foreign.__code__.co_filename.removesuffix("data_parallel/foreign.py")


def steps_are_foreign(runner: Any) -> bool:
    """Whether a part of a runner's step is another program's; not if that wraps upstream's, and says so."""
    methods = (getattr(runner, name, None) for name in _STEP)
    return any(is_foreign(inspect.unwrap(method)) for method in methods if method is not None)
