# SPDX-License-Identifier: Apache-2.0
"""A package index of static files: PEP 503 in HTML and PEP 691 in JSON, for file:// and any plain HTTP server."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from urllib.parse import quote

from packaging.utils import canonicalize_name

from patchset.wheels.model import Made

_PAGE = """\
<!DOCTYPE html>
<html>
<head><meta name="pypi:repository-version" content="1.0"><title>{title}</title></head>
<body>
{links}
</body>
</html>
"""


def pages(project: str, version: str, wheels: Sequence[Made]) -> dict[str, bytes]:
    """The files of the index below dist/<set>/, by path; the wheels lie two folders above the project's page."""
    name = canonicalize_name(project)
    links = "\n".join(
        f'<a href="../../{quote(one.build.file)}#sha256={one.sha256}"'
        f' data-requires-python="{html.escape(one.requires_python)}">'
        f"{html.escape(one.build.file)}</a><br>"
        for one in wheels
    )
    detail = {
        "meta": {"api-version": "1.1"},
        "name": name,
        "versions": [version],
        "files": [
            {
                "filename": one.build.file,
                "url": f"../../{quote(one.build.file)}",
                "hashes": {"sha256": one.sha256},
                "size": one.size,
                "requires-python": one.requires_python,
            }
            for one in wheels
        ],
    }
    listing = {"meta": {"api-version": "1.1"}, "projects": [{"name": name}]}
    texts = {
        "simple/index.html": _PAGE.format(title="Simple index", links=f'<a href="{name}/">{name}</a>'),
        "simple/index.json": json.dumps(listing, indent=1) + "\n",
        f"simple/{name}/index.html": _PAGE.format(title=f"Links for {name}", links=links),
        f"simple/{name}/index.json": json.dumps(detail, indent=1) + "\n",
    }
    return {path: text.encode() for path, text in texts.items()}
