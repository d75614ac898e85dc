# SPDX-License-Identifier: Apache-2.0
"""The statements about patched wheels: in each wheel's .dist-info folder, and beside the wheels in dist/<set>."""

from __future__ import annotations

from collections.abc import Sequence

from patchset import __version__
from patchset.node import fingerprint, manifest
from patchset.node.verify.build import MANIFEST
from patchset.node.verify.declared import FORMAT
from patchset.sets import facts
from patchset.wheels import attestation, canonical, kit, sbom
from patchset.wheels.model import Build, Made


def members(build: Build) -> dict[str, bytes]:
    """Content by path below the .dist-info folder; determined by the build alone.

    patchset.json lists every other file of the wheel but RECORD: it is what an installation is held to.
    """
    stated = {sbom.NAME: sbom.render(build, facts.titles()), attestation.NAME: attestation.inside(build)}
    listed = {f"{build.dist_info}/{path}": manifest.sha256(data) for path, data in stated.items()}
    patch_set = build.plan.patch_set
    document = {
        "format": FORMAT,
        "tool": __version__,
        "set": patch_set.name,
        "project": build.upstream.project,
        "package": patch_set.package,
        "version": build.version,
        "upstream": {"file": build.upstream.file, "sha256": build.upstream.sha256},
        "tree": build.plan.tree,
        "series": build.plan.series,
        "fingerprint": fingerprint.of(build.files, patch_set.package),
        "files": {**build.files, **listed},
    }
    return stated | {MANIFEST: canonical.render(document)}


def beside(made: Sequence[Made]) -> dict[str, bytes]:
    """Content by file name in dist/<set>: the provenance of the wheels, and the kit that verifies them on a node.

    Args:
        made: every wheel of one set and one version; at least one.
    """
    manifests = {one.build.file: manifest.sha256(one.members[MANIFEST]) for one in made}
    first = made[0].build
    expected = kit.expect(first.plan.patch_set, first.version, manifests)
    return {attestation.BESIDE: attestation.beside(made), kit.NAME: kit.build(expected)}
