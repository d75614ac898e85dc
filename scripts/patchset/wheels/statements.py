# SPDX-License-Identifier: Apache-2.0
"""The statements about patched wheels: in each wheel's .dist-info folder, and beside the wheels in dist/<set>.

Provenance is in-toto Statements, version 1, with SLSA's provenance predicate, version 1. One lies in each wheel and is
about the files that it installs, since a wheel cannot hold its own digest. One lies beside the wheels and is about the
wheels. Neither claims an SLSA level: who ran the tool is said by the signature of SHA256SUMS, where there is one.

Specifications: in-toto's spec/v1/statement.md (github.com/in-toto/attestation), slsa.dev/spec/v1.1/provenance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from patchset import __version__
from patchset.node import fingerprint
from patchset.node.manifest import sha256
from patchset.node.verify.build import FORMAT, MANIFEST
from patchset.plan.plan import Plan
from patchset.sets import facts
from patchset.sets.setfile import Artifact
from patchset.wheels import kit, sbom
from patchset.wheels.wheel import Build, Made, canonical

PROVENANCE = "sboms/patchset.intoto.json"
BESIDE = "provenance.intoto.json"

# URNs, because the tool has no page on the network that could be named. The build type's parameters are those of
# `make wheels`: the set, the version made, and whether published wheels were repacked or the sdist was built.
BUILD_TYPE = "urn:x-patchset:wheels:v1"
BUILDER = "urn:x-patchset:tool"


def members(build: Build) -> dict[str, bytes]:
    """Content by path below the .dist-info folder; patchset.json lists every other file of the wheel but RECORD."""
    stated = {sbom.NAME: sbom.render(build, facts.titles()), PROVENANCE: provenance(build)}
    listed = {f"{build.dist_info}/{path}": sha256(data) for path, data in stated.items()}
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
    return stated | {MANIFEST: canonical(document)}


def beside(made: Sequence[Made]) -> dict[str, bytes]:
    """Content by file name in dist/<set>: the provenance of its wheels, and the kit that verifies them on a node."""
    manifests = {one.build.file: sha256(one.members[MANIFEST]) for one in made}
    first = made[0].build
    expected = kit.expect(first.plan.patch_set, first.version, manifests)
    subjects = [{"name": one.build.file, "digest": {"sha256": one.sha256}} for one in made]
    provenance = _statement(subjects, first.plan, first.version, [one.build.upstream for one in made])
    return {BESIDE: provenance, kit.NAME: kit.build(expected)}


def provenance(build: Build) -> bytes:
    """The statement in a wheel: its subjects are the files of the package, and the package as a whole by dirHash."""
    package = build.plan.patch_set.package
    files = {path: sha for path, sha in build.files.items() if path.startswith(f"{package}/")}
    whole = {"name": f"{package}, by its fingerprint", "digest": {"dirHash": fingerprint.of(files, package)}}
    subjects = [whole, *({"name": path, "digest": {"sha256": files[path]}} for path in sorted(files))]
    return _statement(subjects, build.plan, build.version, [build.upstream])


def _statement(subjects: list[dict[str, Any]], plan: Plan, version: str, upstream: Sequence[Artifact]) -> bytes:
    origin = "source" if plan.patch_set.ascend.sdist in upstream else "wheels"
    return canonical(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {"set": plan.patch_set.name, "version": version, "from": origin},
                    "resolvedDependencies": list(_dependencies(plan, upstream)),
                },
                "runDetails": {"builder": {"id": BUILDER, "version": {"patchset": __version__}}},
            },
        }
    )


def _dependencies(plan: Plan, upstream: Sequence[Artifact]) -> Iterator[dict[str, Any]]:
    """Upstream's files and commit, the patches in the order of the series, then the overlay's modules."""
    release = plan.patch_set.ascend
    for one in upstream:
        uri = sbom.purl(one.project, release.version, one.file).to_string()
        yield {"name": one.file, "uri": uri, "digest": {"sha256": one.sha256}}
    if release.commit:
        yield {"name": "vllm-ascend", "uri": f"git+{sbom.REPOSITORY}", "digest": {"gitCommit": release.commit}}
    for step in plan.steps:
        yield {"name": f"patches/{plan.patch_set.name}/{step.patch.name}", "digest": {"sha256": step.patch.sha256}}
    for path in sorted(plan.overlay.files):
        yield {"name": f"overlay:{path}", "digest": {"sha256": sha256(plan.overlay.files[path])}}
