# SPDX-License-Identifier: Apache-2.0
"""The package index of pip's settings: gives a file by name, and lists a project's files. `pip download` will not do:
for an sdist it prepares metadata, which needs the build requirements of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from patchset.node.errors import Unavailable
from patchset.sets.setfile import Artifact
from patchset.system import disk, paths
from patchset.system.terminal import Terminal

if TYPE_CHECKING:  # half a second, which a command without the network does not pay
    import requests
    from pypi_simple import DistributionPackage

_TIMEOUT_S = 60
_CHUNK = 1 << 16
_VARIABLES = {
    "index-url": ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL"),
    "extra-index-url": ("PIP_EXTRA_INDEX_URL",),
    "find-links": ("PIP_FIND_LINKS",),
    "cert": ("PIP_CERT",),
    "trusted-host": ("PIP_TRUSTED_HOST",),
}
T = TypeVar("T")

_HINT = "check the network and pip's index settings (pip config list)"


def settings() -> dict[str, list[str]]:
    """pip's settings that say where packages come from, keys as in pip.conf; the environment wins over the files."""
    asked = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    return parse_settings(subprocess.run(asked, capture_output=True, text=True, check=False).stdout, os.environ)


def parse_settings(listing: str, environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Reads the output of `pip config list` and the environment.

    >>> parse_settings("global.index-url='https://a.example/simple'", {})
    {'index-url': ['https://a.example/simple']}
    >>> parse_settings("global.index-url='https://a.example/simple'", {"PIP_INDEX_URL": "https://b.example/simple"})
    {'index-url': ['https://b.example/simple']}
    """
    found: dict[str, list[str]] = {}
    for section in ("global", "download"):
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                found[name.removeprefix(f"{section}.")] = value.strip("'\"").replace("\\n", " ").split()
    for key, variables in _VARIABLES.items():
        for variable in variables:
            if environ.get(variable):
                found[key] = environ[variable].split()
    return {key: found[key] for key in _VARIABLES if found.get(key)}


def without_secrets(url: str) -> str:
    """A URL as it may be shown: no user, no password, no query.

    >>> without_secrets("https://user:secret@index.example/simple?token=1")
    'https://index.example/simple'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def download(artifact: Artifact, destination: Path, terminal: Terminal | None) -> None:
    """Writes the file that an index lists by that name, unchecked; raises Unavailable, which says why of each."""
    configured = settings()
    for folder in configured.get("find-links", []):
        local = paths.of_url(folder) if folder.startswith("file:") else Path(folder)
        if (local / artifact.file).is_file():
            shutil.copyfile(local / artifact.file, destination)
            return

    _first(
        configured, artifact, "gave", lambda session, url: _fetch(session, url, destination, artifact.file, terminal)
    )


def find(artifact: Artifact) -> str:
    """The first index that lists the artifact, as it may be shown; raises Unavailable, which says why of each."""
    return _first(settings(), artifact, "lists", lambda *_: None)


def listing(project: str) -> list[DistributionPackage]:
    """A project's files on all indexes, the first of a name; raises Unavailable, which says why of each."""
    found: dict[str, DistributionPackage] = {}
    failures: list[str] = []
    for _, packages in _answers(settings(), project, project, lambda _, packages: packages or None, failures):
        for package in packages:
            if package.version and package.package_type in ("sdist", "wheel"):
                found.setdefault(package.filename, package)
    if not found:
        raise Unavailable(f"no index lists {project}\n  " + "\n  ".join(failures), hint=_HINT)
    return list(found.values())


def _first(
    configured: Mapping[str, list[str]], artifact: Artifact, verb: str, use: Callable[[requests.Session, str], None]
) -> str:
    """The first index with the artifact whose URL can be used, as it may be shown; raises Unavailable."""
    failures: list[str] = []

    def ask(session: requests.Session, packages: Sequence[DistributionPackage]) -> str | None:
        url = next((package.url for package in packages if package.filename == artifact.file), None)
        if url is not None:
            use(session, url)
        return url

    for index, _ in _answers(configured, artifact.project, artifact.file, ask, failures):
        return without_secrets(index)
    raise Unavailable(f"no index {verb} {artifact.file}\n  " + "\n  ".join(failures), hint=_HINT)


def _answers(
    configured: Mapping[str, list[str]],
    project: str,
    what: str,
    ask: Callable[[requests.Session, Sequence[DistributionPackage]], T | None],
    failures: list[str],
) -> Iterator[tuple[str, T]]:
    """The configured indexes that have an answer, in their order, each with it. `ask` is given what an index lists of
    the project, and returns None where that has no `what`. `failures` gets a line for each index that does not answer,
    or that does not have it."""
    import requests
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    indexes = [*configured.get("index-url", [PYPI_SIMPLE_ENDPOINT])[:1], *configured.get("extra-index-url", [])]
    with _session(configured) as session:
        for index in indexes:
            try:
                answer = ask(session, _listed(session, index, project))
            except (requests.RequestException, OSError) as error:
                failures.append(f"{without_secrets(index)}: {_reason(error)}")
                continue
            if answer is None:
                failures.append(f"{without_secrets(index)}: has no {what}")
            else:
                yield index, answer


def may_ask(url: str, trusted: Sequence[str] = ()) -> bool:
    """Whether a URL may be asked: https, this machine, or what pip's trusted-host names (host, or host:port).

    >>> [may_ask(url) for url in ("https://a.example/", "http://a.example/", "http://127.0.0.1:80/", "ftp://a.example/")]
    [True, False, True, False]
    >>> may_ask("http://a.example:8080/simple", ["a.example:8080"]), may_ask("http://a.example/simple", ["b.example"])
    (True, False)
    """
    parts = urlsplit(url)
    named = {parts.hostname, f"{parts.hostname}:{parts.port}"} & set(trusted)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme == "https" or (parts.scheme == "http" and (local or bool(named)))


def _session(configured: Mapping[str, list[str]]) -> requests.Session:
    """A session that sends nothing in the clear, redirects included, but to this machine and to pip's trusted hosts."""
    import requests
    import truststore
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    class Session(requests.Session):
        def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            if not may_ask(request.url or "", configured.get("trusted-host", [])):
                raise requests.exceptions.InvalidSchema("not asked: it is not https, and not among pip's trusted hosts")
            return super().send(request, **options)

    truststore.inject_into_ssl()
    session = Session()
    session.headers["User-Agent"] = "patchset"
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=Retry(3, backoff_factor=0.5, status_forcelist=(502, 503, 504))))
    if cert := configured.get("cert"):
        session.verify = cert[0]
    return session


