# SPDX-License-Identifier: Apache-2.0
"""The options of `verify`; apart from what it does, so that a list of commands costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `verify`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--wheel", metavar="WHEEL", type=Path, nargs="+", help="these wheels")
    what.add_argument("--installed", action="store_true", help="the installation that a Python imports")
    what.add_argument("--dist", metavar="DIR", type=Path, help="a folder of wheels with its SHA256SUMS")
    what.add_argument("--tree", metavar="DIR", type=Path, help="a folder that holds the package's code")
    parser.add_argument("--python", metavar="EXE", help="whose installation (default: the Python that runs this)")
    parser.add_argument("--path", metavar="DIR", type=Path, help="the site-packages folder to look in")
    parser.add_argument("--expect", metavar="SHA256", default="", help="digest that patchset.json must have")
