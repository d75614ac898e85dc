# SPDX-License-Identifier: Apache-2.0
"""The options of `verify` and `cluster`, which the tool and patchset-node.pyz have alike."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from patchset.node.errors import UsageError

VERIFY = "check wheels, an installation, a tree or dist/<set>, file by file, offline"
CLUSTER = "check the nodes of a Ray cluster"
CLUSTER_VERIFY = "say what every node of a Ray cluster has installed, against the build that it should have"
CLUSTER_SMOKE = "verify, then run the overlay's synchronisation across the nodes' devices"
HOW = """\
It joins the cluster as vLLM's engine does: run it on a node, with the Python that vLLM runs on there.
Exit codes: 0 every node and rank is fine; 1 one is not; 2 usage; 6 Ray, a node or a rank could not be reached."""

_VERIFY_S = 60.0
_SMOKE_S = 300.0
_CLUSTER = ("address", "timeout", "nodes", "dp", "steps", "seed", "group", "device")
_PATHS = ("DIR", "FILE", "KEY", "PATH")


class Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that a usage error looks like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")

    def option(self, name: str, value: str, summary: str, **more: Any) -> None:
        self.add_argument(name, **spec(value, summary, **more))


def spec(value: str, summary: str, **more: Any) -> dict[str, Any]:
    """An option with a value, by the word that stands for it, or without one where that is empty."""
    if not value:
        return {"action": "store_true", "help": summary}
    return {"metavar": value, "help": summary, "type": Path if value in _PATHS else str, **more}


def add_verify(parser: Parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--wheel", metavar="WHEEL", type=Path, nargs="+", help="these wheels")
    what.add_argument("--installed", action="store_true", help="the installation that a Python imports")
    what.add_argument("--dist", metavar="DIR", type=Path, help="a folder of wheels with its SHA256SUMS")
    what.add_argument("--tree", metavar="DIR", type=Path, help="a folder that holds the package's code")
    parser.option("--python", "EXE", "whose installation (default: the Python that runs this)")
    parser.option("--path", "DIR", "the site-packages folder to look in")


def add_cluster_verify(parser: Parser, timeout: float = _VERIFY_S) -> None:
    """--address, --timeout, --nodes."""
    what = "the head of the cluster (default: RAY_ADDRESS, or the cluster that this machine belongs to)"
    parser.option("--address", "HOST:PORT", what, default=os.environ.get("RAY_ADDRESS") or "auto")
    what = "end after so long, with what is known by then (default: %(default).0f)"
    parser.option("--timeout", "SECONDS", what, type=_seconds, default=timeout)
    parser.option("--nodes", "N", "how many nodes there must be", type=at_least(1))


def add_cluster_smoke(parser: Parser) -> None:
    """Those of `add_cluster_verify`, and --dp, --steps, --seed, --group, --device."""
    add_cluster_verify(parser, _SMOKE_S)
    parser.option("--dp", "N", "data-parallel ranks, one device each", type=at_least(1), required=True)
    parser.option("--steps", "N", "default: %(default)s", type=at_least(1), default=300)
    parser.option("--seed", "N", "of the random batches (default: %(default)s)", type=int, default=0)
    what = "what carries the metadata, as VLLM_ASCEND_DP_METADATA_GROUP (default: device)"
    parser.add_argument("--group", choices=("device", "cpu"), default="device", help=what)
    what = "where the ranks run; auto is npu where Ray knows of any (default: auto)"
    parser.add_argument("--device", choices=("auto", "npu", "cpu"), default="auto", help=what)


def words(arguments: argparse.Namespace) -> list[str]:
    given = {name: getattr(arguments, name, None) for name in _CLUSTER}
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


def at_least(least: int) -> Callable[[str], int]:
    """The type of a whole number with a lower bound."""

    def number(word: str) -> int:
        if not word.isdecimal() or int(word) < least:
            raise argparse.ArgumentTypeError(f"{word!r} is not a whole number of {least} or more")
        return int(word)

    return number


def _seconds(word: str) -> float:
    with suppress(ValueError):
        if 0 < float(word) < float("inf"):
            return float(word)
    raise argparse.ArgumentTypeError(f"{word!r} is not a number of seconds")
