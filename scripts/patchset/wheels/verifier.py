# SPDX-License-Identifier: Apache-2.0
"""patchset-verify.pyz: the verifier as one file that any Python from 3.9 on runs, and what it holds builds to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchset import cache, fingerprint, plan, pyz
from patchset.verify import build, checks
from patchset.verify.expected import Expected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from patchset.setfile import Artifact, PatchSet

NAME = "patchset-verify.pyz"

_EXPECTED = "patchset/verify/expected.json"
_MAIN = """\
import pkgutil

from patchset.verify import command, expected

sys.exit(command.main(expected.parse(pkgutil.get_data("patchset.verify", "expected.json"))))
"""


def expect(patch_set: PatchSet, manifests: Mapping[str, str] | None = None, *, cached: bool = False) -> Expected:
    """What a set makes, as set.toml records it.

    Args:
        patch_set: the set.
        manifests: sha256 of the patchset.json of each wheel, where wheels have been made.
        cached: look into those of upstream's wheels that are in the download cache, for what the set has no say in.
    """
    package, sources = patch_set.package, patch_set.sources()
    patched = plan.patched_manifest(sources, patch_set.touched)
    return Expected(
        set=patch_set.name,
        package=package,
        upstream=patch_set.ascend.version,
        files={path: sha for path, sha in patched.items() if fingerprint.counts(path, package)},
        pristine={path: sha for path, sha in sources.items() if fingerprint.counts(path, package)},
        others={path: sha for path, sha in patched.items() if not fingerprint.counts(path, package)},
        made_from={
            pin.sha256: _kept(pin, package) if cached else {}
            for pin in (patch_set.ascend.sdist, *patch_set.ascend.wheels)
        },
        manifests=manifests or {},
    )


def _kept(pin: Artifact, package: str) -> dict[str, str]:
    """What builds keep of a wheel in the cache besides what the set knows; nothing where it is not there."""
    file = cache.location(pin)
    if file.suffix != ".whl" or not file.is_file():
        return {}
    cache.check(file, pin, hint="remove it, and let the next command fetch it anew")
    return checks.kept(build.read_wheel(file), package)


def archive(expected: Expected) -> bytes:
    """The program; a test runs it without any other module."""
    return pyz.build(("verify/*.py",), _MAIN, {_EXPECTED: expected.render()})
