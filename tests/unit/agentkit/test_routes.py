import asyncio
import socket
import time
from types import SimpleNamespace

from aiohttp import web

from agentkit.events import EventHub
from agentkit.journal import Journal
from agentkit.routes import Routes, only
from agentkit.tasks import TaskDesk
from agentkit.wire import Command, EventKind, Wire


class Nothing(Wire):
    pass


class Rest(Command[Nothing], tag="rest"):
    pass


async def rest(_context, _command):
    return Nothing()


async def hello():
    return {"agent": "sample"}


async def faulty_hello():
    raise NotImplementedError


async def serve(routes):
    runner = web.AppRunner(routes.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, runner.addresses[0][1]


async def until(condition, limit_s=60):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.01)


async def test_a_reader_that_does_not_read_is_cut_off(tmp_path, caplog):
    hub, journal = EventHub("i", ring_bytes=100_000_000), Journal(tmp_path)
    desk = TaskDesk(journal, hub, None, {Rest: rest})
    agent = SimpleNamespace(desk=desk, hub=hub, hello=hello)
    runner, port = await serve(Routes(only(agent), stream_write_timeout_s=0.2))
    for _ in range(200):
        hub.publish(EventKind.DEVICE, "x" * 100_000)
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.sendall(b"GET /v1/events?instance=i&since=0 HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: "its reader does not read" in caplog.text)
        await until(lambda: not runner.server.connections)
    await runner.cleanup()
    journal.close()


async def test_a_fault_is_answered_without_its_traceback(tmp_path, caplog):
    hub, journal = EventHub("i"), Journal(tmp_path)
    desk = TaskDesk(journal, hub, None, {Rest: rest})
    runner, port = await serve(Routes(only(SimpleNamespace(desk=desk, hub=hub, hello=faulty_hello))))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/hello HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert b"500 Internal Server Error" in answer
    assert b'"code":"SYS.1000"' in answer
    assert b"Traceback" not in answer
    assert "NotImplementedError" in caplog.text
    await runner.cleanup()
    journal.close()


async def test_a_reader_that_has_gone_before_the_stream_begins_is_no_fault(tmp_path, caplog):
    caplog.set_level("DEBUG")
    hub, journal, asked, gone = EventHub("i"), Journal(tmp_path), asyncio.Event(), asyncio.Event()

    async def late_hello():
        asked.set()
        await gone.wait()
        return {"agent": "sample"}

    desk = TaskDesk(journal, hub, None, {Rest: rest})
    runner, port = await serve(Routes(only(SimpleNamespace(desk=desk, hub=hub, hello=late_hello))))
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
        await asked.wait()
    await until(lambda: all(each.transport is None for each in runner.server.connections))
    gone.set()
    await until(lambda: "event stream closed by its reader" in caplog.text)
    await runner.cleanup()
    assert "Error handling request" not in caplog.text
    journal.close()
