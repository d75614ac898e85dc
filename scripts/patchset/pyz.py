# SPDX-License-Identifier: Apache-2.0
"""A part of this package as one file that any Python from 3.9 on runs: a zipapp with the same bytes each time."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import patchset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What every part needs.
_SHARED = ("__init__.py", "errors.py", "fingerprint.py", "manifest.py")
_CHECK = """\
import sys

if sys.version_info < (3, 9):
    sys.stderr.write("error: Python 3.9 or newer is needed; %s is %s\\n" % (sys.executable, sys.version.split()[0]))
    sys.exit(2)

"""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build(modules: Iterable[str], main: str, data: Mapping[str, bytes]) -> bytes:
    """The bytes of the file; nothing is compressed, since zlib's output differs between its versions.

    Args:
        modules: glob patterns below the package, besides the modules that every part needs.
        main: what it runs, once the Python is known to be new enough.
        data: further members by their path in the archive.
    """
    root = Path(patchset.__file__).parent
    sources = [file for pattern in (*_SHARED, *modules) for file in root.glob(pattern)]
    files = {f"{root.name}/{file.relative_to(root).as_posix()}": file.read_bytes() for file in sources}
    files |= {"__main__.py": (_CHECK + main).encode(), **data}
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as zipped:
        for path, content in sorted(files.items()):
            member = zipfile.ZipInfo(path, _EPOCH)
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            zipped.writestr(member, content)
    return buffer.getvalue()
