# SPDX-License-Identifier: Apache-2.0
"""patchset-cluster.pyz: the checks and what they expect in one file, for the Python of a node.

The same bytes for the same expectation: members are sorted, stored and dated alike.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import patchset
from patchset.cluster.node.main import EXPECTED

if TYPE_CHECKING:
    from patchset.cluster.node.expected import Expected

NAME = "patchset-cluster.pyz"

# What runs on a node, of this package.
_MODULES = ("__init__.py", "errors.py", "fingerprint.py", "manifest.py", "cluster/__init__.py", "cluster/node/*.py")
_MAIN = """\
import sys

if sys.version_info < (3, 9):
    sys.stderr.write("error: Python 3.9 or later is needed; %s is %s\\n" % (sys.executable, sys.version.split()[0]))
    sys.exit(2)
from patchset.cluster.node.main import main

sys.exit(main())
"""
_DATE = (1980, 1, 1, 0, 0, 0)


def build(expected: Expected) -> bytes:
    """The bytes of the kit."""
    package = Path(patchset.__file__).parent
    files = [file for pattern in _MODULES for file in package.glob(pattern)]
    members = {f"patchset/{file.relative_to(package).as_posix()}": file.read_bytes() for file in files}
    members |= {"__main__.py": _MAIN.encode(), f"patchset/cluster/node/{EXPECTED}": expected.to_json()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    return buffer.getvalue()
