# SPDX-License-Identifier: Apache-2.0
"""One way to break the overlay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

Break = Callable[[Any], Any]
"""Gets the original function, returns the broken one."""


@dataclass(frozen=True)
class Mutant:
    """One way to break the overlay: what replaces an attribute of an owner.

    ``concerns`` says whether a release has what it breaks.
    """

    name: str
    owner: Any
    attribute: str
    breaks: Break
    concerns: bool = True

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The overlay with this defect, for the time of the block."""
        original = getattr(self.owner, self.attribute)
        with patch.object(self.owner, self.attribute, self.breaks(original)):
            yield
