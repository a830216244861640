"""The socket of the double's lvmlockd, where it answers greetings while it runs."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ANSWER = b'response = "OK"\nresult = 0\nprotocol = "lvmlockd"\nversion = 1\n\n##\n'


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def lvmlockd(address: Path, runs: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Have it answer at a path, which may be some 100 characters long, while `runs` says so."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if runs() and self.rfile.readline() == b'request = "hello"\n':
                self.wfile.write(ANSWER)

    address.parent.mkdir(parents=True, exist_ok=True)
    with _Server(str(address), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
