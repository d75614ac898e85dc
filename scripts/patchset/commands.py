# SPDX-License-Identifier: Apache-2.0
"""What each subcommand does with its arguments: calls the module of its name and prints what that returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset.setfile import load_set

if TYPE_CHECKING:
    import argparse

    from patchset.terminal import Terminal


def smoke(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset smoke`."""
    from patchset import smoke

    report = smoke.run(load_set(arguments.set), device=arguments.device, terminal=terminal, only=arguments.only)
    return 0 if report.ok else 1


def upstream_tests(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset upstream-tests`."""
    from patchset import upstream_tests

    report = upstream_tests.run(load_set(arguments.set), terminal)
    return 0 if report.ok else 1


def runtime(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """`patchset runtime`."""
    from patchset import runtime

    made = runtime.ensure(load_set(arguments.set), terminal)
    terminal.note(f"{made.python}")
    return 0
