# SPDX-License-Identifier: Apache-2.0
"""A port from its start to the new set: build/port/<set>/ until it is whole, patches/<set> then (see `progress`)."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from patchset import disk, manifest, paths, plan
from patchset.errors import Findings, PatchDoesNotApply, PinMismatch, UsageError
from patchset.port import newset, pins, release, report, study, symbols
from patchset.port.progress import FILE, Port, folder, load, running
from patchset.port.workshop import Workshop
from patchset.setfile import load_set
from patchset.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from patchset.port.report import Report
    from patchset.port.symbols import SymbolFate
    from patchset.setfile import PatchSet
    from patchset.terminal import Terminal


@dataclass(frozen=True)
class Done:
    """A port that has ended: the set, and what became of the old patches.

    Attributes:
        made: the new set.
        kept: names of its patches.
        dropped: names of those that are not in it, with why.
        report: what was found at the start, as a page.
    """

    made: PatchSet
    kept: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]
    report: Path


def start(old_name: str, name: str, *, ascend: str, commit: str, terminal: Terminal, offline: bool) -> Report:
    """Begins a port; nothing has been carried yet when this returns.

    Args:
        old_name, name: the sets.
        ascend: version of vllm-ascend; empty for the newest that is named after the vLLM version.
        commit: of its tag; may be empty.
        terminal: where progress goes.
        offline: use the cache alone; the index is asked for the release in any case.

    Raises:
        UsageError: the new set, or a port to it, is there already.
        PinMismatch: the release is for another vLLM.
    """
    old = load_set(old_name)
    if name in running():
        raise UsageError(f"a port to {name} is under way", hint=f"patchset port --continue --to {name}, or --abort it")
    for there in (paths.set_dir(name), paths.overlay_dirs(name)[1]):
        if there.exists():
            raise UsageError(f"{there} is there already", hint="a port makes a new set; remove that one first")
    vllm = name.removeprefix("v")
    new = release.find(release.ASCEND, ascend or release.ascend_for(vllm), commit=commit)
    found = study.make(old, new, folder(name), name, terminal=terminal, offline=offline)
    pins.check_vllm(found.report.pins, vllm, new.version)
    text = newset.set_toml(name, old, release.find(release.VLLM, vllm), new, found.report.pins, found.files)
    place = folder(name)
    (place / "report.json").write_text(json.dumps(found.report.as_dict(), indent=2) + "\n", encoding="utf-8")
    (place / "report.html").write_text(report.page(found.report), encoding="utf-8")
    Port(old.name, name, _series(found.plan), text, tuple(found.shop.renames.items())).save()
    return found.report


def go_on(port: Port, *, reviewed: bool, terminal: Terminal, offline: bool, skip: bool = False) -> Done:
    """Carries patch after patch, and writes the set after the last.

    Args:
        port: how far it has come.
        reviewed: the maintainer has read what upstream changed in the code that overlay modules replace.
        terminal: where progress goes.
        offline: use the cache alone.
        skip: leave the patch out that the port has stopped at.

    Raises:
        PatchDoesNotApply: a patch conflicts, or its conflicts are still there; the work tree holds it.
        Findings: replaced code differs, and `reviewed` is not given.
        PinMismatch: the old set is not the one that the port began with.
    """
    if newset.installed(port.name, port.staging):
        return _end(port, load_set(port.name))
    old = load_set(port.old)
    source = Source(old, given=None, offline=offline, terminal=terminal)
    made = plan.make(old, source.read)
    if _series(made) != port.series:
        raise PinMismatch(
            f"the series of {port.old}",
            expected=port.series,
            found=_series(made),
            hint=f"it has changed since the port began: patchset port --abort --to {port.name}, then again",
        )
    shop = Workshop(port.tree, port.name, dict(port.renames))
    if port.stopped:
        port = _leave_out(port, made, shop, "skipped") if skip else _resolved(port, made, shop)
    elif skip:
        raise UsageError("the port has not stopped at a patch", hint=f"patchset port --continue --to {port.name}")
    else:
        shop.reset(_tip(port, shop))  # of a pick that was cut off, half may lie there
    for number in range(port.position + 1, len(made.steps) + 1):
        name = made.steps[number - 1].patch.name
        if unmerged := shop.pick(number):
            replace(port, stopped=unmerged).save()
            raise _stop(port, name, unmerged)
        port = _done(port, made, shop)
        terminal.step(f"{name}: {'carried' if port.kept and port.kept[-1][0] == name else 'absorbed upstream'}")
    fates = symbols.look(made.overlay.replaces, source.tree(), port.upstream, shop.renames)
    if not reviewed:
        _refuse_unread(port, fates)
    return _finish(port, old, made, shop, fates)


def _series(made: plan.Plan) -> str:
    return manifest.digest({step.patch.name: step.patch.sha256 for step in made.steps})


def abort(name: str) -> None:
    """Forgets a port; patches/ and overlay/ were never touched.

    Raises:
        UsageError: a run was cut off after it had written the set, so there is nothing left to forget.
    """
    if newset.installed(name, folder(name) / "set"):
        _end(load(name), load_set(name))
        raise UsageError(f"{paths.set_dir(name)} is written already", hint="remove it and its overlay folder by hand")
    disk.remove(folder(name) / FILE)
    shutil.rmtree(folder(name))


def _resolved(port: Port, made: plan.Plan, shop: Workshop) -> Port:
    name = made.steps[port.position].patch.name
    if left := shop.with_markers(port.stopped):
        raise _stop(port, name, left)
    return _done(replace(port, stopped=()), made, shop)


def _done(port: Port, made: plan.Plan, shop: Workshop) -> Port:
    """Commits what the work tree holds as the next patch; one that changes nothing is absorbed."""
    name = made.steps[port.position].patch.name
    before = _tip(port, shop)
    after = shop.commit(name, before)
    if not shop.changed(before, after):
        return _leave_out(port, made, shop, "absorbed upstream")
    port = replace(port, position=port.position + 1, kept=(*port.kept, (name, after)), stopped=())
    port.save()
    return port


def _leave_out(port: Port, made: plan.Plan, shop: Workshop, why: str) -> Port:
    row = (made.steps[port.position].patch.name, why)
    port = replace(port, position=port.position + 1, dropped=(*port.dropped, row), stopped=())
    port.save()
    shop.reset(_tip(port, shop))
    return port


def _tip(port: Port, shop: Workshop) -> str:
    """The commit of the last patch that is kept."""
    return port.kept[-1][1] if port.kept else shop.base


def _stop(port: Port, name: str, files: tuple[str, ...]) -> PatchDoesNotApply:
    rows = "\n".join(f"  {port.tree / file}" for file in files)
    return PatchDoesNotApply(
        f"{name} conflicts with {port.name}'s upstream\n{rows}",
        patch=name,
        path=files[0],
        hint=f"resolve it there, then: patchset port --continue --to {port.name} (or --skip, or --abort)",
    )


def _refuse_unread(port: Port, fates: tuple[SymbolFate, ...]) -> None:
    odd = [one for one in fates if one.finding in (symbols.Finding.CHANGED, symbols.Finding.GONE)]
    if odd:
        rows = "\n".join(f"  {one.row.path} {one.row.symbol}: {one.finding.value} ({one.row.module})" for one in odd)
        raise Findings(
            f"upstream code that overlay modules replace is another in {port.name}\n{rows}",
            hint=f"read {port.folder / 'report.html'}, mend the modules, then: "
            f"patchset port --continue --reviewed --to {port.name}",
        )


def _finish(port: Port, old: PatchSet, made: plan.Plan, shop: Workshop, fates: tuple[SymbolFate, ...]) -> Done:
    texts = {step.patch.name: (old.folder / step.patch.name).read_bytes() for step in made.steps}
    files = manifest.measure(port.upstream, manifest.walk(port.upstream))
    written = newset.install(
        port.name, old, port.set_toml, files, dict(_patches(port, texts, shop)), fates, port.upstream,
        port.staging,
    )  # fmt: skip
    return _end(port, written)


def _end(port: Port, written: PatchSet) -> Done:
    disk.remove(port.folder / FILE)
    for leftover in (port.tree, port.upstream, port.staging):
        shutil.rmtree(leftover)
    return Done(written, tuple(name for name, _ in port.kept), port.dropped, port.folder / "report.html")


def _patches(port: Port, texts: dict[str, bytes], shop: Workshop) -> Iterator[tuple[str, bytes]]:
    """Each patch of the new series: the old header, and what git says between two commits."""
    before = shop.base
    for name, after in port.kept:
        header, _, _ = texts[name].partition(b"\n---\n")
        yield name, header + b"\n---\n" + shop.diff(before, after)
        before = after
