# SPDX-License-Identifier: Apache-2.0
"""Provenance: in-toto Statements, version 1, with SLSA's provenance predicate, version 1.

One lies in each wheel and is about the files that it installs, since a wheel cannot hold its own digest. One lies
beside the wheels and is about the wheels. Neither claims an SLSA level: who ran the tool is said by the signature of
SHA256SUMS, where there is one.

Specifications: in-toto's spec/v1/statement.md (github.com/in-toto/attestation), slsa.dev/spec/v1.1/provenance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patchset import __version__
from patchset.node import fingerprint
from patchset.node.manifest import sha256
from patchset.plan.plan import Plan
from patchset.sets.setfile import Artifact
from patchset.wheels import canonical
from patchset.wheels.model import Build, Made
from patchset.wheels.sbom import REPOSITORY, purl

NAME = "sboms/patchset.intoto.json"
BESIDE = "provenance.intoto.json"

# URNs, because the tool has no page on the network that could be named. The build type's parameters are those of
# `make wheels`: the set, the version made, and whether published wheels were repacked or the sdist was built.
BUILD_TYPE = "urn:x-patchset:wheels:v1"
BUILDER = "urn:x-patchset:tool"


def inside(build: Build) -> bytes:
    """The statement in a wheel: its subjects are the files of the package, and the package as a whole by dirHash."""
    package = build.plan.patch_set.package
    files = {path: sha for path, sha in build.files.items() if path.startswith(f"{package}/")}
    whole = {"name": f"{package}, by its fingerprint", "digest": {"dirHash": fingerprint.of(files, package)}}
    subjects = [whole, *({"name": path, "digest": {"sha256": files[path]}} for path in sorted(files))]
    return _statement(subjects, build.plan, build.version, [build.upstream])


def beside(made: Sequence[Made]) -> bytes:
    """The statement beside the wheels: one or more, all of one set and one version."""
    subjects = [{"name": one.build.file, "digest": {"sha256": one.sha256}} for one in made]
    first = made[0].build
    return _statement(subjects, first.plan, first.version, [one.build.upstream for one in made])


def _statement(subjects: list[dict[str, Any]], plan: Plan, version: str, upstream: Sequence[Artifact]) -> bytes:
    release = plan.patch_set.ascend
    origin = "source" if release.sdist in upstream else "wheels"
    return canonical.render(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {"set": plan.patch_set.name, "version": version, "from": origin},
                    "resolvedDependencies": [
                        *(_upstream(artifact, release.version) for artifact in upstream),
                        *_commit(release.commit),
                        *_set(plan),
                    ],
                },
                "runDetails": {"builder": {"id": BUILDER, "version": {"patchset": __version__}}},
            },
        }
    )


def _upstream(artifact: Artifact, version: str) -> dict[str, Any]:
    return {
        "name": artifact.file,
        "uri": purl(artifact.project, version, artifact.file).to_string(),
        "digest": {"sha256": artifact.sha256},
    }


def _commit(commit: str) -> list[dict[str, Any]]:
    return [{"name": "vllm-ascend", "uri": f"git+{REPOSITORY}", "digest": {"gitCommit": commit}}] if commit else []


def _set(plan: Plan) -> list[dict[str, Any]]:
    """The patches, in the order of the series, then the overlay's modules."""
    patches = [(f"patches/{plan.patch_set.name}/{step.patch.name}", step.patch.sha256) for step in plan.steps]
    modules = [(f"overlay:{path}", sha256(plan.overlay.files[path])) for path in sorted(plan.overlay.files)]
    return [{"name": name, "digest": {"sha256": sha}} for name, sha in patches + modules]
