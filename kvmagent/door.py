"""The agent's second door: HTTPS for other agents, which show a token where `mn` shows a certificate."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from agentkit.files import write_durably
from agentkit.lean import web
from agentkit.place import listen
from agentkit.tls import ServerCredentials

_PORT_FILE = "transfer-port"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Door:
    """Opened when it is first needed. `port` 0: the last one if it is free, else any."""

    def __init__(self, directory: Path, credentials: ServerCredentials, address: str, port: int) -> None:
        self._directory = directory
        self._credentials = credentials
        self._address = address
        self._port = port
        self._opening = asyncio.Lock()
        self._handlers: dict[str, Handler] = {}
        self._listener: socket.socket | None = None
        self._runner: web.AppRunner | None = None

    def serve(self, path: str, handler: Handler) -> None:
        """Have GET requests of a path handled; to be called before the door is opened."""
        self._handlers[path] = handler

    async def open(self) -> int:
        """Open it unless it is open; returns the port. Raises HardpointError when it is taken."""
        async with self._opening:
            if self._listener is None:
                file = self._directory / _PORT_FILE
                last = int(file.read_text()) if file.exists() else None
                listener = listen(self._address, self._port, last)
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_durably(file, str(listener.getsockname()[1]).encode())
                application = web.Application()
                for path, handler in self._handlers.items():
                    application.router.add_get(path, handler)
                self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
                await self._runner.setup()
                context = self._credentials.open_context()
                await web.SockSite(self._runner, listener, ssl_context=context).start()
                self._listener = listener
            port: int = self._listener.getsockname()[1]
            return port

    async def run(self) -> None:
        """Close it when cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._runner is not None:
                await self._runner.cleanup()


def digest_of(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def shows(request: web.Request, digest: str) -> bool:
    """Say whether a request shows the token with a digest."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme == "Bearer" and hmac.compare_digest(digest_of(token), digest)
