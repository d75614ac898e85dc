# SPDX-License-Identifier: Apache-2.0
"""wheels, verify, cluster: what is made for a cluster, and what a build, a node or all nodes are held to."""

from __future__ import annotations

import argparse
from functools import lru_cache

from patchset.commands.menu import OFFLINE, Menu, told
from patchset.node import options
from patchset.node.errors import UsageError
from patchset.node.expected import Expected
from patchset.sets.setfile import load_set, only_set
from patchset.system import paths
from patchset.system.terminal import Terminal


def add(menu: Menu) -> None:
    one = menu.command("wheels", "make patched wheels, with an index, in dist/<set>/", wheels, OFFLINE)
    one.option("--local", "LABEL", "local version label (default: dp.1)", default="dp.1")
    what = "repack the published wheels (default), or build the patched tree"
    one.add_argument("--from", dest="origin", choices=("wheels", "source"), default="wheels", help=what)
    what = "a wheelhouse or a published wheel; with --from source, an sdist, a directory or a git checkout"
    one.option("--upstream", "PATH", what)
    one.option("--python", "PATH", "with --from source: the interpreter that has what the build needs")
    what = "sign SHA256SUMS with this minisign secret key; its password is asked for, or PATCHSET_KEY_PASSWORD"
    one.option("--sign", "KEY", what)
    one = menu.bare("verify", options.VERIFY, verify)
    options.add_verify(one)
    one.option("--key", "PUB", "minisign public key, file or text, that must have signed --dist")
    one.option("--set", "SET", "the set that it must be of (default: the one that it names)")
    nodes = menu.group("cluster", options.CLUSTER, options.HOW)
    for name, summary, declare in (
        ("verify", options.CLUSTER_VERIFY, options.add_cluster_verify),
        ("smoke", options.CLUSTER_SMOKE, options.add_cluster_smoke),
    ):
        one = nodes.command(name, summary, cluster, optional_set=True)
        declare(one)
        what = "the interpreter that vLLM runs on; it needs Ray and no patchset (default: python3)"
        one.option("--python", "PYTHON", what, default="python3")


def wheels(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.wheels import build, from_source, make, repack

    patch_set = load_set(arguments.set)
    version = build.local_version(patch_set.ascend.version, arguments.local)
    given = {**told(arguments, "upstream", "offline"), "terminal": terminal}
    if arguments.origin == "source":
        drafts = from_source.drafts(patch_set, version, python=arguments.python, **given)
    elif arguments.python:
        raise UsageError("--python is for --from source", hint="patchset wheels --help")
    else:
        drafts = repack.drafts(patch_set, version, **given)
    make.show(make.run(patch_set, version, drafts, key=arguments.sign), terminal)
    return 0


def verify(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from patchset.node.verify import command
    from patchset.wheels import minisign

    @lru_cache
    def lookup(name: str) -> Expected | None:
        from patchset.wheels import kit

        sets = [load_set(one) for one in ([arguments.set] if arguments.set else paths.sets())]
        meant = sets if arguments.set or not name else [one for one in sets if name in (one.name, one.ascend.version)]
        return kit.expect(meant[0], cached=True) if len(meant) == 1 else None

    if arguments.key and not arguments.dist:
        raise UsageError("--key goes with --dist")
    key = minisign.read_public_key(arguments.key) if arguments.key else None
    vouch = (lambda folder, sums: minisign.vouched(folder, sums, key)) if key else None
    verdicts = command.run(arguments, lookup, vouch)
    for verdict in verdicts:
        for line in command.lines(verdict):
            terminal.note(line)
    terminal.document(command.document(verdicts))
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def cluster(arguments: argparse.Namespace, terminal: Terminal) -> int:  # noqa: ARG001 - the kit prints
    """`patchset cluster verify` and `patchset cluster smoke`: what the nodes must have is the set's build."""
    from patchset.wheels import kit

    data = kit.build(kit.expect(load_set(arguments.set or only_set())))
    words = ["cluster", arguments.action, *options.words(arguments), *(["--json"] if arguments.json else [])]
    return kit.run(arguments.python, words, data)
