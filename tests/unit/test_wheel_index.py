# SPDX-License-Identifier: Apache-2.0
"""dist/<set>/ as an installer sees it: pip itself, over file:// and over a plain HTTP server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import PACKAGE, SET, World, _Quiet
from pypi_simple import ProjectPage, PyPISimple
from wheel_world import PATCHED, PATCHED_INFO, TAGS, dist, name, publish, tree

from patchset.wheels import make
from patchset.wheels.wheel import Build, Made


@pytest.fixture
def made(world: World) -> World:
    publish(world)
    assert world.run("wheels", SET, "--offline") == 0
    return world


@pytest.fixture
def served(made: World) -> Iterator[str]:
    """The URL of dist/<set>/ behind `python -m http.server` or its like."""
    yield from serving(made, _Quiet)


class _Proxy(_Quiet):
    """Serves the folder whatever host is asked for, as a proxy would: no name has to be known here."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(urlsplit(path).path)


@pytest.fixture
def proxy(made: World) -> Iterator[str]:
    yield from serving(made, _Proxy)


def serving(made: World, handler: type[_Quiet]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(dist(made)))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def pip(*words: str) -> str:
    """Runs pip for the platform of the first wheel; what it printed."""
    platform = ["--only-binary=:all:", "--python-version=310", "--platform=linux_x86_64"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words, "--no-deps", *platform]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize("how", ["file", "http", "find-links"])
def test_pip_installs_the_wheel_for_its_platform(made: World, served: str, tmp_path: Path, how: str) -> None:
    where = {
        "file": ["--index-url", f"{dist(made).as_uri()}/simple"],
        "http": ["--index-url", f"{served}/simple"],
        "find-links": ["--no-index", "--find-links", str(dist(made))],
    }[how]
    target = tmp_path / "site-packages"
    pip("install", *where, "--target", str(target), f"tiny-ascend=={PATCHED}")
    found = tree(target)
    assert found[f"{PACKAGE}/data_parallel/plan.py"] == b"answer = 42\n"
    assert found[f"{PACKAGE}/_build_info.py"] == f"tag = {TAGS[0]!r}\n".encode()
    assert (target / PACKAGE / "_C.so").stat().st_mode & 0o111
    assert f"{PATCHED_INFO}/patchset.json" in found


def test_a_requirement_of_upstreams_version_takes_the_patched_wheel(made: World, served: str, tmp_path: Path) -> None:
    """PEP 440: a local version satisfies `==` of its public one."""
    pip("download", "--index-url", f"{served}/simple", "--dest", str(tmp_path / "d"), "tiny-ascend==9.9rc1")
    assert [path.name for path in (tmp_path / "d").iterdir()] == [name(TAGS[0], PATCHED)]


def test_plain_http_from_another_host_wants_trusted_host(made: World, proxy: str, tmp_path: Path) -> None:
    """As docs/operator.md says."""
    words = ["--proxy", proxy, "--index-url", "http://wheels.invalid:8000/simple", f"tiny-ascend=={PATCHED}"]
    target = ["--target", str(tmp_path / "site-packages")]
    with pytest.raises(AssertionError, match="not a trusted or secure host"):
        pip("install", *words, *target)
    pip("install", "--trusted-host", "wheels.invalid", *words, *target)
    assert f"{PATCHED_INFO}/patchset.json" in tree(tmp_path / "site-packages")


def test_a_changed_wheel_is_refused_by_pip(made: World, served: str, tmp_path: Path) -> None:
    wheel = dist(made) / name(TAGS[0], PATCHED)
    wheel.write_bytes(wheel.read_bytes().replace(b"answer = 42", b"answer = 43"))
    with pytest.raises(AssertionError, match="DO NOT MATCH THE HASHES"):
        pip("install", "--index-url", f"{served}/simple", "--target", str(tmp_path / "t"), f"tiny-ascend=={PATCHED}")


def test_another_client_reads_the_same_from_html_and_json(made: World, served: str) -> None:
    with PyPISimple(f"{served}/simple") as client:
        assert client.get_index_page().projects == ["tiny-ascend"]
        page = client.get_project_page("tiny-ascend")
    data = json.loads((dist(made) / "simple" / "tiny-ascend" / "index.json").read_text())
    from_json = ProjectPage.from_json_data(data, f"{served}/simple/tiny-ascend/")
    rows = [
        [(one.filename, one.url.partition("#")[0], one.digests, one.requires_python) for one in listing.packages]
        for listing in (page, from_json)
    ]
    assert rows[0] == rows[1]
    assert {row[0] for row in rows[0]} == {name(tag, PATCHED) for tag in TAGS}
    assert {row[3] for row in rows[0]} == {">=3.9"}
    assert data["versions"] == [PATCHED]
    assert all(one["size"] == (dist(made) / one["filename"]).stat().st_size for one in data["files"])


def test_constraints_keep_the_patched_wheel(made: World, tmp_path: Path) -> None:
    lines = (dist(made) / "constraints.txt").read_text().splitlines()
    assert lines == [f"tiny-ascend=={PATCHED}", "torch==2.7.1", "torch-npu==2.7.1", "vllm==9.9.9"]
    constraints = ["--constraint", str(dist(made) / "constraints.txt")]
    links = ["--no-index", "--find-links", str(dist(made))]
    with pytest.raises(AssertionError, match=r"conflicting|No matching"):
        pip("download", *links, *constraints, "--dest", str(tmp_path / "d"), "tiny-ascend==9.9rc2")
    pip("download", *links, *constraints, "--dest", str(tmp_path / "d"), "tiny-ascend")


def test_names_that_html_and_urls_must_quote() -> None:
    build = Build(None, None, "1+x.1", "a_b-1+x.1-py3-none-any.whl", {})
    page = make.pages("A_B", "1+x.1", [Made(build, {}, "0" * 64, 1, '>=3, <"4"')])["simple/a-b/index.html"].decode()
    assert 'href="../../a_b-1%2Bx.1-py3-none-any.whl#sha256=' in page
    assert 'data-requires-python="&gt;=3, &lt;&quot;4&quot;"' in page
