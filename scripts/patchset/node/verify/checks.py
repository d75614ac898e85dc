# SPDX-License-Identifier: Apache-2.0
"""The checks of a build: each yields findings, and a build without findings is as expected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Callable, Optional

from patchset.node import fingerprint, manifest
from patchset.node.errors import Findings, UsageError
from patchset.node.expected import Expected
from patchset.node.verify.build import MANIFEST, Build, Declared, Row, parse_manifest, parse_record

# What installers write into .dist-info (PyPA "Recording installed projects", PEP 610; the uv_ ones are uv's own).
_INSTALLERS = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})
_SIGNATURES = frozenset({"RECORD.jws", "RECORD.p7s"})
_VERSION = re.compile(rb"^Version:[^\r\n]*", re.MULTILINE)

Lookup = Callable[[str], Optional[Expected]]
"""Gives what a set makes, or None where that is not known.

Asked for a set by its name, by the release that it patches, or, with an empty name, for the one that is meant.
"""


class Kind(str, Enum):
    CHANGED = "changed"
    MISSING = "missing"
    EXTRA = "extra"
    RECORD = "RECORD"
    MANIFEST = "manifest"
    NAME = "name"
    REFUSED = "refused"


@dataclass(frozen=True)
class Finding:
    path: str
    kind: Kind
    detail: str


@dataclass(frozen=True)
class Verdict:
    where: str  # what was looked at
    set: str  # set, version: what it says it is; empty where it says nothing
    version: str
    fingerprint: str  # of the Python files that are there; empty where there is no one build
    files: int  # how many files were looked at
    against: tuple[str, ...]  # what they were held to, in words
    findings: tuple[Finding, ...]  # what differs, one row a file

    @property
    def ok(self) -> bool:
        return not self.findings


def one_a_file(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The first finding of each file, sorted by path: what differs from the set differs from its RECORD too."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.path, finding)
    return tuple(first[path] for path in sorted(first))


def unlike(
    now: Mapping[str, str], should: Mapping[str, str], missing: str, extra: str, changed: str
) -> Iterator[Finding]:
    """Where digests by path are others than they should be, in these words; `changed` is told both."""
    for path in sorted(now.keys() | should.keys()):
        if path not in now:
            yield Finding(path, Kind.MISSING, missing)
        elif path not in should:
            yield Finding(path, Kind.EXTRA, extra)
        elif now[path] != should[path]:
            yield Finding(path, Kind.CHANGED, changed.format(now[path], should[path]))


def check(build: Build, lookup: Lookup) -> Verdict:
    """Holds a wheel or an installation to its own manifest and RECORD, and to what is expected of it. Raises UsageError
    where the manifest is of another format; Findings where it is damaged, or where there is none, because this is
    upstream's build."""
    if MANIFEST not in build.info:
        return _check_without_manifest(build, lookup(build.version))
    name = f"{build.dist_info}/{MANIFEST}"
    own = parse_manifest(build.info[MANIFEST], f"{build.where}: {name}")
    expected = lookup(own.set)
    against = [MANIFEST, "RECORD"]
    findings = list(_against_name(build, own))
    if expected:
        against.append(f"set {expected.set}")
        if (own.set, own.package) != (expected.set, expected.package):
            detail = f"is of {own.package} of set {own.set}, expected is {expected.package} of set {expected.set}"
            findings.append(Finding(name, Kind.MANIFEST, detail))
        else:
            findings += compare(build.digests, expected)
            findings += _against_upstream(build, own, expected)
            against += ["upstream's wheel"] if expected.made_from.get(own.upstream) else []
        if expected.manifests and own.sha256 not in expected.manifests.values():
            detail = f"has sha256 {own.sha256}, which no wheel of this dist/{expected.set} has"
            findings.append(Finding(name, Kind.MANIFEST, detail))
    findings += _against_manifest(build, own)
    findings += _outside(build, own.package)
    findings += _against_record(build)
    if own.fingerprint != fingerprint.of(own.files, own.package):
        findings.append(Finding(name, Kind.MANIFEST, f"says fingerprint {own.fingerprint}, its files give another"))
    seal = fingerprint.of(build.digests, own.package)
    rows = one_a_file(findings)
    return Verdict(str(build.where), own.set, build.version, seal, len(build.files), tuple(against), rows)


def _check_without_manifest(build: Build, expected: Expected | None) -> Verdict:
    """An installation that `patchset apply --target` patched in place has the set's files and RECORD, no manifest."""
    what = f"{build.where}: {build.dist_info[: -len('.dist-info')]} is not a patched build: it has no {MANIFEST}"
    hint = "make wheels makes patched wheels; make apply TARGET=... patches in place"
    if expected is None:
        raise Findings(f"{what}, and upstream's wheels have none", hint=hint)
    seal = fingerprint.of(build.digests, expected.package)
    if seal == fingerprint.of(expected.pristine, expected.package):
        raise Findings(f"{what}, and every Python file is upstream's {expected.release}", hint=hint)
    differing = Counter(finding.kind.value for finding in compare(build.digests, expected))
    if differing:
        shown = ", ".join(f"{number} {kind}" for kind, number in sorted(differing.items()))
        raise Findings(f"{what}, and it is not what set {expected.set} makes in place ({shown})", hint=hint)
    rows = one_a_file([*_outside(build, expected.package), *_against_record(build)])
    against = (f"set {expected.set}", "RECORD")
    return Verdict(str(build.where), expected.set, build.version, seal, len(build.files), against, rows)


