# SPDX-License-Identifier: Apache-2.0
"""The SBOM of a wheel, CycloneDX 1.6: its pedigree is the upstream wheel, and each patch with what it resolves.

PEP 770 gives SBOMs their place: .dist-info/sboms/. A patch is there with its whole diff, so that whoever has the wheel
alone can read what differs from upstream; the digest in its URL is that of the patch file. The order of the series is
in the URLs' names: CycloneDX holds patches as a set.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from cyclonedx.model import (
    AttachedText,
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Commit, Component, ComponentType, Diff, Patch, PatchClassification, Pedigree
from cyclonedx.model.issue import IssueClassification, IssueType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from patchset import __version__
from patchset.node import fingerprint
from patchset.sets.patchfile import Patch as PatchFile
from patchset.wheels.model import Build, canonical

NAME = "sboms/patchset.cdx.json"
REPOSITORY = "https://github.com/vllm-project/vllm-ascend"
LICENSE = "Apache-2.0"  # of upstream and of the set

_SERIALS = uuid.uuid5(uuid.NAMESPACE_URL, REPOSITORY)


def render(build: Build, titles: Mapping[str, str]) -> bytes:
    """The SBOM, determined by the build alone: no clock, no random serial number.

    `titles` are of defects, by the names that patches' Resolves fields use.
    """
    about = [build.file, build.upstream.sha256, build.plan.series, __version__, dict(build.files)]
    bom = Bom(serial_number=uuid.uuid5(_SERIALS, canonical(about).decode()))
    bom.metadata.component = wheel = _component(build, titles)
    bom.metadata.tools.components.add(Component(name="patchset", version=__version__, type=ComponentType.APPLICATION))
    modules = [
        Component(
            name=path,
            bom_ref=f"overlay:{path}",
            type=ComponentType.FILE,
            description="added by the patch set",
            hashes=[_sha256(build.files[path])],
        )
        for path in build.plan.overlay.files
    ]
    bom.components.update(modules)
    bom.register_dependency(wheel, modules)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    # Not the library's clock: that of the newest patch, which is the same wherever the wheel is made.
    if dates := [step.patch.header.date for step in build.plan.steps]:
        document["metadata"]["timestamp"] = max(dates).astimezone(UTC).isoformat()
    else:
        del document["metadata"]["timestamp"]
    return canonical(document)


def _component(build: Build, titles: Mapping[str, str]) -> Component:
    release = build.plan.patch_set.ascend
    commit = Commit(uid=release.commit, url=XsUri(f"{REPOSITORY}/commit/{release.commit}"))
    pedigree = Pedigree(
        ancestors=[
            Component(
                name=build.upstream.project,
                version=release.version,
                bom_ref=f"upstream:{build.upstream.file}",
                purl=purl(build.upstream.project, release.version, build.upstream.file),
                hashes=[_sha256(build.upstream.sha256)],
            )
        ],
        commits=[commit] if release.commit else [],
        patches=[_patch(step.patch, build.plan.patch_set.name, titles) for step in build.plan.steps],
        notes=f"vllm-ascend {release.version} with patch set {build.plan.patch_set.name}",
    )
    return Component(
        name=build.upstream.project,
        version=build.version,
        bom_ref=f"wheel:{build.file}",
        licenses=[DisjunctiveLicense(id=LICENSE)],
        purl=purl(build.upstream.project, build.version, build.file),
        pedigree=pedigree,
        properties=[
            Property(name="patchset:set", value=build.plan.patch_set.name),
            Property(name="patchset:series", value=build.plan.series),
            Property(name="patchset:tree", value=build.plan.tree),
            Property(name="patchset:fingerprint", value=fingerprint.of(build.files, build.plan.patch_set.package)),
        ],
        external_references=[ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(REPOSITORY))],
    )


def _patch(patch: PatchFile, set_name: str, titles: Mapping[str, str]) -> Patch:
    status = patch.header.get("Upstream-Status").split()[0]
    related = [url for word in patch.header.get("Related-PR").split() if (url := pull_request(word.strip(",")))]
    return Patch(
        type=PatchClassification.BACKPORT if status == "Backport" else PatchClassification.UNOFFICIAL,
        diff=Diff(
            text=AttachedText(content=patch.diff.decode(errors="replace"), content_type="text/x-diff"),
            url=XsUri(f"patches/{set_name}/{patch.name}#sha256={patch.sha256}"),
        ),
        resolves=[
            IssueType(
                type=IssueClassification.DEFECT,
                id=name,
                name=title or patch.header.subject,
                description=patch.header.subject,
                references=[XsUri(url) for url in related],
            )
            for name, title in resolved(patch.header.resolves, titles)
        ],
    )


def resolved(names: tuple[str, ...], titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """The defects that a Resolves field means, with their titles: D6 means D6a, D6b and so on, unless there is a D6.

    >>> resolved(("D6", "D7"), {"D6a": "one", "D6b": "other", "D7": "third", "D60": "no"})
    [('D6a', 'one'), ('D6b', 'other'), ('D7', 'third')]
    >>> resolved(("D99",), {})
    [('D99', '')]
    """
    found: list[tuple[str, str]] = []
    for name in names:
        parts = [known for known in titles if known[:-1] == name and known[-1].isalpha()]
        meant = parts if parts and name not in titles else [name]
        found += [(part, titles.get(part, "")) for part in meant]
    return found


def pull_request(name: str) -> str:
    """The address of a pull request that a header names as owner/repository#number; nothing for any other word.

    >>> pull_request("vllm-project/vllm-ascend#2582")
    'https://github.com/vllm-project/vllm-ascend/pull/2582'
    >>> pull_request("#2582")
    ''
    """
    repository, _, number = name.partition("#")
    return f"https://github.com/{repository}/pull/{number}" if repository.count("/") == 1 and number.isdigit() else ""


def purl(project: str, version: str, file: str) -> PackageURL:
    """The package URL of one file of a release; `file_name` is the qualifier that type pypi has for it."""
    return PackageURL("pypi", name=project, version=version, qualifiers={"file_name": file})


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
