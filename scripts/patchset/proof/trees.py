# SPDX-License-Identifier: Apache-2.0
"""Both trees of a set and the runtime that runs either: what every comparison of the two starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchset.node.errors import UsageError
from patchset.proof import runtime
from patchset.proof.runtime import Runtime
from patchset.sets.setfile import PatchSet
from patchset.system import paths
from patchset.system.terminal import Terminal
from patchset.upstream.pristine import materialize


@dataclass(frozen=True)
class Trees:
    """The pristine tree, the patched tree, the runtime for both, and the folder of the NPU's stand-in for its path."""

    pristine: Path
    patched: Path
    runtime: Runtime
    standin: Path


def both(patch_set: PatchSet, terminal: Terminal, *, offline: bool, patched: Path | None = None) -> Trees:
    """The trees and the runtime; the pristine tree and the runtime are made where they are not there.

    `patched` is another folder that holds the patched package than the build tree.

    Raises:
        UsageError: the set has not been applied.
        Unavailable: the pristine tree or the runtime could not be made.
    """
    patched = patched or paths.tree_dir(patch_set.name)
    if not patched.is_dir():
        raise UsageError(f"{patched} is not there", hint=f"make apply VERSION={patch_set.name} SMOKE=0")
    pristine = paths.pristine_dir(patch_set.name)
    materialize(patch_set, pristine, offline=offline, terminal=terminal)
    made = runtime.ensure(patch_set, terminal, offline=offline)
    return Trees(pristine, patched, made, runtime.standin_dir(patch_set.name))
