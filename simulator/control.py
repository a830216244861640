"""The simulator's control socket: one JSON document a line, asked and answered in turn.

- `{"do": "serve", "host": UUID}`: serve the host whose folder is in place
- `{"do": "drop", "host": UUID}`: serve it no more
- `{"do": "lose", "count": N, "hosts": [UUID...], "silently": false}` -> `{"hosts": [UUID...]}`
- `{"do": "recover"}` -> `{"hosts": [UUID...]}`
- `{"do": "count"}` -> `{"up": N, "dead": N, "silent": N, "connections": N}`

An error is answered with `{"error": ErrorBody}`. Who may open the socket may do all of it: its folder is the
owner's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from agentkit.errors import Blame, ErrorBody, HardpointError

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 60.0


class Order(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What can be asked for."""

    do: Literal["serve", "drop", "lose", "recover", "count"]
    host: str = ""
    count: int = 0
    hosts: list[str] = []
    silently: bool = False


class Fleet(Protocol):
    """What is controlled."""

    def serve(self, uuid: str) -> None:
        """Serve a host."""

    async def drop(self, uuid: str) -> None:
        """Serve it no more."""

    async def lose(self, count: int, uuids: Collection[str], *, silently: bool) -> list[str]:
        """Let hosts die or fall silent."""
        ...

    def recover(self) -> list[str]:
        """Bring all back."""
        ...

    def counts(self) -> dict[str, int]:
        """Return hosts by state."""
        ...


class Control:
    """Listens on the socket and does what is asked."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._server: asyncio.Server | None = None
        self._callers: set[asyncio.StreamWriter] = set()

    async def start(self, path: Path) -> None:
        """Listen."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 of the run before
        with _short(path) as name:
            self._server = await asyncio.start_unix_server(self._answer, name)

    async def stop(self) -> None:
        """Hang up."""
        if self._server is not None:
            self._server.close()
        for writer in self._callers:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._callers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._do(line)) + b"\n")
                await writer.drain()
        except ConnectionError:
            log.debug("a caller of the control socket hung up")
        finally:
            self._callers.discard(writer)
            writer.close()

    async def _do(self, line: bytes) -> dict[str, Any]:
        try:
            return await self._obey(msgspec.json.decode(line, type=Order))
        except HardpointError as error:
            return {"error": error.to_body()}
        except msgspec.DecodeError as error:
            remedy = "see simulator/control.py for what can be asked"
            refusal = HardpointError(
                "SYS.1007", "Invalid argument", f"no order: {error}", remedy=remedy, blame=Blame.CALLER
            )
            return {"error": refusal.to_body()}

    async def _obey(self, order: Order) -> dict[str, Any]:
        fleet = self._fleet
        match order.do:
            case "serve":
                fleet.serve(order.host)
            case "drop":
                await fleet.drop(order.host)
            case "lose":
                return {"hosts": await fleet.lose(order.count, order.hosts, silently=order.silently)}
            case "recover":
                return {"hosts": fleet.recover()}
            case "count":
                return dict(fleet.counts())
        return {}


async def ask(path: Path, order: Order) -> dict[str, Any]:
    """Have a running simulator do something; return its answer.

    Raises HardpointError: SYS.1003 when none runs, and what the simulator refuses.
    """
    try:
        with _short(path) as name:
            reader, writer = await asyncio.open_unix_connection(name)
    except OSError as error:
        raise HardpointError(
            "SYS.1003",
            "Resource not found",
            f"no simulator answers at {path}: {error.strerror}",
            remedy="start a simulated fleet with `hardpoint simulate`",
            blame=Blame.CALLER,
        ) from error
    try:
        writer.write(msgspec.json.encode(order) + b"\n")
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer: dict[str, Any] = msgspec.json.decode(await reader.readline())
    finally:
        writer.close()
    if "error" in answer:
        raise HardpointError.from_body(msgspec.convert(answer["error"], ErrorBody))
    return answer


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a name for a socket that fits into its 108 bytes, however deep its folder is."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
