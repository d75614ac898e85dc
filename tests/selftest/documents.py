# SPDX-License-Identifier: Apache-2.0
"""The parts of the documents that are made: of evidence, of the last benchmarks, and of the tool's own lists."""

from __future__ import annotations

import re
from pathlib import Path

from patchset.authoring import document
from patchset.authoring.lint.findings import Code
from patchset.proof import defects, evidence
from patchset.proof.defects import Defect, DefectReport
from patchset.sets import facts, series
from patchset.sets.setfile import PatchSet, load_set
from patchset.system import paths
from selftest.bench import report, run

_MARK = re.compile(r"<!-- (made: ([a-z]+)) -->")


def made() -> dict[Path, str]:
    """The documents with each block as it must be now, by path."""
    root = paths.repo_root()
    files = [*root.glob("*.md"), *(root / "docs").glob("*.md")]
    texts = {file: file.read_text(encoding="utf-8") for file in sorted(files)}
    return {file: filled(text) for file, text in texts.items() if _MARK.search(text)}


def write() -> list[Path]:
    wanted = made()
    changed = [file for file, text in wanted.items() if file.read_text(encoding="utf-8") != text]
    for file in changed:
        file.write_text(wanted[file], encoding="utf-8")
    return changed


def filled(text: str) -> str:
    """A document with the content of its blocks. Raises KeyError: a block has a name that nothing makes."""
    for mark, name in _MARK.findall(text):
        text = document.filled(text, mark, _MAKERS[name]())
    return text


def codes() -> str:
    return document.table(("code", "name", "finding"), ((code.id, code.label, code.summary) for code in Code))


def resolved() -> str:
    """Each set with what its patches resolve."""
    rows = []
    for patch_set in _sets():
        patches = series.load(patch_set.folder)
        names = sorted({name for patch in patches for name in patch.header.resolves}, key=facts.order)
        release = f"vllm-ascend {patch_set.ascend.version} for vLLM {patch_set.vllm.version}"
        rows.append((patch_set.name, release, str(len(patches)), ", ".join(names)))
    return document.table(("set", "release", "patches", "resolves"), rows)


def matrix() -> str:
    """Each defect with each set, in a word."""
    reports = {patch_set.name: _report(patch_set) for patch_set in _sets()}
    titles = {row.name: row.title for report in reports.values() for row in report.rows}
    found = {(row.name, name): row for name, report in reports.items() for row in report.rows}
    rows = [
        (f"{name}: {titles[name]}", *(_word(found.get((name, one))) for one in reports))
        for name in sorted(titles, key=facts.order)
    ]
    return document.table(("defect", *reports), rows)


def seen() -> str:
    """What the tests of each set saw of each defect."""
    parts = []
    for patch_set in _sets():
        rows = [
            (row.name, row.unshown or "; ".join(row.pristine.seen), "; ".join(row.patched.seen))
            for row in _report(patch_set).rows
        ]
        parts.append(f"### {patch_set.name}\n\n" + document.table(("defect", "pristine", "patched"), rows))
    return "\n".join(parts)


def performance() -> str:
    """What the last whole run of the benchmarks measured, of each set that has one."""
    files = [run.result_file(patch_set.name) for patch_set in _sets()]
    return "\n".join(report.markdown(report.BenchReport.load(file)) for file in files if file.is_file())


def _word(row: Defect | None) -> str:
    if row is None:
        return "no test"
    if row.unshown:
        return "open" if row.open else "not in it"
    return "no defect" if row.refuted else "fixed" if row.proven else "not proven"


def _report(patch_set: PatchSet) -> DefectReport:
    known = evidence.load(patch_set)
    return defects.of_cases(patch_set, known.rows if known else (), evidence.NAME)


def _sets() -> list[PatchSet]:
    return sorted(map(load_set, paths.sets()), key=lambda one: [int(part) for part in one.vllm.version.split(".")])


_MAKERS = {maker.__name__: maker for maker in (codes, resolved, matrix, seen, performance)}
