# SPDX-License-Identifier: Apache-2.0
"""`verify` on the command line: the same checks and words in the tool and in patchset-node.pyz."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from patchset.node.errors import Findings, UsageError
from patchset.node.verify import build, checks, dist, places
from patchset.node.verify.checks import Finding, Kind, Lookup, Verdict
from patchset.node.verify.dist import Vouch

_PACKAGE = "vllm_ascend"


def run(arguments: argparse.Namespace, lookup: Lookup, vouch: Vouch | None = None) -> list[Verdict]:
    """Does what the options of `node.options.add_verify` say.

    `vouch` checks the signature of a folder of wheels; None where none is asked for. Raises UsageError
    for options that do not go together, or what is not there; Findings for what is no patched build at all.
    """
    for option in ("python", "path"):
        if getattr(arguments, option) and not arguments.installed:
            raise UsageError(f"--{option} goes with --installed")
    if arguments.python and arguments.path:
        raise UsageError("--python and --path say the same thing twice", hint="give one of them")
    if arguments.tree is not None:
        expected = lookup("")
        if expected is None:
            raise UsageError("nothing says which set the tree should be of", hint="name it: --set v0.10.1.1")
        return [checks.check_tree(arguments.tree, expected)]
    if arguments.installed:
        folders = [arguments.path] if arguments.path else places.search_path(arguments.python)
        if arguments.path and not arguments.path.is_dir():
            raise UsageError(f"no such folder: {arguments.path}", hint="give a site-packages folder")
        package = expected.package if (expected := lookup("")) else _PACKAGE
        return [checks.check(places.the_installation(folders, package), lookup)]
    if arguments.wheel and len(arguments.wheel) == 1:
        return [checks.check(build.read_wheel(arguments.wheel[0]), lookup)]
    if arguments.wheel:
        return [_judged(wheel, lookup) for wheel in arguments.wheel]
    whole, wheels = dist.check(arguments.dist, vouch)
    return [whole, *(_judged(wheel, lookup) for wheel in wheels)]


def _judged(wheel: Path, lookup: Lookup) -> Verdict:
    """One wheel of many: what cannot be read as a patched wheel is a finding, and the others have their turn."""
    try:
        return checks.check(build.read_wheel(wheel), lookup)
    except Findings as error:
        return Verdict(str(wheel), "", "", "", 0, (), (Finding(str(wheel), Kind.REFUSED, error.message),))


def lines(verdict: Verdict) -> Iterator[str]:
    held = f"{verdict.files} files against {', '.join(verdict.against) or 'nothing'}"
    seal = f"; fingerprint {verdict.fingerprint}" if verdict.fingerprint else ""
    yield f"{'ok' if verdict.ok else 'differs'}: {verdict.where}: {held}{seal}"
    for finding in verdict.findings:
        yield f"  {finding.kind.value:8} {finding.path}: {finding.detail}"


def document(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    found = [{"ok": verdict.ok, **asdict(verdict)} for verdict in verdicts]
    return {"command": "verify", "ok": all(verdict.ok for verdict in verdicts), "verdicts": found}
