# SPDX-License-Identifier: Apache-2.0
"""What a port or an outlook found: as tables, as JSON, as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from patchset.authoring.port.rebase import Outcome
from patchset.authoring.port.release import Pins
from patchset.authoring.port.replaced import Finding, SymbolFate
from patchset.node.manifest import Manifest, digest
from patchset.sets.patchfile import Patch
from patchset.sets.setfile import PatchSet, Release
from patchset.system.terminal import Terminal

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Fate:
    patch: Patch
    outcome: Outcome  # how it fares
    # Those that git could not merge, each with upstream's commits that changed its lines.
    files: Mapping[str, tuple[str, ...]]
    lost: tuple[str, ...] = ()  # those of them that the release does not have


@dataclass(frozen=True)
class PortReport:
    old: PatchSet  # the set that is carried
    release: Release  # the vllm-ascend release that it is carried to
    files: Manifest  # that release's: the baseline of each finding below, exactly
    pins: Pins  # what the release says of itself
    fates: tuple[Fate, ...]  # of each patch
    symbols: tuple[SymbolFate, ...]  # of each piece of upstream that an overlay module replaces

    @property
    def baseline(self) -> str:
        """The release that `absorbed` and every other word here is about."""
        commit = f", commit {self.release.commit}" if self.release.commit else ""
        return f"vllm-ascend {self.release.version}{commit}, sdist sha256 {self.release.sdist.sha256}"

    @property
    def counts(self) -> dict[str, int]:
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
                "manifest": digest(self.files),
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
    counts = ", ".join(f"{count} {what}" for what, count in report.counts.items())
    terminal.note(f"{report.old.name} (vllm-ascend {report.old.ascend.version}) on {report.baseline}: {counts}")
    for title, columns, rows in tables(report):
        terminal.table(title, columns, rows)


def tables(report: PortReport) -> list[Table]:
    pins = [(name, pin.value, pin.where) for name, pin in report.pins.rows()]
    patches = [(fate.patch.name, fate.outcome.value, "\n".join(_remarks(fate))) for fate in report.fates]
    symbols = [(_place(one), one.finding.value, one.row.module.rpartition("/")[2]) for one in report.symbols]
    return [
        ("Pins, as the release has them", ("pin", "value", "where"), pins),
        ("Patches", ("patch", "outcome", "files, and what upstream did to them"), patches),
        ("Upstream code that overlay modules replace", ("symbol", "finding", "module"), symbols),
    ]


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
    """The tables as one self-contained HTML file, and upstream's changes to replaced code."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE).render(report=report, tables=tables(report))


_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ report.old.name }} on vllm-ascend {{ report.release.version }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
td, th, pre { padding: .4rem .6rem; text-align: left; vertical-align: top; white-space: pre-wrap; }
</style>
<h1>{{ report.old.name }} on vllm-ascend {{ report.release.version }}</h1>
<p>Carried from vllm-ascend {{ report.old.ascend.version }}. Baseline: {{ report.baseline }}.</p>
{% for title, columns, rows in tables %}
<h2>{{ title }}</h2>
<table>
<tr>{% for column in columns %}<th>{{ column }}{% endfor %}

{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}

{% endfor %}
</table>
{% endfor %}
{% for one in report.symbols if one.diff %}
<h2>Upstream's change to {{ one.row.path }} {{ one.row.symbol }}</h2>
<pre>{{ one.diff }}</pre>
{% endfor %}
</html>
"""