def _listed(session: requests.Session, index: str, project: str) -> Sequence[DistributionPackage]:
    """What one index lists of a project; nothing where it does not know it."""
    from pypi_simple import NoSuchProjectError, ProjectPage, PyPISimple, UnsupportedContentTypeError

    if index.startswith("file:"):
        page = paths.of_url(index) / project / "index.html"
        if not page.is_file():
            return []
        return ProjectPage.from_html(project, page.read_text(encoding="utf-8"), page.as_uri()).packages
    try:
        return PyPISimple(index, session=session).get_project_page(project, timeout=_TIMEOUT_S).packages
    except NoSuchProjectError:
        return []
    except UnsupportedContentTypeError as error:
        raise OSError(f"does not answer as a package index ({error})") from error


def _fetch(session: requests.Session, url: str, destination: Path, name: str, terminal: Terminal | None) -> None:
    url = url.partition("#")[0]
    if url.startswith("file:"):
        shutil.copyfile(paths.of_url(url), destination)
        return
    with ExitStack() as stack:
        response = stack.enter_context(session.get(url, stream=True, timeout=_TIMEOUT_S))
        response.raise_for_status()
        size = int(response.headers.get("Content-Length", 0))
        advance = stack.enter_context(terminal.progress(f"fetching {name}", size)) if terminal else None
        stack.enter_context(disk.naming(destination))
        file = stack.enter_context(destination.open("wb"))
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            if advance:
                advance(len(chunk))


def _reason(error: Exception) -> str:
    """One line on why a request failed, without the URL's secrets."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted by this system"
    if isinstance(error, requests.Timeout):
        return f"no answer in {_TIMEOUT_S} s"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
