# SPDX-License-Identifier: Apache-2.0
"""The defects that sets know by name: their titles, and why a release does not have one.

They are in tests/smoke/defects.toml, and those that no older set's release has in tests/smoke/<set>/defects.toml, of
each set that has them: so a new one makes no other set's tests others.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from patchset.node.errors import UsageError
from patchset.system import paths

_NAME = re.compile(r"([A-Z]+)(\d+)([a-z]?)")


def file() -> Path:
    """tests/smoke/defects.toml."""
    return paths.repo_root() / "tests" / "smoke" / "defects.toml"


def titles() -> dict[str, str]:
    """Titles by name; none where the repository holds no table of them.

    Raises:
        UsageError: a table is no table of strings.
    """
    tables = [*([file()] if file().is_file() else []), *_of_single_sets()]
    return {name: title for table in tables for name, title in load_titles(table).items()}


def absent(set_name: str) -> dict[str, str]:
    """Why a set's release does not have a defect, by the name of the defect.

    Raises:
        UsageError: the file is not there, or a table is no table of strings.
    """
    found = load_absent(file(), set_name)
    tables = {table.parent.name: table for table in _of_single_sets()}
    own = load_titles(tables.pop(set_name)) if set_name in tables else {}
    reasons = {name: why for table in tables.values() for name, why in _strings(table, "elsewhere").items()}
    return found | {name: why for name, why in reasons.items() if name not in own}


def _of_single_sets() -> list[Path]:
    return sorted(file().parent.glob(f"v*/{file().name}"))


def load_titles(file: Path) -> dict[str, str]:
    """Titles by the name of the defect.

    Raises:
        UsageError: the file is not there or is not a table of strings.
    """
    return _strings(file, "titles")


def load_absent(file: Path, set_name: str) -> dict[str, str]:
    """Why a set's release does not have a defect, by the name of the defect.

    Raises:
        UsageError: the file is not there or is not a table of strings.
    """
    titles = load_titles(file)
    return {name: why for name, why in _strings(file, "absent", set_name).items() if name in titles}


def _strings(file: Path, *tables: str) -> dict[str, str]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        for name in tables:
            found = found[name] if name == "titles" else found.get(name, {})
        return {str(name): str(text) for name, text in found.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, AttributeError) as error:
        raise UsageError(f"{file}: {error!r}", hint="restore it with git") from error


def order(name: str) -> tuple[str, int, str]:
    """A key that sorts D2 before D10."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2]), found[3]) if found else (name, 0, "")
