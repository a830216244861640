"""Web hooks: the outbox is emptied by POSTs, each repeated until it is acknowledged or a day has passed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
import re
import socket
import ssl
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yarl
from sqlalchemy import Connection, Row, update

from agentkit.errors import Blame, HardpointError
from mn.db.engine import Database
from mn.db.vault import Vault
from mn.jobs.hooks import Hook, count_hooks, load_due, next_due, settle
from mn.jobs.job import decode_error
from mn.jobs.tables import HookState, hook_table
from mn.rest.addresses import refusal
from mn.rest.envelope import JSON, error_code
from mn.settings import Settings

log = logging.getLogger(__name__)

HEADER = "X-Web-Hook"
URL_LENGTH = 2048
SEALED_FOR = "URL of a web hook"
FAULT_PAUSE_S = 1.0
"""Pause of a hook whose attempt could not be written down."""
FAILING_MAX = 10_000

_PRINTABLE = re.compile(r"[!-~]+")
_NUMBER_LAST = re.compile(r"(^|\.)(\d+|0[xX][0-9a-fA-F]*)\.?$", re.ASCII)
"""Hosts such as 127.1 and 0x7f.1, which some resolvers take for addresses."""


def read_hook(text: str, vault: Vault, settings: Settings, *, from_loopback: bool) -> Hook:
    """Return the web hook of a request. Raises HardpointError (SYS.1007) for a URL that cannot be called."""
    if len(text) > URL_LENGTH:
        raise _bad(text, f"it is longer than {URL_LENGTH} characters")
    if not _PRINTABLE.fullmatch(text):
        raise _bad(text, "it has characters that a URL has not")
    try:
        url = yarl.URL(text, encoded=True)
        host, port = url.host, url.port
    except ValueError as error:
        raise _bad(text, str(error)) from error
    if url.scheme not in ("http", "https"):
        raise _bad(text, f"its scheme is '{url.scheme}'")
    if not host or not port:
        raise _bad(text, "it names no host")
    if host.rstrip(".").lower() == "localhost":
        host = "127.0.0.1"
    try:
        reason = refusal(host, settings.web_hook_networks, from_loopback=from_loopback)
    except ValueError:  # a name: what it stands for is looked at when it is called
        reason = "its host ends in a number and is no address" if _NUMBER_LAST.search(host) else None
    if reason:
        raise _bad(text, reason)
    receiver = f"{url.scheme}://{url.host}:{port}"
    return Hook(vault.seal(str(url.with_fragment(None)), SEALED_FOR), receiver.lower()[:320], from_loopback)


def _bad(text: str, reason: str) -> HardpointError:
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"the {HEADER} header '{text[:80]}' is refused: {reason}",
        remedy="give a URL such as http://receiver.example:5000/api-callback",
        blame=Blame.CALLER,
    )


class WebHooks:
    """Sends what is due, a few at a time to each receiver; a receiver that fails gets one at a time."""

    def __init__(self, db: Database, vault: Vault, settings: Settings) -> None:
        self._db = db
        self._vault = vault
        self._settings = settings
        self._woken = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sending: Counter[str] = Counter()
        self._failing: set[str] = set()
        self._loop: asyncio.Task[None] | None = None
        self._clients: dict[bool, aiohttp.ClientSession] = {}

    async def start(self) -> None:
        """Begin with what an earlier process left. Raises HardpointError when web_hook_ca cannot be read."""
        context = _trust(self._settings.web_hook_ca)
        self._clients = {local: self._client(context, from_loopback=local) for local in (False, True)}
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leave what is not acknowledged in the outbox."""
        tasks = [*self._tasks.values(), *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients.values():
            await client.close()

    def wake(self) -> None:
        """Look at the outbox now."""
        self._woken.set()

    async def counts(self) -> dict[str, int]:
        """Return the number of web hooks by state."""
        return await self._db.read(count_hooks)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                wait_s = await self._launch()
            except Exception:
                log.exception("the outbox of web hooks cannot be read, it is tried again")
                wait_s = FAULT_PAUSE_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()

    async def _launch(self) -> float | None:
        """Begin what is due and has room; return the seconds until something else is, None: on a wake."""
        free = self._settings.web_hooks_at_once - len(self._tasks)
        if free <= 0:
            return None
        each = self._settings.web_hooks_at_once_per_receiver
        rows = await self._db.read(load_due, time.time(), free, each, [*self._tasks], self._full())
        for row in rows:
            if self._sending[row.receiver] < self._room(row.receiver):
                self._sending[row.receiver] += 1
                self._tasks[row.job_uuid] = asyncio.create_task(self._deliver(row))
        if len(self._tasks) >= self._settings.web_hooks_at_once:
            return None
        due = await self._db.read(next_due, [*self._tasks], self._full())
        return None if due is None else max(due - time.time(), 0.005)

    def _room(self, receiver: str) -> int:
        return 1 if receiver in self._failing else self._settings.web_hooks_at_once_per_receiver

    def _full(self) -> list[str]:
        return [receiver for receiver, count in self._sending.items() if count >= self._room(receiver)]

    async def _deliver(self, row: Row[Any]) -> None:
        try:
            await self._attempt(row)
        except Exception:
            log.exception("an attempt of a web hook could not be written down", extra={"job": row.job_uuid})
            await asyncio.sleep(FAULT_PAUSE_S)
        finally:
            self._tasks.pop(row.job_uuid, None)
            self._sending[row.receiver] -= 1
            if not self._sending[row.receiver]:
                del self._sending[row.receiver]
            self.wake()

    async def _attempt(self, row: Row[Any]) -> None:
        fault = await self._post(row)
        now = time.time()
        said = {"job": row.job_uuid, "receiver": row.receiver, "attempt": row.attempts + 1, "fault": fault}
        if fault is None:
            recovered = row.receiver in self._failing
            self._failing.discard(row.receiver)
            await self._db.write(settle, row.job_uuid, HookState.DELIVERED, now)
            if recovered:
                await self._db.write(hasten, row.receiver, now)
            return
        if len(self._failing) >= FAILING_MAX:
            self._failing.clear()
        self._failing.add(row.receiver)
        if now - row.create_date >= self._settings.web_hook_give_up_s:
            log.error("web hook given up", extra=said)
            await self._db.write(settle, row.job_uuid, HookState.GIVEN_UP, now)
            return
        log.info("web hook not acknowledged, it is tried again", extra=said)
        wait_s = backoff_s(row.attempts, self._settings.web_hook_retry_s, self._settings.web_hook_retry_max_s)
        await self._db.write(settle, row.job_uuid, HookState.PENDING, now + wait_s)

    async def _post(self, row: Row[Any]) -> str | None:
        """Send one; return None when it is acknowledged, else what went wrong."""
        headers = {
            "Content-Type": f"{JSON}; charset=utf-8",
            "X-Job-UUID": row.job_uuid,
            "X-Job-Success": "false" if row.error is not None else "true",
        }
        try:
            url = yarl.URL(self._vault.open(row.url, SEALED_FOR), encoded=True)
            client = self._clients[row.from_loopback]
            async with client.post(
                url, data=hook_body(row), headers=headers, allow_redirects=False
            ) as answer:
                return None if 200 <= answer.status < 300 else f"it answered {answer.status}"
        except (aiohttp.ClientError, OSError, ValueError, HardpointError) as error:
            return str(error) or type(error).__name__

    def _client(self, context: ssl.SSLContext, *, from_loopback: bool) -> aiohttp.ClientSession:
        """Return a client that connects to addresses only that are allowed: the address is looked at when
        its socket is made, so a name may resolve to what it likes.
        """

        def guarded(info: tuple[Any, ...]) -> socket.socket:
            family, kind, protocol, _, where = info
            reason = refusal(where[0], self._settings.web_hook_networks, from_loopback=from_loopback)
            if reason:
                raise PermissionError(errno.EACCES, f"{where[0]}: {reason}")
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            return made

        connector = aiohttp.TCPConnector(
            ssl=context, limit=0, force_close=True, use_dns_cache=False, socket_factory=guarded
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._settings.web_hook_timeout_s),
            headers={"User-Agent": "Hardpoint"},
        )


def _trust(authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"web_hook_ca {authorities} cannot be used: {error}",
            remedy="name a PEM file of certificates that this user can read, or leave it out",
        ) from error


def hook_body(row: Row[Any]) -> bytes:
    """Return what a poll of the hook's job answers."""
    if row.error is not None:
        return msgspec.json.encode({"error": error_code(decode_error(row.error))})
    return (row.result or "{}").encode()


def backoff_s(attempts: int, first_s: float, longest_s: float) -> float:
    """Return the seconds to the next attempt: doubled each time, drawn from the upper half so that
    hooks of one moment part.
    """
    longest = min(first_s * 2.0 ** min(attempts, 60), longest_s)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def hasten(connection: Connection, receiver: str, now: float) -> None:
    """Make the waiting hooks of a receiver that answers again due."""
    waiting = (hook_table.c.receiver == receiver) & (hook_table.c.state == HookState.PENDING)
    connection.execute(update(hook_table).where(waiting, hook_table.c.due > now).values(due=now))