def check_tree(root: Path, expected: Expected) -> Verdict:
    """Holds a checkout, or the package's code alone, to what the set makes; raises UsageError where it is not there."""
    package = expected.package
    if not (root / package).is_dir():
        raise UsageError(f"{root} holds no {package}/", hint="give the folder that holds the package")
    files = fingerprint.measure(root, package)
    whole = any((root / name).is_file() for name in ("pyproject.toml", "setup.py"))
    others = expected.others if whole else {}
    found = manifest.measure(root, others)
    told = unlike(found, others, f"set {expected.set} has it", "", f"sha256 {{}}, set {expected.set} has {{}}")
    findings = one_a_file([*compare(files, expected), *told])
    seal = fingerprint.of(files, package)
    return Verdict(str(root), expected.set, "", seal, len(files) + len(found), (f"set {expected.set}",), findings)


def compare(files: Mapping[str, str], expected: Expected) -> Iterator[Finding]:
    """Holds the package's Python files, by path and sha256, to what the set makes."""
    counted = {path: sha for path, sha in files.items() if fingerprint.counts(path, expected.package)}
    name = f"set {expected.set}"
    told = f"{name} has it", f"{name} has no such file", f"sha256 {{}}, {name} makes {{}}"
    for one in unlike(counted, expected.files, *told):
        pristine = one.kind is Kind.CHANGED and counted[one.path] == expected.pristine.get(one.path)
        yield replace(one, detail="is upstream's, not patched") if pristine else one


def kept(build: Build, package: str) -> dict[str, str]:
    """What a patched build has from upstream besides the Python files that count: sha256 by path. Files of .dist-info
    have its name left out, and METADATA its version: the two that differ."""
    info, differs = f"{build.dist_info}/", {MANIFEST, "RECORD"} | _INSTALLERS | _SIGNATURES
    found: dict[str, str] = {}
    for path, sha in build.digests.items():
        name = path[len(info) :] if path.startswith(info) else ""
        if name == "METADATA":
            found[f".dist-info/{name}"] = manifest.sha256(_VERSION.sub(b"Version:", build.info[name], count=1))
        elif name and name not in differs and not name.startswith("sboms/"):
            found[f".dist-info/{name}"] = sha
        elif path.startswith(f"{package}/") and not fingerprint.counts(path, package):
            found[path] = sha
    return found


def _against_upstream(build: Build, own: Declared, expected: Expected) -> Iterator[Finding]:
    """What the set has no say in is as in the upstream wheel, where that is at hand."""
    if own.upstream not in expected.made_from:
        detail = f"says that it was made from {own.upstream}, which set {expected.set} does not pin"
        yield Finding(f"{build.dist_info}/{MANIFEST}", Kind.MANIFEST, detail)
        return
    if should := expected.made_from[own.upstream]:
        extra = f"neither upstream's wheel nor set {expected.set} has it"
        now = kept(build, expected.package)
        for one in unlike(now, should, "upstream's wheel has it", extra, "is not as in upstream's wheel"):
            inside = one.path.startswith(".dist-info/")
            yield replace(one, path=build.dist_info[: -len(".dist-info")] + one.path) if inside else one


def _outside(build: Build, package: str) -> Iterator[Finding]:
    """A wheel, or RECORD of an installation, with files elsewhere: a .pth runs at each start of Python."""
    listed = parse_record(build.info.get("RECORD", b""))[0] if build.installed else {}
    for path in sorted(build.files.keys() | listed.keys()):
        if not path.startswith((f"{package}/", f"{build.dist_info}/")):
            yield Finding(path, Kind.EXTRA, f"lies outside of {package}")


def _against_manifest(build: Build, own: Declared) -> Iterator[Finding]:
    names = {MANIFEST, "RECORD"} | (_INSTALLERS | _SIGNATURES if build.installed else set())
    unlisted = {f"{build.dist_info}/{name}" for name in names} - own.files.keys()
    now = {path: sha for path, sha in build.digests.items() if path not in unlisted}
    extra, changed = "the manifest does not list it", "sha256 {}, the manifest says {}"
    return unlike(now, own.files, "the manifest lists it", extra, changed)


def _against_record(build: Build) -> Iterator[Finding]:
    info = f"{build.dist_info}/"
    if "RECORD" not in build.info:
        yield Finding(f"{info}RECORD", Kind.MISSING, "every wheel and installation has one")
        return
    rows, wrong = parse_record(build.info["RECORD"])
    for path, why in wrong:
        yield Finding(path, Kind.RECORD, why)
    unlisted = {info + name for name in (_SIGNATURES | _INSTALLERS if build.installed else _SIGNATURES)}
    for path in sorted(rows.keys() | build.files.keys()):
        row, now = rows.get(path), build.files.get(path)
        if build.installed and "__pycache__/" in path:
            continue  # Python writes them, and RECORD has no digest of them
        if row is None:
            if path not in unlisted:
                yield Finding(path, Kind.RECORD, "has no row")
        elif now is None:
            yield Finding(path, Kind.MISSING, "RECORD lists it")
        elif not row.sha256:
            if path not in unlisted | {f"{info}RECORD"}:
                yield Finding(path, Kind.RECORD, "has a row without a digest")
        elif row not in (now, Row(now.sha256, None)):
            yield Finding(path, Kind.RECORD, f"its row says sha256 {row.sha256}, the file has {now.sha256}")


def _against_name(build: Build, own: Declared) -> Iterator[Finding]:
    """The version in the manifest, in the name of .dist-info and, for a wheel, in its file name is the same."""
    if own.version != build.version:
        name = f"{build.dist_info}/{MANIFEST}"
        yield Finding(name, Kind.MANIFEST, f"says version {own.version}, the folder's name {build.version}")
    parts = build.where.stem.split("-")
    if not build.installed and (len(parts) not in (5, 6) or parts[1] != build.version):
        yield Finding(build.where.name, Kind.NAME, f"a wheel of version {build.version} has another file name")
