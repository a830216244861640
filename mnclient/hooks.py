"""The receiver of web hooks: a small HTTP server in a thread, to which the node posts the results of jobs."""

from __future__ import annotations

import json
import secrets
import threading
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from mnclient.protocol import Answer, Hook

STOP_POLL_S = 0.1
"""So long `close` takes at most."""
BODY_MAX_BYTES = 64 * 1024 * 1024


class HookReceiver:
    """Listens at `url` (its port 0: any free one, no path: one that nobody can guess)."""

    def __init__(self, url: str = "http://127.0.0.1:0") -> None:
        where = urlsplit(url)
        self._path = where.path.rstrip("/") or f"/{secrets.token_urlsafe(16)}"
        self._waiting: WeakValueDictionary[str, Future[Answer]] = WeakValueDictionary()
        self._server = _Server((where.hostname or "127.0.0.1", where.port or 0), _Handler)
        self._server.receiver = self
        host = f"[{where.hostname}]" if ":" in (where.hostname or "") else where.hostname
        self.url = f"http://{host}:{self._server.server_port}{self._path}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_POLL_S,), daemon=True, name="web hooks"
        )
        self._thread.start()

    @property
    def hook(self) -> Hook:
        """What a conversation needs of it."""
        return Hook(self.url, self.expect)

    def expect(self, job_uuid: str) -> Future[Answer]:
        """Return the delivery to come of a job; it is forgotten with the last reference to it."""
        delivery: Future[Answer] = Future()
        self._waiting[job_uuid] = delivery
        return delivery

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def deliver(self, path: str, job_uuid: str, success: str, body: bytes) -> int:
        """Take a delivery and return the HTTP status to answer; a second one of the same job does
        nothing.
        """
        if path.rstrip("/") != self._path:
            return 404
        try:
            answer = Answer(200 if success.lower() == "true" else 503, {}, json.loads(body or b"{}"))
        except ValueError:
            return 400
        delivery = self._waiting.pop(job_uuid, None)
        if delivery is not None and not delivery.done():
            delivery.set_result(answer)
        return 200


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: HookReceiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > BODY_MAX_BYTES:
            self.send_error(413)
            return
        status = self.server.receiver.deliver(
            self.path,
            self.headers.get("X-Job-UUID", ""),
            self.headers.get("X-Job-Success", "false"),
            self.rfile.read(int(length)),
        )
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""
