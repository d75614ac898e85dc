# SPDX-License-Identifier: Apache-2.0
"""parts.toml: what is mutated, what tests it, how good they must be, and which mutants are no fault of theirs."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mutation.mutants import Change
from patchset.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Part:
    """Modules that are mutated together.

    Attributes:
        name: of the part: `writer`.
        tests: files of tests/unit that test them, in seconds rather than minutes.
        lowest: for each module the score that it must have, in per cent of its mutants.
    """

    name: str
    tests: tuple[str, ...]
    lowest: Mapping[str, float]


@dataclass(frozen=True)
class Parts:
    """The whole file.

    Attributes:
        parts: in its order.
        explained: why a change of no consequence is one.
    """

    parts: tuple[Part, ...]
    explained: Mapping[Change, str]

    def chosen(self, names: Sequence[str]) -> Parts:
        """The parts of these names, all where there are none, and what is explained of them.

        Raises:
            UsageError: there is no such part.
        """
        known = [part.name for part in self.parts]
        if unknown := [name for name in names if name not in known]:
            raise UsageError(f"no part {unknown[0]!r}", hint=f"known parts: {', '.join(known)}")
        parts = tuple(part for part in self.parts if part.name in names or not names)
        modules = tuple(f"{module}." for part in parts for module in part.lowest)
        return Parts(parts, {change: why for change, why in self.explained.items() if change.place.startswith(modules)})


def load(file: Path) -> Parts:
    """Reads parts.toml."""
    document = tomllib.loads(file.read_text())
    explained = {Change(row["in"], row["was"], row["now"]): row["why"] for row in document.pop("equivalent", [])}
    parts = tuple(Part(name, tuple(table["tests"]), table["lowest"]) for name, table in document.items())
    return Parts(parts, explained)
