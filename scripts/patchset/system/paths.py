# SPDX-License-Identifier: Apache-2.0
"""Where things lie: in the repository, in build/, in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from patchset.node.errors import UsageError


def repo_root() -> Path:
    """The repository that holds patches/ and overlay/: PATCHSET_ROOT, or the one that this package lies in."""
    named = os.environ.get("PATCHSET_ROOT")
    root = Path(named).resolve() if named else Path(__file__).resolve().parents[3]
    if not (root / "patches").is_dir():
        hint = "run patchset from a checkout of the repository, or set PATCHSET_ROOT to one"
        raise UsageError(f"no patches/ folder in {root}", hint=hint)
    return root


def of_url(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def sets() -> list[str]:
    """Names of the sets in the repository, sorted."""
    return sorted(entry.parent.name for entry in (repo_root() / "patches").glob("*/set.toml"))


def set_dir(set_name: str) -> Path:
    """patches/<set>: pins, series and patches."""
    return repo_root() / "patches" / set_name


def overlay_dir(set_name: str, root: Path | None = None) -> Path:
    """overlay/<set>: the modules of one set alone."""
    return (root or repo_root()) / "overlay" / set_name


def overlay_dirs(set_name: str, root: Path | None = None) -> tuple[Path, ...]:
    """The folders whose modules a set installs: each wins over those before it. overlay/shared, then those of few sets,
    which are named after them (`v0.18.0+v0.23.0`), then the set's own."""
    own = overlay_dir(set_name, root)
    of_few = [entry for entry in own.parent.glob("*+*") if set_name in entry.name.split("+")]
    return own.parent / "shared", *sorted(of_few), own


def overlay_file(set_name: str, path: str, root: Path | None = None) -> Path | None:
    """The file of overlay/ that a set installs at `path`; None where no folder of the set's has it."""
    files = [folder / path for folder in overlay_dirs(set_name, root)]
    return next((file for file in reversed(files) if file.is_file()), None)


def build_dir(set_name: str) -> Path:
    """build/<set>: the trees made from a set."""
    return repo_root() / "build" / set_name


def tree_dir(set_name: str) -> Path:
    """build/<set>/vllm-ascend: the patched tree."""
    return build_dir(set_name) / "vllm-ascend"


def patches_state(set_name: str) -> Path:
    """The state folder of a run that writes patches/<set>, beside the set's trees; removed at the end of the run."""
    return build_dir(set_name) / ".patches.patchset"


def pristine_dir(set_name: str) -> Path:
    """build/<set>/pristine: verified, unpatched upstream."""
    return build_dir(set_name) / "pristine"


def cache_dir() -> Path:
    """Content-addressed downloads: PATCHSET_CACHE, or the user's cache folder."""
    if named := os.environ.get("PATCHSET_CACHE"):
        return Path(named).expanduser().absolute()
    import platformdirs  # what is applied already needs no cache

    return platformdirs.user_cache_path("patchset", appauthor=False)
