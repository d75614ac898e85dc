# SPDX-License-Identifier: Apache-2.0
"""Patched wheels of the published ones, each read once and patched in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from patchset.node import manifest
from patchset.node.errors import plural
from patchset.plan import plan
from patchset.plan.plan import Plan
from patchset.sets.setfile import PatchSet
from patchset.system.terminal import Terminal
from patchset.upstream.source import Source
from patchset.wheels import build, inputs
from patchset.wheels.model import Draft
from patchset.wheels.wheel import Wheel


def drafts(
    patch_set: PatchSet, version: str, *, upstream: Path | None, offline: bool, terminal: Terminal
) -> Iterator[Draft]:
    """The patched wheels, in the order of set.toml, from the index or from `upstream`, a wheelhouse or a single wheel.

    Raises:
        PatchsetError: a wheel could not be had, is not what it should be, or cannot be patched.
    """
    sources = patch_set.sources()
    elsewhere = Source(patch_set, given=None, offline=offline, terminal=terminal)
    plans: dict[str, Plan] = {}  # one for all wheels whose sources are the same
    given = inputs.locate(patch_set, upstream, offline=offline, terminal=terminal)
    label = f"patching {plural(len(given), 'wheel')} of vllm-ascend {patch_set.ascend.version}"
    with terminal.progress(label, len(given)) as advance:
        for one in given:
            wheel = inputs.load(patch_set, one)
            key = manifest.digest({path: wheel.files[path].sha256 for path in sources.keys() & wheel.files.keys()})
            if key not in plans:
                plans[key] = _plan(patch_set, wheel, elsewhere)
            yield build.repack(wheel, plans[key], one.pin, version)
            advance(1)


def _plan(patch_set: PatchSet, wheel: Wheel, elsewhere: Source) -> Plan:
    """The plan for a wheel's files, and for upstream's others: an sdist has more than the package."""
    files = wheel.files
    return plan.make_recorded(patch_set, lambda path: files[path].data if path in files else elsewhere.read(path))
