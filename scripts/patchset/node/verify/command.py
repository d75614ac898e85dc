# SPDX-License-Identifier: Apache-2.0
"""`verify` on the command line: the same checks and words in the tool and in patchset-node.pyz."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from patchset.node import manifest
from patchset.node.errors import Findings, UsageError
from patchset.node.verify import build, checks
from patchset.node.verify.build import Build
from patchset.node.verify.checks import Finding, Kind, Lookup, Verdict, one_a_file, unlike

Vouch = Callable[[Path, bytes], str]

SUMS = "SHA256SUMS"
SIGNATURE = f"{SUMS}.minisig"
_PACKAGE = "vllm_ascend"
_ASK = "import json, sys; print(json.dumps([path for path in sys.path if path]))"
_TIMEOUT_S = 60


def run(arguments: argparse.Namespace, lookup: Lookup, vouch: Vouch | None = None) -> list[Verdict]:
    """Does what the options of `node.options.add_verify` say. `vouch` checks the signature of a folder of wheels; None
    where none is asked for. Raises UsageError for options that do not go together, or what is not there; Findings for
    what is no patched build at all."""
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
        folders = [arguments.path] if arguments.path else search_path(arguments.python)
        if arguments.path and not arguments.path.is_dir():
            raise UsageError(f"no such folder: {arguments.path}", hint="give a site-packages folder")
        package = expected.package if (expected := lookup("")) else _PACKAGE
        return [checks.check(the_installation(folders, package), lookup)]
    if arguments.wheel and len(arguments.wheel) == 1:
        return [checks.check(build.read_wheel(arguments.wheel[0]), lookup)]
    if arguments.wheel:
        return [_judged(wheel, lookup) for wheel in arguments.wheel]
    whole, wheels = check_dist(arguments.dist, vouch)
    return [whole, *(_judged(wheel, lookup) for wheel in wheels)]


def check_dist(folder: Path, vouch: Vouch | None) -> tuple[Verdict, list[Path]]:
    """Checks dist/<set>; the verdict, and the wheels that SHA256SUMS vouches for, to be looked into. `vouch` checks the
    signature of SHA256SUMS, whose content it gets, and says whose that is. Raises UsageError where there is no such
    folder; Findings where SHA256SUMS is missing or damaged, is not signed, or not with this key."""
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
    found = [{"where": verdict.where, "ok": verdict.ok, **asdict(verdict)} for verdict in verdicts]
    return {"command": "verify", "ok": all(verdict.ok for verdict in verdicts), "verdicts": found}


def search_path(python: str | None) -> list[Path]:
    """The folders in which `python`, or the running interpreter, looks for packages; UsageError where it is none."""
    if python is None:
        return [Path(entry) for entry in sys.path if entry]
    try:
        run = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
        return [Path(entry) for entry in json.loads(run.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise UsageError(f"{python} is no Python that runs: {error}", hint="give the node's interpreter") from error


def the_installation(folders: list[Path], package: str) -> Build:
    """The one installation of the package in these folders. Raises Findings where there is none, or more than one; or
    other code of that name comes first, or it is editable."""
    installed, bare = _find(folders, package)
    shown = ", ".join(map(str, folders)) or "nowhere"
    if not installed:
        where = f"; its code lies in {bare[0]}, uninstalled" if bare else ""
        hint = f"verify the code itself: --tree {bare[0]}" if bare else "name the folder: --path DIR, or --python EXE"
        raise Findings(f"{package} is not installed{where}\n  searched: {shown}", hint=hint)
    if len(installed) > 1:
        rows = "\n  ".join(f"{folder / info}" for folder, info in installed)
        raise Findings(f"{package} is installed {len(installed)} times\n  {rows}", hint="remove the leftovers with pip")
    folder, info = installed[0]
    if bare:
        hint = f"take {bare[0]} off PYTHONPATH, or verify the code itself: --tree {bare[0]}"
        raise Findings(f"Python imports {bare[0] / package}, not the installation in {folder}", hint=hint)
    if not (folder / package).is_dir() and (source := editable(folder / info)):
        said = f"the installation in {folder} is editable: its code lies in {source}"
        raise Findings(said, hint=f"verify the code itself: --tree {source}")
    return build.read_installation(folder, info, package)


def _find(folders: list[Path], package: str) -> tuple[list[tuple[Path, str]], list[Path]]:
    """Where the package is installed, in Python's order: each folder, and the name of its .dist-info; and each folder
    that holds the package alone, such as a checkout on PYTHONPATH, if Python would import that instead."""
    installed: list[tuple[Path, str]] = []
    bare: list[Path] = []
    seen = set()
    for folder in folders:
        if not folder.is_dir() or folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        infos = sorted(entry.name for entry in folder.glob(f"{package}-*.dist-info") if entry.is_dir())
        installed += [(folder, info) for info in infos]
        if not infos and not installed and (folder / package).is_dir():
            bare.append(folder)
    return installed, bare


def editable(info: Path) -> str:
    """The folder that an editable installation points to, or nothing."""
    try:
        url = str(json.loads((info / "direct_url.json").read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return ""
    return unquote(urlsplit(url).path) if url.startswith("file:") else ""
