# SPDX-License-Identifier: Apache-2.0
"""Upstream's public names and signatures: each is kept in the patched tree, or overlay.toml says why it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import griffe

from patchset.authoring.lint import findings
from patchset.authoring.lint.findings import Code, Finding
from patchset.plan.plan import Change
from patchset.sets import overlay
from patchset.sets.overlay import Overlay

_GONE = "is gone"


def breaks(path: str, before: bytes, after: bytes | None) -> dict[str, tuple[Code, str]]:
    """What has changed for callers, by dotted name in the module, empty for all of it; `after` None: it is deleted."""
    if after is None:
        return {"": (Code.API_GONE, "is deleted")}
    old, new = _module(path, before), _module(path, after)
    by_symbol: dict[str, list[griffe.Breakage]] = {}
    for one in griffe.find_breaking_changes(old, new):
        if one.kind is griffe.BreakageKind.ATTRIBUTE_CHANGED_VALUE:
            continue  # neither a name nor a signature
        by_symbol.setdefault(one.obj.path.removeprefix(f"{old.path}."), []).append(one)  # a parameter's: its function
    found = {name: list(map(_explained, ones)) for name, ones in by_symbol.items()}
    return {name: (Code.API_GONE if _GONE in why else Code.API_CHANGED, "; ".join(why)) for name, why in found.items()}


def _module(path: str, source: bytes) -> griffe.Module:
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return griffe.visit(name, filepath=Path(path), code=source.decode())


def _explained(one: griffe.Breakage) -> str:
    if one.kind is griffe.BreakageKind.OBJECT_REMOVED:
        return _GONE
    names = dict.fromkeys(str(getattr(value, "name", value)) for value in (one.old_value, one.new_value) if value)
    return f"{one.kind.value.lower()} ({', now '.join(names)})"


def check(set_name: str, modules: Overlay, changes: Mapping[str, Change]) -> Iterator[Finding]:
    """Breaks in the files that a set changes, and explanations in overlay.toml without a break."""
    file = overlay.overlay_toml(set_name)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    explained = {(row.path, row.symbol) for row in modules.breaks}
    seen: set[tuple[str, str]] = set()
    for path, change in changes.items():
        if change.before is None or not path.endswith(".py"):
            continue
        for symbol, (code, why) in breaks(path, change.before, change.after).items():
            seen.add((path, symbol))
            if (path, symbol) not in explained:
                line = findings.line_of(text, f'"{path}"')
                yield findings.at(file, line, code, f"{path}: {symbol or path} {why}; say why in [[breaks]]")
    for row in modules.breaks:
        if (row.path, row.symbol) not in seen:
            line = findings.line_of(text, f'symbol = "{row.symbol}"')
            why = f"[[breaks]] explains {row.path} {row.symbol}, which keeps its name and signature"
            yield findings.at(file, line, Code.BREAK_STALE, why)


def replaced(set_name: str, modules: Overlay, read: Callable[[str], bytes]) -> Iterator[Finding]:
    """Upstream code that a module replaces, held against the digest that overlay.toml pins."""
    file = overlay.overlay_toml(set_name)
    text = file.read_text(encoding="utf-8") if modules.replaces else ""
    for row, found in overlay.changed(modules, read):
        line = findings.line_of(text, f'symbol = "{row.symbol}"' if row.symbol else f'"{row.path}"')
        if found is None:
            why = f"{row.path} has no {row.symbol}"
        else:
            was = row.sha256[:12] or "nothing"
            why = f"{row.path} {row.symbol}: pinned {was}, found {found[:12]}; read the change, then patchset pin"
        yield findings.at(file, line, Code.REPLACED_CHANGED, why)
