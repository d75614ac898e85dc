# SPDX-License-Identifier: Apache-2.0
"""The defects that sets know by name: their titles, and why a release does not have one. They are in
tests/smoke/defects.toml, and those that few sets know in the defects.toml of a folder there that is named after these
sets (`v0.23.0`, `v0.18.0+v0.23.0`): so a new one makes no other set's tests others."""

from __future__ import annotations

import re
import string
import tomllib
from pathlib import Path

from patchset.node.errors import UsageError
from patchset.system import paths

_NAME = re.compile(r"([A-Z]+)(\d+)([a-z]?)")
_SET = r"v\d+(\.\d+)+"
_SETS = re.compile(rf"{_SET}(\+{_SET})*")


def file() -> Path:
    return paths.repo_root() / "tests" / "smoke" / "defects.toml"


def titles() -> dict[str, str]:
    """Titles by name; none where the repository holds no table of them. Raises UsageError, as all that reads one."""
    tables = [*([file()] if file().is_file() else []), *_of_few_sets()]
    return {name: title for table in tables for name, title in _strings(table, "titles").items()}


def absent(set_name: str) -> dict[str, str]:
    """Why a set's release does not have a defect, by the name of the defect."""
    shared = _strings(file(), "titles")
    found = {name: why for name, why in _strings(file(), "absent", set_name).items() if name in shared}
    elsewhere, still = _of_others(set_name, "elsewhere"), left_open(set_name)
    return found | {name: why for name, why in elsewhere.items() if name not in still}


def left_open(set_name: str) -> dict[str, str]:
    """Defects that a set's release has, that other sets mend and this one does not, and why, by name."""
    return _of_others(set_name, "open", set_name)


def _of_others(set_name: str, *tables: str) -> dict[str, str]:
    others = [file for file in _of_few_sets() if is_of_others(file.parent.name, set_name)]
    return {name: why for file in others for name, why in _strings(file, *tables).items()}


def _of_few_sets() -> list[Path]:
    return sorted(file().parent.glob(f"v*/{file().name}"))


def is_of_others(folder: str, set_name: str) -> bool:
    """Whether a folder of tests/smoke or tests/standin is named after other sets than this one.

    >>> [is_of_others(name, "v0.23.0") for name in ("v0.18.0", "v0.23.0", "v0.18.0+v0.23.0", "torch_npu")]
    [True, False, False, False]
    """
    return _SETS.fullmatch(folder) is not None and set_name not in folder.split("+")


def _strings(file: Path, *tables: str) -> dict[str, str]:
    """A table of a file; raises UsageError where that is not there, or no table of strings."""
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


def whole(defect: str) -> str:
    """The defect that a row is a part of: D6 for D6a."""
    return defect.rstrip(string.ascii_lowercase)
