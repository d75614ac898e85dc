# SPDX-License-Identifier: Apache-2.0
"""uv, which installs packages where pip's settings say that they come from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from patchset.node.errors import Unavailable
from patchset.upstream import index

_LOG_TAIL = 12

# Variables of the caller that would lead another Python, or vLLM, astray; and one by which each of many engines would
# compile torch and vLLM anew.
_DROPPED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Installer:
    root: Path
    uv: Path
    offline: bool

    @property
    def log(self) -> Path:
        return self.root / "install.log"

    def can(self, arguments: Sequence[str]) -> bool:
        """Whether uv ends well; what it says goes to the log."""
        return self._call(arguments, {})[0] == 0

    def run(self, what: str, arguments: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        """Runs uv; its output goes to the log, and where it fails the end of it to the user, as Unavailable."""
        code, start = self._call(arguments, extra or {})
        if code:
            said = self.log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
            tail = "\n  ".join(said[-_LOG_TAIL:])
            hint = "check the network and pip's index settings, then run the same command again"
            hint = "run once without OFFLINE=1" if self.offline else hint
            raise Unavailable(f"could not {what}\n  {tail}\n  log: {self.log}", hint=hint)

    def _call(self, arguments: Sequence[str], extra: Mapping[str, str]) -> tuple[int, int]:
        """uv's exit code, and where in the log its output begins."""
        first, *rest = arguments
        command = [str(self.uv), first, *(["--offline"] if self.offline else []), *rest]
        environ = own_environment()
        environ |= settings(index.settings(), environ) | dict(extra)
        with self.log.open("ab") as log:
            start = log.tell()
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            return subprocess.run(command, stdout=log, stderr=log, env=environ, check=False).returncode, start


def own_environment() -> dict[str, str]:
    """The environment of this process, without the variables that are for its own Python."""
    return {key: value for key, value in os.environ.items() if key not in _DROPPED and not key.startswith("COVERAGE_")}


def settings(pip: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> dict[str, str]:
    """pip's settings of where packages come from, as the variables that uv reads.

    Where uv has an index of its own, that stands. Every package is locked by hash, so it is safe to take it from
    whichever index has it. uv prefers the index named first, and would prefer any to its own default: an extra index
    may hold another file of the same version (a wheel without its libraries, say), so it counts only after pip's.

    >>> settings({"index-url": ["https://a.example/simple"]}, {})["UV_DEFAULT_INDEX"]
    'https://a.example/simple'
    >>> settings({"index-url": ["https://a.example/simple"]}, {"UV_DEFAULT_INDEX": "https://b.example"})
    {}
    """
    if any(environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX")):
        return {}
    main = pip.get("index-url", [])[:1]
    variables = {
        "UV_DEFAULT_INDEX": main,
        "UV_INDEX": [*main, *pip.get("extra-index-url", [])] if main else [],
        "UV_FIND_LINKS": pip.get("find-links", []),
        "SSL_CERT_FILE": pip.get("cert", [])[:1],
    }
    found = {name: " ".join(values) for name, values in variables.items() if values and not environ.get(name)}
    return found | {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def find() -> Path:
    """uv beside this Python, as the Makefile installs it, or on the PATH; raises Unavailable where it is in neither."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if not found:
        hint = "run `make` once, which puts it into .venv, or `pip install uv`"
        raise Unavailable(f"uv is not beside {sys.executable} nor on the PATH", hint=hint)
    return Path(found)
