# SPDX-License-Identifier: Apache-2.0
"""The tables and JSON documents that the commands print at their end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchset.node import fingerprint
from patchset.node.errors import first_of, plural
from patchset.proof.gate import Tier
from patchset.proof.settle import Tested
from patchset.sets.setfile import PatchSet
from patchset.system.terminal import Terminal
from patchset.target import apply, revert
from patchset.target.assess import Assessment, State, looks_like
from patchset.target.locate import Target

_SHOWN = 20
_WORDS = {
    State.ABSENT: "is not there; `make apply{named}` makes it",
    State.PRISTINE: "is upstream's, byte for byte",
    State.APPLIED: "is upstream's with the whole set applied",
    State.PARTIAL: "is partly patched; apply finishes it, revert takes it back",
    State.MODIFIED: "holds files that are neither upstream's nor the set's",
}


def applied(outcome: apply.ApplyResult, tested: Tested | None, terminal: Terminal) -> None:
    """What `apply` did; `tested` is None after a dry run."""
    made = outcome.recipe
    verdict = {"applied": "applied", "unchanged": "applied already", "would apply": "would apply"}[outcome.result]
    overlay, rows = made.overlay, []
    for patch in made.patches:
        counts = str(len(patch.lines)), f"+{patch.added}", f"-{patch.removed}"
        rows.append([patch.name, *counts, ", ".join(patch.header.resolves), verdict])
    rows.append(["overlay", str(len(overlay.files)), f"+{overlay.lines}", "", "", verdict])
    title = f"{made.patch_set.name}: vllm-ascend {made.patch_set.ascend.version} for vLLM {made.patch_set.vllm.version}"
    terminal.table(title, ["patch", "files", "+", "-", "resolves", "result"], rows, right="files + -")
    if tested and tested.report:
        from patchset.proof import smoke

        smoke.show(tested.report, terminal)
    terminal.note(f"tree:        {outcome.tree}\nfingerprint: {outcome.fingerprint}")
    if outcome.commit:
        terminal.note(f"commit:      {outcome.commit}")
    root, count = outcome.target.root, len(outcome.changed)
    verdicts = {
        "applied": f"applied to {root} ({plural(count, 'file')} changed)",
        "unchanged": f"nothing to do: {made.patch_set.name} is applied to {root} already",
        "would apply": f"dry run, nothing was changed: {plural(count, 'file')} would be in {root}",
    }
    terminal.note(verdicts[outcome.result])
    if tested:
        terminal.note(tested.said)
    if outcome.result == "would apply":
        for path in outcome.changed:
            terminal.note(f"  {path}")
    tree = {"tree": outcome.tree, "fingerprint": outcome.fingerprint, "commit": outcome.commit or None}
    patches = {"patches": [_patch(patch) for patch in made.patches]}
    modules = {"overlay": {"files": sorted(overlay.files), "lines": overlay.lines}}
    smoked = {"smoke": tested.as_dict() if tested else None}
    terminal.document({"set": made.patch_set.name, **_done(outcome), **tree, **patches, **modules, **smoked})


def _patch(patch: Any) -> dict[str, Any]:
    counted = {"files": [file.path for file in patch.lines], "added": patch.added, "removed": patch.removed}
    header = {"subject": patch.header.subject, "resolves": list(patch.header.resolves)}
    return {"name": patch.name, **header, **counted, "sha256": patch.sha256}


def _done(outcome: apply.ApplyResult | revert.RevertResult) -> dict[str, Any]:
    return {**_where(outcome.target), "result": outcome.result, "changed": list(outcome.changed)}


def _where(target: Target) -> dict[str, str]:
    return {"target": str(target.root), "kind": target.kind.value}


def assessed(
    report: Assessment, target: Target, patch_set: PatchSet, tested: Mapping[str, Tier], terminal: Terminal
) -> None:
    """What `status` found; `tested` are the smoke tests that the tree has passed, by device."""
    terminal.note(f"{report.state.value}: {target.root} {_WORDS[report.state].format(named=target.named)}")
    if report.journal:
        terminal.note(f"  a run of {report.journal.command} was cut off here; run apply or revert to end it")
    if report.authored:
        terminal.note(f"  has work of yours: {report.authored.what} (next: {report.authored.next})")
    looks = looks_like(report, target, patch_set) if report.state is State.MODIFIED else ()
    rows = [f"{row.path}: {row.found.value} (differs from {row.differs_from})" for row in report.rows]
    for line in (*looks, *first_of(rows, _SHOWN)):
        terminal.note(f"  {line}")
    seal = fingerprint.of(report.found, patch_set.package)
    if report.state is State.APPLIED:
        terminal.note(f"  {plural(len(report.files), 'file')} patched or added")
        terminal.note(f"  tree {report.digest}\n  fingerprint {seal}")
        tiers = [f"{tier.value} on {device}" for device, tier in tested.items()]
        untested = f"not smoke-tested (next: make apply{target.named})"
        terminal.note(f"  smoke tests passed: {', '.join(tiers)}" if tiers else f"  {untested}")
    for path in first_of(report.untracked, _SHOWN):
        terminal.note(f"  untracked: {path}")
    terminal.document(
        {
            "set": patch_set.name,
            **_where(target),
            "state": report.state.value,
            "clean": report.clean,
            "interrupted": report.journal.command if report.journal else None,
            "files": {path: found.name.lower() for path, found in report.files.items()},
            "differing": [vars(row) | {"found": row.found.name.lower()} for row in report.rows],
            "looks_like": list(looks),
            "untracked": list(report.untracked),
            "digest": report.digest,
            "fingerprint": seal,
            "tested": {device: tier.value for device, tier in tested.items()},
            "authored": report.authored.what if report.authored else None,
        }
    )


def reverted(outcome: revert.RevertResult, terminal: Terminal) -> None:
    root, changed = outcome.target.root, plural(len(outcome.changed), "file")
    verdicts = {
        "reverted": f"reverted: {root} is upstream's again, {changed} given back or removed",
        "would revert": f"dry run, nothing was changed: {changed} would be in {root}",
        "unchanged": f"nothing to do: nothing is applied to {root}",
    }
    terminal.note(verdicts[outcome.result])
    for path in outcome.changed if outcome.result == "would revert" else ():
        terminal.note(f"  {path}")
    copied = "would be copied" if outcome.result == "would revert" else "copied"
    for path in outcome.rescued:
        terminal.note(f"  modified, and {copied}: {path}")
    if outcome.tree:
        terminal.note(f"tree:   {outcome.tree}")
    terminal.document({**_done(outcome), "rescued": list(outcome.rescued), "tree": outcome.tree or None})
