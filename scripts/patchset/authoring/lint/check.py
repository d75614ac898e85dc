# SPDX-License-Identifier: Apache-2.0
"""All checks over one set, and over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from itertools import takewhile
from pathlib import Path

from packaging import utils
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from patchset.authoring.lint import api, findings, fit, form
from patchset.authoring.lint.findings import Code, Finding
from patchset.authoring.lint.form import Read
from patchset.node.errors import PatchDoesNotApply, PinMismatch, UsageError
from patchset.plan import plan
from patchset.plan.plan import Plan, Recipe
from patchset.sets import header, overlay, series, setfile
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import Source

_ASKED = "requirements.txt"  # of the release, where it says what it needs


@dataclass(frozen=True)
class LintReport:
    sets: tuple[str, ...]
    patches: int
    findings: tuple[Finding, ...]


def run(names: Sequence[str], *, today: date, upstream: Path | None, offline: bool, terminal: Terminal) -> LintReport:
    """Checks sets, all of them where none is named; the comparison across sets takes all of the repository. Review-By
    is held against `today`; `upstream`, which takes the place of the download, goes with one set alone. Raises
    UsageError: there is no such set; PinMismatch, Unavailable: upstream could not be had as pinned."""
    known = paths.sets()
    for name in names:
        if name not in known:
            raise UsageError(f"no set {name!r} in patches/", hint=f"sets: {', '.join(known) or 'none'}")
    chosen = tuple(names or known)
    if upstream and len(chosen) > 1:
        hint = f"patchset lint {chosen[0]} --upstream PATH"
        raise UsageError("--upstream is of one release; name the set", hint=hint)
    found: set[Finding] = set()
    read: dict[str, list[Read]] = {}
    for name in known:
        series.refuse_half_written(paths.set_dir(name))
        rows, problems = _read(name)
        read[name] = [row for row in rows if row]
        readable = [row for row in takewhile(bool, rows) if row]  # what comes after a bad patch fits nothing known
        if name not in chosen:
            continue
        found |= set(problems)
        found |= {finding for row in read[name] for finding in form.fields(row, today)}
        found |= set(form.same(read[name]))
        try:
            patch_set = setfile.load_set(name)
            patch_set.upstream_manifest()
        except (UsageError, PinMismatch) as error:
            found.add(findings.at(paths.set_dir(name) / "set.toml", 1, Code.SET_UNREADABLE, error.message))
            continue
        source = Source(patch_set, given=upstream, offline=offline, terminal=terminal)
        found |= set(pins(patch_set, source.read))
        found |= set(_against_upstream(patch_set, readable, source.read, whole=not problems))
    found |= {finding for finding in across(read) if finding.file.split("/")[1] in chosen}
    ordered = tuple(sorted(found, key=lambda one: (one.file, one.line, one.code.id, one.message)))
    return LintReport(chosen, sum(len(read[name]) for name in chosen), ordered)


def _read(name: str) -> tuple[list[Read | None], list[Finding]]:
    """The patches of a set, None for one that cannot be read, and what is wrong with these and with the series."""
    folder = paths.set_dir(name)
    listed, problems = form.names(folder)
    rows = []
    for patch in listed:
        row, more = form.read(folder / patch)
        rows.append(row)
        problems += more
    return rows, problems


def _against_upstream(
    patch_set: PatchSet, rows: list[Read], read: Callable[[str], bytes], *, whole: bool
) -> Iterator[Finding]:
    """The checks that need upstream's files; those of the result only where every patch could be read and fits. `rows`
    are the patches up to the first that could not be read; `whole` says whether these are all of them."""
    unfit = list(fit.check(rows, patch_set.upstream_manifest(), read))
    yield from unfit
    try:
        modules = overlay.load(patch_set)
    except UsageError as error:
        yield findings.at(overlay.overlay_toml(patch_set.name), 1, Code.SET_UNREADABLE, error.message)
        return
    changed = list(api.replaced(patch_set.name, modules, read))
    yield from changed
    broken = {Code.DOES_NOT_FIT, Code.DOES_NOT_COMPILE, Code.NOT_CANONICAL}
    if not whole or changed or any(finding.code in broken for finding in unfit):
        return
    try:
        made = plan.follow(Recipe(patch_set, tuple(row.patch for row in rows), modules), read)
        plan.check_all_compile(made)
    except PatchDoesNotApply as error:  # the overlay does not compile, or makes a file that a patch makes
        yield findings.at(patch_set.folder / "series", 1, Code.DOES_NOT_FIT, error.message)
        return
    yield from api.check(patch_set.name, modules, made.changes)
    yield from _pins(made)


def _pins(made: Plan) -> Iterator[Finding]:
    file = made.patch_set.folder / "set.toml"
    text = file.read_text(encoding="utf-8")
    pinned, found = made.patch_set.touched, made.touched
    stale = [path for path in sorted(found.keys() | pinned.keys()) if found.get(path) != pinned.get(path)]
    for path in stale:
        line = findings.line_of(text, f'[result.files."{path}"]')
        yield findings.at(file, line, Code.PIN_STALE, f"{path}: patchset pin {made.patch_set.name}")
    for what, now, then in (("tree", made.tree, made.patch_set.tree), ("series", made.series, made.patch_set.series)):
        if not stale and now != then:
            line = findings.line_of(text, f"{what} = ")
            why = f"the {what}'s digest: patchset pin {made.patch_set.name}"
            yield findings.at(file, line, Code.PIN_STALE, why)


def pins(patch_set: PatchSet, read: Callable[[str], bytes]) -> Iterator[Finding]:
    """Each version that is not the one of the set's name, of the files, or of upstream's requirements."""
    file = patch_set.folder / "set.toml"
    text = file.read_text(encoding="utf-8")
    for key, why in [*_versions(patch_set), *_asked(patch_set, read)]:
        yield findings.at(file, findings.line_of(text, key), Code.PINS_DISAGREE, why)


def _versions(patch_set: PatchSet) -> Iterator[tuple[str, str]]:
    if patch_set.name != f"v{patch_set.vllm.version}":
        yield "[vllm]", f"vLLM {patch_set.vllm.version} in set {patch_set.name}"
    for release in (patch_set.vllm, patch_set.ascend):
        for pin in (release.sdist, *release.wheels):
            parse = utils.parse_wheel_filename if pin.file.endswith(".whl") else utils.parse_sdist_filename
            found = None
            with suppress(utils.InvalidSdistFilename, utils.InvalidWheelFilename):
                found = parse(pin.file)[1]
            if (found and utils.canonicalize_version(found)) != utils.canonicalize_version(release.version):
                yield f'"{pin.file}"', f"{pin.file} is of version {found}, the release is {release.version}"


def _asked(patch_set: PatchSet, read: Callable[[str], bytes]) -> Iterator[tuple[str, str]]:
    """The pins that upstream's own requirements do not admit."""
    if _ASKED not in patch_set.sources():
        return
    pins = {"torch": ("torch = ", patch_set.torch), "torch-npu": ("torch_npu = ", patch_set.torch_npu)}
    for line in read(_ASKED).decode(errors="replace").splitlines():
        try:
            asked = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue
        key, pin = pins.get(utils.canonicalize_name(asked.name), ("", ""))
        if key and not asked.specifier.contains(pin, prereleases=True):
            yield key, f"{asked.name} {pin}, and upstream's {_ASKED} asks for {asked.specifier}"


