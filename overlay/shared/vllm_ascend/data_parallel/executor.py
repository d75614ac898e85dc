# SPDX-License-Identifier: Apache-2.0
"""Whether the executor of this process's engine has lost one of its workers.

Where a worker ends by itself, vLLM ends the others and marks the executor as failed. But the engine's thread, which
waits for the answer of that worker, may wait on for minutes, and to the other engines it seems to work.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any, Optional

from vllm.v1.executor.abstract import Executor

_executor: Optional[weakref.ref[Executor]] = None


def remembered(init: Any) -> Any:
    """vLLM's own, of the executor that this process has made last."""

    @functools.wraps(init)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        global _executor
        _executor = weakref.ref(self)
        init(self, *args, **kwargs)

    return made


def loss() -> Optional[str]:
    """Why the engine makes no step any more; None where nothing is known."""
    made = None if _executor is None else _executor()
    # One whose worker is in its own process knows no such mark.
    return "one of its workers has ended" if getattr(made, "is_failed", False) else None


Executor.__init__ = remembered(Executor.__init__)
