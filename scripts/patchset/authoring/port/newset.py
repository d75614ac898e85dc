# SPDX-License-Identifier: Apache-2.0
"""The files of a new set, written whole or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomlkit

from patchset.authoring.port.release import Pins
from patchset.authoring.port.replaced import SymbolFate
from patchset.node import manifest
from patchset.plan import pins, plan
from patchset.sets import overlay, setfile, symbols
from patchset.sets.overlay import Broken
from patchset.sets.setfile import Artifact, PatchSet, Release
from patchset.system import paths

_BUILT = re.compile(r"(PKG-INFO|setup\.cfg)$|[^/]*\.egg-info(/|$)")  # what the build of an sdist writes


def set_toml(name: str, old: PatchSet, vllm: Release, ascend: Release, pins: Pins, files: manifest.Manifest) -> str:
    """set.toml without its result."""
    head = f"""\
# SPDX-License-Identifier: Apache-2.0
# The pins of this set. `patchset pin {name}` writes [result]; the rest is written by `patchset port` or by hand.
format = 1

[vllm]
version = "{vllm.version}"

[vllm.sdist]
{_artifact(vllm.sdist)}
[ascend]
version = "{ascend.version}"
"""
    released = f"released = {ascend.released.isoformat()}\n" if ascend.released else ""
    commit = f'commit = "{ascend.commit}"\n' if ascend.commit else ""
    built = "".join(f'    "{path}",\n' for path in sorted(files) if path in old.generated or _BUILT.match(path))
    wheels = "".join(f"[[ascend.wheels]]\n{_artifact(wheel)}\n" for wheel in ascend.wheels)
    runtime = "".join(f'{key} = "{pin.value}"\n' for key, pin in pins.rows() if key != "vllm")
    return (
        f'{head}{released}{commit}package = "{old.package}"\n'
        f"# Written by the sdist's build; a checkout of the tag has none of them.\ngenerated = [\n{built}]\n\n"
        f"[ascend.sdist]\n{_artifact(ascend.sdist)}\n{wheels}[runtime]\n{runtime}\n"
        f'[upstream]\nmanifest = "{manifest.digest(files)}"\n\n[result]\ntree = ""\n\n[result.files]\n'
    )


def _artifact(artifact: Artifact) -> str:
    return f'file = "{artifact.file}"\nsha256 = "{artifact.sha256}"\n'


def overlay_toml(fates: Sequence[SymbolFate], breaks: Sequence[Broken], omits: Sequence[str] = ()) -> str:
    """overlay.toml with each symbol where it is now; what is gone is left out."""
    modules: dict[str, list[dict[str, str]]] = {}
    for one in fates:
        if one.path:
            row = {"path": one.path, "symbol": one.symbol, "sha256": one.sha256}
            modules.setdefault(one.row.module, []).append({key: text for key, text in row.items() if text})
    document = tomlkit.document()
    document.add(tomlkit.comment("SPDX-License-Identifier: Apache-2.0"))
    document.add(tomlkit.comment("Upstream code that each module takes the place of; `patchset pin` pins its digest."))
    document.add(tomlkit.nl())
    if omits:
        document["omits"] = tomlkit.item(omits).multiline(True)
        document.add(tomlkit.nl())
    document["module"] = [{"path": path, "replaces": rows} for path, rows in modules.items()]
    if breaks:
        document["breaks"] = [{"path": one.path, "symbol": one.symbol, "why": one.why} for one in breaks]
    return tomlkit.dumps(document)


def install(
    name: str, old: PatchSet, pins_text: str, files: manifest.Manifest, patches: Mapping[str, bytes],
    fates: Sequence[SymbolFate], modules: Mapping[str, bytes], upstream: Path, staging: Path,
) -> PatchSet:  # fmt: skip
    """Writes overlay/<set> and patches/<set>, once their plan has worked out in a copy; the set, pinned. Files of the
    own overlay of `old` come along, and those of few sets; `modules`, which were changed in the work tree, are the new
    set's own. `pins_text` is set.toml without a result, `files` the manifest of the unpacked `upstream`. Both folders
    are made in `staging`. Raises PatchDoesNotApply, UsageError, PinMismatch: the set does not work out; nothing of it
    is written."""
    shutil.rmtree(staging, ignore_errors=True)
    shared, *before = paths.overlay_dirs(old.name)
    shared_copy, own = paths.overlay_dirs(name, staging)
    left_out = shutil.ignore_patterns("__pycache__", "overlay.toml")
    for source, copy in ((shared, shared_copy), *((folder, own) for folder in before)):
        if source.is_dir():
            shutil.copytree(source, copy, ignore=left_out, dirs_exist_ok=True)
    own.mkdir(parents=True, exist_ok=True)
    for path, content in modules.items():
        (own / path).parent.mkdir(parents=True, exist_ok=True)
        (own / path).write_bytes(content)
    there = overlay.load(old)
    breaks = [one for one in there.breaks if (upstream / one.path).is_file()]  # those whose code the release has
    breaks = [one for one in breaks if symbols.find((upstream / one.path).read_bytes(), one.symbol)]
    text = overlay_toml(fates, breaks, there.omits)
    overlay.overlay_toml(name, staging).write_text(text, encoding="utf-8")
    folder = staging / "patches" / name
    folder.mkdir(parents=True)
    texts = {"set.toml": pins_text, "upstream.sha256": manifest.render(files), "series": "\n".join([*patches, ""])}
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    for patch, data in patches.items():
        (folder / patch).write_bytes(data)
    made = plan.make(setfile.parse(pins_text, folder), lambda path: (upstream / path).read_bytes())
    pins.pin_result(made)
    own.rename(paths.overlay_dir(name))
    try:
        folder.rename(paths.set_dir(name))
    except BaseException:
        take_back(name, staging)
        raise
    return setfile.load_set(name)


def take_back(name: str, staging: Path) -> None:
    """Moves overlay/<set> back to where it was made, if patches/<set> has not followed it into the repository."""
    made, own = paths.overlay_dir(name, staging), paths.overlay_dir(name)
    if (staging / "patches" / name).is_dir() and own.is_dir() and not made.exists():
        own.rename(made)


def installed(name: str, staging: Path) -> bool:
    """Whether both folders have been moved into the repository; asked by the run after an interrupted one."""
    patches = staging / "patches"
    return patches.is_dir() and not (patches / name).exists() and paths.set_dir(name).is_dir()
