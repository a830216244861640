from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import Connection, Row, select

from mn.db.engine import Database
from mn.db.open import open_database
from mn.db.schema import metadata, new_uuid
from mn.db.vault import Vault
from mn.jobs.hooks import Hook
from mn.jobs.journal import Finished, NewJob, apply_records
from mn.jobs.tables import HookState, hook_table
from mn.rest.webhooks import SEALED_FOR, WebHooks, backoff_s
from mn.settings import Settings


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    db = open_database("", tmp_path / "db")
    db.prepare(metadata.create_all)
    db.start()
    yield db
    db.close()


class Outbox:
    """An outbox with a receiver on loopback that counts its calls."""

    def __init__(self, db: Database, state: Path) -> None:
        self.db = db
        self.vault = Vault.open_file(state / "key")
        self.settings = Settings(state_dir=state, web_hook_retry_s=0.02, web_hook_retry_max_s=0.05)
        self.hooks = WebHooks(db, self.vault, self.settings)
        self.calls: list[str] = []
        self.server = TestServer(web.Application())

    async def receive(self, request: web.Request) -> web.Response:
        self.calls.append(request.headers["X-Job-UUID"])
        return web.Response()

    async def add(self, url: str, *, from_loopback: bool) -> str:
        job = new_uuid()
        hook = Hook(self.vault.seal(url, SEALED_FOR), "receiver", from_loopback)
        records = [NewJob(job, "X", "{}", "d", "[]", 0, ()), Finished(job, "{}", None, hook)]
        for record in records:
            await self.db.write(apply_records, [record])
        self.hooks.wake()
        return job

    async def until(self, job: str, holds: Callable[[Row[Any]], bool]) -> Row[Any]:
        async with asyncio.timeout(60):
            while True:
                row = await self.db.read(_row, job)
                if holds(row):
                    return row
                await asyncio.sleep(0.01)


def _row(connection: Connection, job: str) -> Row[Any]:
    return connection.execute(select(hook_table).where(hook_table.c.job_uuid == job)).one()


@pytest.fixture
async def outbox(db: Database, tmp_path: Path) -> AsyncIterator[Outbox]:
    made = Outbox(db, tmp_path)
    made.server.app.router.add_post("/hook", made.receive)
    await made.server.start_server()
    await made.hooks.start()
    yield made
    await made.hooks.stop()
    await made.server.close()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name be these addresses, one after another."""
    left = list(addresses)

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_a_name_that_stands_for_loopback_is_not_called(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    url = f"http://rebound.example:{outbox.server.port}/hook"
    job = await outbox.add(url, from_loopback=False)
    row = await outbox.until(job, lambda row: row.attempts >= 2)
    assert row.state == HookState.PENDING
    assert not outbox.calls


async def test_a_name_is_resolved_anew_for_each_attempt_and_each_answer_is_looked_at(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "169.254.169.254", "127.0.0.1", "169.254.169.254")
    url = f"http://rebound.example:{outbox.server.port}/hook"
    job = await outbox.add(url, from_loopback=False)
    await outbox.until(job, lambda row: row.attempts >= 4)
    assert not outbox.calls


async def test_loopback_is_called_for_a_request_from_loopback(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    job = await outbox.add(f"http://self.example:{outbox.server.port}/hook", from_loopback=True)
    await outbox.until(job, lambda row: row.state == HookState.DELIVERED)
    assert outbox.calls == [job]


async def test_an_address_is_looked_at_when_it_is_connected_to_whatever_was_accepted_before(
    outbox: Outbox,
) -> None:
    job = await outbox.add(f"http://127.0.0.1:{outbox.server.port}/hook", from_loopback=False)
    await outbox.until(job, lambda row: row.attempts >= 1)
    assert not outbox.calls


def test_the_wait_doubles_with_jitter_up_to_the_longest() -> None:
    for attempts, longest in ((0, 1.0), (1, 2.0), (5, 32.0), (9, 300.0), (10_000, 300.0)):
        waits = [backoff_s(attempts, 1.0, 300.0) for _ in range(200)]
        assert all(longest / 2 <= w <= longest for w in waits)
        assert len({round(w, 6) for w in waits}) > 100
