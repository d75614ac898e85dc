# SPDX-License-Identifier: Apache-2.0
"""The pins of set.toml, held against each other and against what upstream's release asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from packaging import utils
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from patchset.authoring.lint import findings
from patchset.authoring.lint.findings import Code, Finding
from patchset.sets.setfile import PatchSet

_ASKED = "requirements.txt"


def check(patch_set: PatchSet, read: Callable[[str], bytes]) -> Iterator[Finding]:
    """Each version that is not the one of the set's name, of the files, or of upstream's requirements."""
    file = patch_set.folder / "set.toml"
    text = file.read_text(encoding="utf-8")
    for key, why in [*_versions(patch_set), *_asked(patch_set, read)]:
        yield findings.at(file, findings.line_of(text, key), Code.PINS_DISAGREE, why)


def _versions(patch_set: PatchSet) -> Iterator[tuple[str, str]]:
    if patch_set.name != f"v{patch_set.vllm.version}":
        yield "[vllm]", f"vLLM {patch_set.vllm.version} in set {patch_set.name}"
    for release in (patch_set.vllm, patch_set.ascend):
        for pin in (release.sdist, *release.wheels):
            found = _version_of(pin.file)
            if (found and utils.canonicalize_version(found)) != utils.canonicalize_version(release.version):
                yield f'"{pin.file}"', f"{pin.file} is of version {found}, the release is {release.version}"


def _version_of(file: str) -> Version | None:
    try:
        return utils.parse_wheel_filename(file)[1] if file.endswith(".whl") else utils.parse_sdist_filename(file)[1]
    except (utils.InvalidSdistFilename, utils.InvalidWheelFilename):
        return None


def _asked(patch_set: PatchSet, read: Callable[[str], bytes]) -> Iterator[tuple[str, str]]:
    """The pins that upstream's own requirements do not admit."""
    if _ASKED not in patch_set.sources():
        return
    pins = {"torch": ("torch = ", patch_set.torch), "torch-npu": ("torch_npu = ", patch_set.torch_npu)}
    for line in read(_ASKED).decode(errors="replace").splitlines():
        try:
            asked = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue
        key, pin = pins.get(utils.canonicalize_name(asked.name), ("", ""))
        if key and not asked.specifier.contains(pin, prereleases=True):
            yield key, f"{asked.name} {pin}, and upstream's {_ASKED} asks for {asked.specifier}"
