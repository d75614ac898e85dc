# SPDX-License-Identifier: Apache-2.0
"""A tree: a checkout, or the package's code alone, without RECORD or manifest, held to what the set makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from patchset.node import fingerprint, manifest
from patchset.node.errors import UsageError
from patchset.node.expected import Expected
from patchset.node.verify.checks import Finding, Kind, Verdict, compare, one_a_file


def check(root: Path, expected: Expected) -> Verdict:
    """Compares the Python files of the package below `root`, and every other file where the whole checkout is there.

    Raises UsageError where the folder does not hold the package.
    """
    package = expected.package
    if not (root / package).is_dir():
        raise UsageError(f"{root} holds no {package}/", hint="give the folder that holds the package")
    files = fingerprint.measure(root, package)
    whole = any((root / name).is_file() for name in ("pyproject.toml", "setup.py"))
    others = expected.others if whole else {}
    found = manifest.measure(root, others)
    findings = one_a_file([*compare(files, expected), *_differing(found, others, expected.set)])
    seal = fingerprint.of(files, package)
    return Verdict(str(root), expected.set, "", seal, len(files) + len(found), (f"set {expected.set}",), findings)


def _differing(found: Mapping[str, str], others: Mapping[str, str], name: str) -> Iterator[Finding]:
    for path, should in others.items():
        if path not in found:
            yield Finding(path, Kind.MISSING, f"set {name} has it")
        elif found[path] != should:
            yield Finding(path, Kind.CHANGED, f"sha256 {found[path]}, set {name} has {should}")
