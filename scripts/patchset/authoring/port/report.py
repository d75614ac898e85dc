# SPDX-License-Identifier: Apache-2.0
"""What a port or an outlook found: as a table, as JSON, as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from patchset.authoring.port.pins import Pins
from patchset.authoring.port.rebase import Outcome
from patchset.authoring.port.replaced import Finding, SymbolFate
from patchset.node.manifest import Manifest, digest
from patchset.sets.patchfile import Patch
from patchset.sets.setfile import PatchSet, Release
from patchset.system.terminal import Terminal


@dataclass(frozen=True)
class Fate:
    """One patch on the new release.

    Attributes:
        patch: the patch.
        outcome: how it fares.
        files: those that git could not merge, each with upstream's commits that changed its lines.
        lost: those of them that the release does not have.
    """

    patch: Patch
    outcome: Outcome
    files: Mapping[str, tuple[str, ...]]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class PortReport:
    """A set on another release.

    Attributes:
        old: the set that is carried.
        release: the vllm-ascend release that it is carried to.
        files: that release's: the baseline of each finding below, exactly.
        pins: what the release says of itself.
        fates: of each patch.
        symbols: of each piece of upstream that an overlay module replaces.
    """

    old: PatchSet
    release: Release
    files: Manifest
    pins: Pins
    fates: tuple[Fate, ...]
    symbols: tuple[SymbolFate, ...]

    @property
    def manifest(self) -> str:
        """The digest of the release's files."""
        return digest(self.files)

    @property
    def baseline(self) -> str:
        """The release that `absorbed` and every other word here is about."""
        commit = f", commit {self.release.commit}" if self.release.commit else ""
        return f"vllm-ascend {self.release.version}{commit}, sdist sha256 {self.release.sdist.sha256}"

    @property
    def counts(self) -> dict[str, int]:
        """Patches by outcome."""
        outcomes = [fate.outcome for fate in self.fates]
        return {one.value: outcomes.count(one) for one in Outcome if one in outcomes}

    def as_dict(self) -> dict[str, Any]:
        return {
            "from": self.old.name,
            "baseline": {
                "version": self.release.version,
                "commit": self.release.commit,
                "sdist": self.release.sdist.file,
                "sha256": self.release.sdist.sha256,
                "manifest": self.manifest,
            },
            "pins": asdict(self.pins),
            "counts": self.counts,
            "patches": [
                {
                    "name": fate.patch.name,
                    "subject": fate.patch.header.subject,
                    "resolves": list(fate.patch.header.resolves),
                    "outcome": fate.outcome.value,
                    "files": {path: list(changed) for path, changed in fate.files.items()},
                    "lost": list(fate.lost),
                }
                for fate in self.fates
            ],
            "symbols": [
                {
                    "module": one.row.module,
                    "replaces": {"path": one.row.path, "symbol": one.row.symbol},
                    "finding": one.finding.value,
                    "now": {"path": one.path, "symbol": one.symbol, "sha256": one.sha256} if one.path else None,
                    "diff": one.diff,
                }
                for one in self.symbols
            ],
        }


def show(report: PortReport, terminal: Terminal) -> None:
    """The report as tables on stdout."""
    terminal.note(f"{report.old.name} (vllm-ascend {report.old.ascend.version}) on {report.baseline}")
    terminal.table(
        "Pins, as the release has them",
        ("pin", "value", "where"),
        [(n, p.value, p.where) for n, p in report.pins.rows()],
    )
    terminal.table(
        "Patches",
        ("patch", "outcome", "files, and what upstream did to them"),
        [(fate.patch.name, fate.outcome.value, "\n".join(_remarks(fate))) for fate in report.fates],
    )
    terminal.table(
        "Upstream code that overlay modules replace",
        ("symbol", "finding", "module"),
        [(_place(one), one.finding.value, one.row.module.rpartition("/")[2]) for one in report.symbols],
    )


def _remarks(fate: Fate) -> list[str]:
    rows = []
    for path, changed in fate.files.items():
        rows.append(f"{path}: not there" if path in fate.lost else path)
        rows += [f"  {commit}" for commit in changed]
    return rows


def _place(one: SymbolFate) -> str:
    name = f"{one.row.path} {one.row.symbol}".rstrip()
    if one.finding is Finding.GONE or (one.path, one.symbol) == (one.row.path, one.row.symbol):
        return name
    return f"{name}\n  -> {one.path} {one.symbol}"


def page(report: PortReport) -> str:
    """The report as one self-contained HTML file."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE).render(report=report, remarks=_remarks, place=_place)


_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ report.old.name }} on vllm-ascend {{ report.release.version }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin-bottom: 2rem; }
th, td { border-bottom: 1px solid #ccc; padding: .4rem .6rem; text-align: left; vertical-align: top; }
td pre { margin: 0; white-space: pre-wrap; }
code, pre { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
</style>
<h1>{{ report.old.name }} on vllm-ascend {{ report.release.version }}</h1>
<p>Carried from vllm-ascend {{ report.old.ascend.version }}. Baseline: <code>{{ report.baseline }}</code>,
files <code>{{ report.manifest }}</code>.</p>
<h2>Pins</h2>
<table><tr><th>pin<th>value<th>where
{% for name, pin in report.pins.rows() %}
<tr><td>{{ name }}<td>{{ pin.value }}<td>{{ pin.where }}
{% endfor %}
</table>
<h2>Patches</h2>
<table><tr><th>patch<th>outcome<th>files, and what upstream did to them
{% for fate in report.fates %}
<tr><td>{{ fate.patch.name }}<br>{{ fate.patch.header.subject }}<td>{{ fate.outcome.value }}
<td><pre>{{ remarks(fate) | join("\\n") }}</pre>
{% endfor %}
</table>
<h2>Upstream code that overlay modules replace</h2>
<table><tr><th>symbol<th>finding<th>module
{% for one in report.symbols %}
<tr><td><pre>{{ place(one) }}</pre>
{% if one.diff %}<details><summary>upstream's change</summary><pre>{{ one.diff }}</pre></details>{% endif %}
<td>{{ one.finding.value }}<td>{{ one.row.module }}
{% endfor %}
</table>
</html>
"""
