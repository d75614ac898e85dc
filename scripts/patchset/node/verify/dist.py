# SPDX-License-Identifier: Apache-2.0
"""dist/<set>: the signature of SHA256SUMS, SHA256SUMS itself, then each file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from patchset.node import manifest
from patchset.node.errors import Findings, UsageError
from patchset.node.verify.checks import Verdict, one_a_file, unlike

Vouch = Callable[[Path, bytes], str]

SUMS = "SHA256SUMS"
SIGNATURE = f"{SUMS}.minisig"


def check(folder: Path, vouch: Vouch | None) -> tuple[Verdict, list[Path]]:
    """Checks dist/<set>; the verdict, and the wheels that SHA256SUMS vouches for, to be looked into.

    `vouch` checks the signature of SHA256SUMS, whose content it gets, and says whose that is; None asks for none.
    Raises UsageError where there is no such folder; Findings where SHA256SUMS is missing or damaged, is not signed, or
    not with this key.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}", hint="give dist/<set>, as make wheels left it")
    try:
        data = (folder / SUMS).read_bytes()
    except FileNotFoundError as error:
        raise Findings(f"{folder} has no {SUMS}", hint="make wheels writes it; get the folder again") from error
    if vouch is not None:
        against = [vouch(folder, data), SUMS]
    elif (folder / SIGNATURE).exists():
        against = [f"{SUMS} (signed, but no --key was given to check that)"]
    else:
        against = [SUMS]
    try:
        sums = manifest.parse(data.decode(errors="replace"), str(folder / SUMS))
    except UsageError as error:
        raise Findings(error.message, hint="get the folder again") from error
    if not sums:
        raise Findings(f"{folder / SUMS} lists nothing", hint="get the folder again")
    found = manifest.measure(folder, sums)
    listed = (*sums, SUMS, SIGNATURE)
    found |= {path: "" for path in manifest.walk(folder) if path not in listed}
    changed = f"sha256 {{}}, {SUMS} says {{}}"
    findings = one_a_file(unlike(found, sums, f"{SUMS} lists it", f"{SUMS} does not list it", changed))
    differing = {finding.path for finding in findings}
    wheels = [folder / path for path in sums if path.endswith(".whl") and "/" not in path and path not in differing]
    return Verdict(str(folder), "", "", "", len(sums), tuple(against), findings), wheels