def across(sets: Mapping[str, Sequence[Read]]) -> Iterator[Finding]:
    """The same patch in several sets, told by its Subject, adds and removes the same lines, or says why not. Findings
    at each patch that differs from its namesake in an earlier set, unless it has a Set-Specific field."""
    first: dict[str, tuple[str, Read]] = {}
    for name in sorted(sets, key=lambda name: Version(name.removeprefix("v"))):
        for row in sets[name]:
            if row.patch.header.get("Set-Specific"):
                continue
            subject = row.patch.header.subject
            other, reference = first.setdefault(subject, (name, row))
            if difference := _difference(reference, row):
                line = header.line_of(row.patch.data.decode(), "Subject")
                why = f"{difference} than in {other}/{reference.file.name}; if that must be, say why in Set-Specific"
                yield findings.at(row.file, line, Code.SETS_DIFFER, why)


def _difference(reference: Read, row: Read) -> str:
    """How the change differs, in words; empty where it does not."""
    before, after = _changed_lines(reference), _changed_lines(row)
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            return f"does not change {path}, other"
        if path not in before:
            return f"changes {path}, other"
        if before[path] != after[path]:
            ours = next((line for line in after[path] if line not in before[path]), "")
            missing = next((line for line in before[path] if line not in after[path]), "")
            return f"changes other lines of {path} ({(ours or missing).strip()[:60]!r})"
    return ""


def _changed_lines(row: Read) -> dict[str, tuple[str, ...]]:
    """The lines that a patch adds and removes, with + or -, by path, without context."""
    return {
        patched.path: tuple(
            f"{line.line_type}{line.value}" for hunk in patched for line in hunk if line.is_added or line.is_removed
        )
        for patched in row.patch.lines
    }
