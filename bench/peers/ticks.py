"""The least that a reader of ticks can be: bare asyncio streams over mutual TLS, one to each simulated host.

Reads a line of JSON, `{"addresses": [...], "port": N, "tick": S}`, connects to all and answers with the
seconds until each had said something; from then on it reads, and answers `{}` with the ticks so far.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from agentkit.limits import raise_open_files
from agentkit.tls import client_context, lower_read_buffer

DIALS = 128


class Reader:
    """Reads all streams."""

    def __init__(self, certificate: Path, key: Path, ca: Path) -> None:
        self._context = client_context(certificate, key, ca)
        self._turns = asyncio.Semaphore(DIALS)
        self._tasks: list[asyncio.Task[None]] = []
        self._connected = 0
        self._all = asyncio.Event()
        self.ticks = 0

    async def connect(self, addresses: list[str], port: int, tick_s: float) -> float:
        """Connect to all and return the seconds that it took."""
        begun = time.monotonic()
        self._tasks = [asyncio.create_task(self._read(a, port, tick_s, len(addresses))) for a in addresses]
        ended = asyncio.gather(*self._tasks)
        await asyncio.wait({ended, asyncio.ensure_future(self._all.wait())}, return_when="FIRST_COMPLETED")
        return time.monotonic() - begun

    async def _read(self, address: str, port: int, tick_s: float, of: int) -> None:
        async with self._turns:
            reader, writer = await asyncio.open_connection(
                address, port, ssl=self._context, server_hostname=address, limit=2**14
            )
            writer.write(f"GET /v1/events?tick={tick_s:g} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            await reader.readuntil(b"}\n")
        self._connected += 1
        if self._connected == of:
            self._all.set()
        while True:
            await reader.readuntil(b"}\n")
            self.ticks += 1


async def main(files: list[str]) -> None:
    raise_open_files()
    lower_read_buffer()
    reader = Reader(*map(Path, files))
    while line := await asyncio.to_thread(sys.stdin.readline):
        question: dict[str, Any] = json.loads(line)
        if question:
            taken = await reader.connect(question["addresses"], question["port"], question["tick"])
            print(json.dumps({"connected_s": taken}), flush=True)
        else:
            print(json.dumps({"ticks": reader.ticks}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
