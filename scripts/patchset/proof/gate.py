# SPDX-License-Identifier: Apache-2.0
"""Which trees have passed the smoke tests: build/<set>/passed.json. A pass belongs to what was tested, by what and
where, not to the run: with another digest of tree or tests, on another device or after a failure, the tests are due
again."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from patchset.node import manifest
from patchset.sets import facts
from patchset.system import disk, paths

FACTS = "smoke/defects.toml"
_KEPT = 20


class Tier(Enum):
    QUICK = "quick"
    WHOLE = "whole"


@dataclass(frozen=True)
class Subject:
    """What a run is about: digest of the patched tree, digest of tests and stand-in, device (cpu for the stand-in)."""

    tree: str
    tests: str
    device: str


def subject(set_name: str, tree: str, device: str) -> Subject:
    return Subject(tree, tests_digest(set_name), device)


def tests_digest(set_name: str) -> str:
    """Digest of the tests of a set: tests/smoke and tests/standin, bytecode and caches left out. Of
    tests/smoke/defects.toml the titles and what it says of this set count: another set's tests change nothing here. A
    folder of either that is named after sets counts for these alone."""
    root = paths.repo_root() / "tests"
    files = [
        f"{part}/{path}"
        for part in ("smoke", "standin")
        for path in manifest.walk(root / part, skip=("__pycache__", ".pytest_cache"))
        if not path.endswith(".pyc") and not facts.is_of_others(path.partition("/")[0], set_name)
    ]
    found = manifest.measure(root, files)
    if FACTS in found:
        found[FACTS] = _facts_digest(root / FACTS, set_name)
    return manifest.digest(found)


def _facts_digest(file: Path, set_name: str) -> str:
    """Digest of what the table of defects says of a set; of its bytes where it is no table."""
    text = file.read_text(encoding="utf-8")
    try:
        tables = tomllib.loads(text)
        about = {name: table if name == "titles" else table.get(set_name) for name, table in tables.items()}
    except (ValueError, AttributeError):
        return manifest.sha256(text.encode())
    return manifest.sha256(json.dumps(about, sort_keys=True).encode())


def passed(set_name: str, asked: Subject) -> Tier | None:
    """The larger tier that a subject has passed since its last failure; None if it has passed none."""
    tiers = {tier for about, tier in _load(set_name) if about == asked}
    return Tier.WHOLE if Tier.WHOLE in tiers else Tier.QUICK if tiers else None


def note(set_name: str, about: Subject, tier: Tier, *, ok: bool) -> None:
    """Records that a subject has passed a tier, or that it failed: a failure erases earlier passes."""
    known = [row for row in _load(set_name) if row[0] != about or (ok and row[1] is not tier)]
    rows = [*known, *([(about, tier)] if ok else [])]
    file = _file(set_name)
    file.parent.mkdir(parents=True, exist_ok=True)
    document = [asdict(of) | {"tier": passed_tier.value} for of, passed_tier in rows[-_KEPT:]]
    disk.write(file, (json.dumps(document, indent=2) + "\n").encode(), mode=0o644)


def _file(set_name: str) -> Path:
    return paths.build_dir(set_name) / "passed.json"


def _load(set_name: str) -> list[tuple[Subject, Tier]]:
    """What is written down; nothing where the file is not there or not ours: the tests are due then."""
    try:
        rows = json.loads(_file(set_name).read_bytes())
        return [(Subject(row["tree"], row["tests"], row["device"]), Tier(row["tier"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []
