# SPDX-License-Identifier: Apache-2.0
"""stats: lines by upstream file, held against git's own count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import SET, git

from patchset.sets import series, stats
from patchset.system import paths

if TYPE_CHECKING:
    from conftest import World


@pytest.mark.parametrize("folder", sorted((paths.repo_root() / "patches").iterdir()), ids=lambda folder: folder.name)
def test_the_real_series_as_git_counts_it(folder: Path, tmp_path: Path) -> None:
    expected: dict[str, tuple[int, int]] = {}
    for name in series.names((folder / "series").read_text()):
        for line in git(tmp_path, "apply", "--numstat", str(folder / name)).splitlines():
            added, removed, path = line.split("\t")
            before = expected.get(path, (0, 0))
            expected[path] = before[0] + int(added), before[1] + int(removed)
    found = stats.by_file(series.load(folder))
    assert {path: (counts["added"], counts["removed"]) for path, counts in found.items()} == expected
    assert list(found) == sorted(expected)


def test_the_document(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert world.run("stats", SET, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["added"] == sum(file["added"] for file in document["files"]) > 0
    assert document["overlay_lines"] == sum(module["lines"] for module in document["overlay"]) > 0
    assert world.run("stats", SET) == 0
    assert f"{len(document['files'])} upstream files" in capsys.readouterr().out
