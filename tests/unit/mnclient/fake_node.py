"""A stand-in for a management node, for what a real one cannot be made to do at will: break off, be of
another version, lose a delivery.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


Reply = tuple[int, Any, dict[str, str]]
Script = Callable[[Received], Reply | None]
"""Returns status, body (JSON, or bytes as they are) and headers; None: close without an answer.

With `Connection: close` and a `Content-Length` that is greater than the body, the node breaks off.
"""


@dataclass
class FakeNode:
    script: Script
    received: list[Received] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, part: str = "") -> int:
        return sum(r.method == method and part in r.path for r in self.received)


@contextmanager
def fake_node(script: Script) -> Iterator[FakeNode]:
    node = FakeNode(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {k.lower(): v for k, v in self.headers.items()}
            received = Received(self.command, self.path, headers, json.loads(raw) if raw else None)
            node.received.append(received)
            reply = node.script(received)
            if reply is None:
                self.close_connection = True
                self.connection.close()
                return
            status, body, more = reply
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **more}.items():
                self.send_header(name, value)
            with suppress(OSError):  # the client may have gone
                self.end_headers()
                self.wfile.write(data)

        do_GET = _answer  # noqa: N815
        do_POST = _answer  # noqa: N815
        do_PUT = _answer  # noqa: N815
        do_DELETE = _answer  # noqa: N815

        def log_message(self, *_arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    node.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield node
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def deliver(received: Received, body: Any, *, success: bool) -> None:
    """Post a job's result to the hook of a request, as the manual's 3.8 prints it."""
    headers = {"X-Job-UUID": received.headers["x-job-uuid"], "X-Job-Success": str(success).lower()}
    url = received.headers["x-web-hook"]
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status == 200
