# SPDX-License-Identifier: Apache-2.0
"""Which of two API servers on one port is called, where the system shares out their connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from survey import space
from survey.customer import Customer
from survey.deployment import Deployment


class ApiServers(ThreadingHTTPServer):
    """As many as there are connections, each with a profiler; ``refused`` are stops of one that is not on."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.called: list[str] = []
        self.refused: list[str] = []


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServers
    profiles = False

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"] or 0)
        asked: dict[str, Any] = json.loads(self.rfile.read(size) or b"{}")
        self.server.called.append(self.path)
        if self.path == "/stop_profile" and not self.profiles:
            self.server.refused.append(self.path)
        self.profiles = self.path == "/start_profile"
        tokens = [f"t{number}" for number in range(asked.get("max_tokens", 0))]
        answer = json.dumps(
            {"choices": [{"text": " ".join(tokens), "logprobs": None, "finish_reason": "length"}]}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[ApiServers]:
    with ApiServers() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_the_api_server_that_started_its_profiler_is_the_one_that_stops_it(servers: ApiServers, tmp_path: Path) -> None:
    (tmp_path / "expected.json").write_text("{}")
    settings = space.of_set("v0.11.0").parse("client=serve_two_apis,ask=profiled")
    customer = Customer(Deployment("patched", settings), tmp_path, [servers.server_port])
    assert customer.ask_all(lambda futures: [one.result() for one in wait(futures).done] and None, lambda: None) is None
    assert [path for path in servers.called if path.endswith("_profile")] == ["/start_profile", "/stop_profile"]
    assert servers.refused == []
