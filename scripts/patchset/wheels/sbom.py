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

from cyclonedx import model
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Commit, Component, ComponentType, Diff, Patch, PatchClassification, Pedigree
from cyclonedx.model.issue import IssueClassification, IssueType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from patchset import __version__
from patchset.node import fingerprint
from patchset.sets import facts
from patchset.sets.patchfile import Patch as PatchFile
from patchset.wheels.wheel import Build, canonical

NAME = "sboms/patchset.cdx.json"
REPOSITORY = "https://github.com/vllm-project/vllm-ascend"
LICENSE = "Apache-2.0"  # of upstream and of the set

_SERIALS = uuid.uuid5(uuid.NAMESPACE_URL, REPOSITORY)


def render(build: Build, titles: Mapping[str, str]) -> bytes:
    """The SBOM, determined by the build and the titles of defects alone: no clock, no random serial number."""
    about = [build.file, build.upstream.sha256, build.plan.series, __version__, dict(build.files)]
    bom = Bom(serial_number=uuid.uuid5(_SERIALS, canonical(about).decode()))
    bom.metadata.component = wheel = _component(build, titles)
    bom.metadata.tools.components.add(Component(name="patchset", version=__version__, type=ComponentType.APPLICATION))
    modules = []
    for path in build.plan.overlay.files:
        modules.append(Component(name=path, bom_ref=f"overlay:{path}", hashes=[_sha256(build.files[path])]))
        modules[-1].type, modules[-1].description = ComponentType.FILE, "added by the patch set"
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
    plan, project, release = build.plan, build.upstream.project, build.plan.patch_set.ascend
    commit = Commit(uid=release.commit, url=model.XsUri(f"{REPOSITORY}/commit/{release.commit}"))
    upstream = Component(name=project, version=release.version, bom_ref=f"upstream:{build.upstream.file}")
    upstream.purl = purl(project, release.version, build.upstream.file)
    upstream.hashes = [_sha256(build.upstream.sha256)]
    pedigree = Pedigree(
        ancestors=[upstream],
        commits=[commit] if release.commit else [],
        patches=[_patch(step.patch, plan.patch_set.name, titles) for step in plan.steps],
        notes=f"vllm-ascend {release.version} with patch set {plan.patch_set.name}",
    )
    stated = {"set": plan.patch_set.name, "series": plan.series, "tree": plan.tree}
    stated["fingerprint"] = fingerprint.of(build.files, plan.patch_set.package)
    repository = model.ExternalReference(type=model.ExternalReferenceType.VCS, url=model.XsUri(REPOSITORY))
    return Component(
        name=project,
        version=build.version,
        bom_ref=f"wheel:{build.file}",
        licenses=[DisjunctiveLicense(id=LICENSE)],
        purl=purl(project, build.version, build.file),
        pedigree=pedigree,
        properties=[model.Property(name=f"patchset:{name}", value=value) for name, value in stated.items()],
        external_references=[repository],
    )


def _patch(patch: PatchFile, set_name: str, titles: Mapping[str, str]) -> Patch:
    status = patch.header.get("Upstream-Status").split()[0]
    related = [url for word in patch.header.get("Related-PR").split() if (url := pull_request(word.strip(",")))]
    return Patch(
        type=PatchClassification.BACKPORT if status == "Backport" else PatchClassification.UNOFFICIAL,
        diff=Diff(
            text=model.AttachedText(content=patch.diff.decode(errors="replace"), content_type="text/x-diff"),
            url=model.XsUri(f"patches/{set_name}/{patch.name}#sha256={patch.sha256}"),
        ),
        resolves=[
            IssueType(
                type=IssueClassification.DEFECT,
                id=name,
                name=title or patch.header.subject,
                description=patch.header.subject,
                references=[model.XsUri(url) for url in related],
            )
            for name, title in resolved(patch.header.resolves, titles)
        ],
    )


def resolved(names: tuple[str, ...], titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """The defects that a Resolves field means, with their titles: D6 means D6a, D6b and so on, unless there is a D6.

    >>> resolved(("D6", "D7", "D9"), {"D6a": "one", "D6b": "other", "D7": "third", "D60": "no"})
    [('D6a', 'one'), ('D6b', 'other'), ('D7', 'third'), ('D9', '')]
    """
    found: list[tuple[str, str]] = []
    for name in names:
        parts = [known for known in titles if known != name and facts.whole(known) == name]
        meant = parts if parts and name not in titles else [name]
        found += [(part, titles.get(part, "")) for part in meant]
    return found


def pull_request(name: str) -> str:
    """The address of a pull request that a header names as owner/repository#number; nothing for any other word.

    >>> pull_request("vllm-project/vllm-ascend#2582"), pull_request("#2582")
    ('https://github.com/vllm-project/vllm-ascend/pull/2582', '')
    """
    repository, _, number = name.partition("#")
    return f"https://github.com/{repository}/pull/{number}" if repository.count("/") == 1 and number.isdigit() else ""


def purl(project: str, version: str, file: str) -> PackageURL:
    """The package URL of one file of a release; `file_name` is the qualifier that type pypi has for it."""
    return PackageURL("pypi", name=project, version=version, qualifiers={"file_name": file})


def _sha256(digest: str) -> model.HashType:
    return model.HashType(alg=model.HashAlgorithm.SHA_256, content=digest)
