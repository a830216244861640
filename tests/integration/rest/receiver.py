"""A receiver of web hooks on a port of this machine, that can be away and come back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Call:
    """A POST as it arrived; `at` in seconds of the monotonic clock."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def job(self) -> str:
        return self.headers["X-Job-UUID"]


@dataclass
class Receiver:
    """Keeps what it is sent. `status` gives the answer to a call."""

    status: Callable[[Call], int] = lambda _call: 200
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer_body: bytes = b""
    calls: list[Call] = field(default_factory=list)
    acknowledged: list[Call] = field(default_factory=list)
    port: int = 0
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def reserve(self) -> None:
        """Choose a port that nothing listens on."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def wait(self, until: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > deadline:
                pytest.fail(
                    f"not in {timeout_s:g} s; calls: {[(c.path, dict(c.headers)) for c in self.calls]}"
                )
            time.sleep(0.01)

    def _take(self, call: Call) -> int:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            status = self.status(call)
        finally:
            with self._lock:
                self._at_once -= 1
        with self._lock:
            self.calls.append(call)
            if 200 <= status < 300:
                self.acknowledged.append(call)
        return status

    def _handler(receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver._take(Call(self.path, dict(self.headers), body, time.monotonic()))
                self.send_response(status)
                for name, value in receiver.answer_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver.answer_body)))
                self.end_headers()
                self.wfile.write(receiver.answer_body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler
