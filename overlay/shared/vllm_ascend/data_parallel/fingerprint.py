# SPDX-License-Identifier: Apache-2.0
"""What must be the same on every rank before the first step: the code, and the settings that decisions depend on.

The digest of a build is the sha256 over the text of ``<sha256>  <path>`` lines, sorted by path, for each .py file of
the package but those that its build generates. The tool has the same rule, so a rank's log can be held against a set.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Mapping, Sequence

GENERATED = frozenset({"_version.py", "_build_info.py"})
KERNELS = "_cann_ops_custom"
"""A folder that the build of CANN's kernels fills, with Python files too."""
_MOST_NAMED = 8


def digests(package: Path) -> dict[str, str]:
    """Path to sha256 of each file that counts, by paths that start with the package's name, in order."""
    found = {}
    for folder, inner, names in os.walk(package):
        if Path(folder) == package and KERNELS in inner:
            inner.remove(KERNELS)
        for name in names:
            path = Path(folder, name)
            inside = path.relative_to(package).as_posix()
            if name.endswith(".py") and inside not in GENERATED:
                regular = path.is_file() and not path.is_symlink()
                digest = hashlib.sha256(path.read_bytes()).hexdigest() if regular else "not a regular file"
                found[f"{package.name}/{inside}"] = digest
    return dict(sorted(found.items()))


def build_digest(files: Mapping[str, str]) -> str:
    """One sha256 over the digests of all files."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Fingerprint:
    """One rank's side. ``facts`` are versions and settings by the name under which a user knows them, as text."""

    rank: int
    host: str
    facts: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def key(self) -> str:
        """Equal for two ranks that fit together, wherever they run."""
        both = json.dumps([dict(self.facts), build_digest(self.files)], sort_keys=True)
        return hashlib.sha256(both.encode()).hexdigest()

    def dumps(self) -> str:
        """The form in which it travels."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, data: str) -> Fingerprint:
        """The inverse of ``dumps``."""
        return cls(**json.loads(data))


def differences(one: Fingerprint, other: Fingerprint) -> list[str]:
    """How ``other`` differs from ``one``, in words: each setting with both values, and the files by name."""
    found = [
        f"{name} is {other.facts.get(name, 'absent')} instead of {one.facts.get(name, 'absent')}"
        for name in sorted({*one.facts, *other.facts})
        if one.facts.get(name) != other.facts.get(name)
    ]
    paths = [path for path in sorted({*one.files, *other.files}) if one.files.get(path) != other.files.get(path)]
    if paths:
        more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
        noun = "file" if len(paths) == 1 else "files"
        found.append(f"{len(paths)} {noun} of the build: {', '.join(paths[:_MOST_NAMED])}{more}")
    return found


def reference(keys: Sequence[str]) -> str:
    """The key that most ranks have; of several such, the one with the lowest rank. The same on every rank."""
    return max(keys, key=lambda key: (keys.count(key), -keys.index(key)))
