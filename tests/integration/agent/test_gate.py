import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from agentkit.errors import HardpointError
from agentkit.gate import Gate, RefusalLog
from agentkit.tls import client_context, server_context

REASONS = {
    None: "the peer showed no client certificate",
    "foreign": "the peer's certificate is of another CA than the one this agent trusts",
    "expired": "the peer's certificate has expired",
}


def knock(agent, name):
    """Connect like a client with certificate `name` and send a request; True when it was answered."""
    context = ssl.create_default_context(cafile=agent.pki.ca_file)
    if name is not None:
        context.load_cert_chain(agent.pki.directory / f"{name}.pem", agent.pki.directory / f"{name}.key")
    request = b"GET /v1/hello HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", agent.ready["port"]), timeout=60) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
                tls.sendall(request)
                return tls.recv(1000).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


def refusals(agent):
    return [line["reason"] for line in agent.logged("connection refused")]


@pytest.mark.parametrize("name", REASONS)
async def test_a_peer_without_proper_certificate_is_refused_and_logged_once(agent, name, wait_until):
    for _ in range(5):
        assert not await asyncio.to_thread(knock, agent, name)
    assert await asyncio.to_thread(knock, agent, "client")
    await wait_until(lambda: refusals(agent), "refusal logged")
    agent.terminate()
    assert agent.exit_code() == 0
    assert refusals(agent) == [REASONS[name]]
    assert not [line for line in agent.lines if "Traceback" in line]


async def test_each_reason_of_one_peer_is_logged(agent, wait_until):
    for name in [*REASONS, *REASONS]:
        assert not await asyncio.to_thread(knock, agent, name)
    await wait_until(lambda: len(refusals(agent)) == 3, "three reasons")
    assert set(refusals(agent)) == set(REASONS.values())


async def test_a_peer_that_speaks_no_tls_is_refused(agent, wait_until):
    for words in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-Nmap\r\n"):
        with socket.create_connection(("127.0.0.1", agent.ready["port"]), timeout=60) as raw:
            raw.sendall(words)
            with contextlib.suppress(ConnectionError):
                await asyncio.to_thread(raw.recv, 100)
    await wait_until(lambda: len(refusals(agent)) == 2, "both refused")
    assert refusals(agent) == ["the peer speaks plain HTTP, not TLS", "the peer does not speak TLS"]


@contextlib.asynccontextmanager
async def gate(pki, **options):
    async def handle(request):
        return web.Response(text=(await request.read()).decode())

    server = web.Server(handle, access_log=None)
    made = Gate(
        server,
        server_context(pki.directory / "server.pem", pki.directory / "server.key", pki.ca_file),
        **options,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    made.start(listener)
    yield made, port
    await made.close()
    await server.shutdown(1)


async def test_a_request_sent_together_with_the_end_of_the_handshake_is_not_lost(pki):
    async with gate(pki) as (_, port):
        for _ in range(30):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=pki.client(), server_hostname="127.0.0.1"
            )
            writer.write(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
            assert (await asyncio.wait_for(reader.read(), 60)).endswith(b"\r\n\r\nhi")
            writer.close()


async def test_a_silent_peer_is_dropped_after_the_handshake_time(pki, caplog):
    async with gate(pki, handshake_timeout_s=0.1) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
    assert [record.reason for record in caplog.records] == [
        "the peer did not finish the TLS handshake in time"
    ]


async def test_connections_are_bounded_and_room_is_made_when_one_leaves(pki, wait_until):
    async with gate(pki, connections_max=2) as (made, port):
        first = await asyncio.open_connection(
            "127.0.0.1", port, ssl=pki.client(), server_hostname="127.0.0.1"
        )
        second = await asyncio.open_connection(
            "127.0.0.1", port, ssl=pki.client(), server_hostname="127.0.0.1"
        )
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port, ssl=pki.client(), server_hostname="127.0.0.1")
        assert made.connections == 2
        first[1].close()
        await wait_until(lambda: made.connections == 1, "one left")
        third = await asyncio.open_connection(
            "127.0.0.1", port, ssl=pki.client(), server_hostname="127.0.0.1"
        )
        third[1].close()
        second[1].close()


def test_the_refusal_log_is_bounded_and_speaks_again_after_the_window(caplog):
    now = [0.0]
    refusals = RefusalLog(window_s=600, clock=lambda: now[0])
    for number in range(1000):
        refusals.refused(f"10.0.{number // 250}.{number % 250}", "no certificate")
    assert len(caplog.records) == 257
    caplog.clear()
    now[0] = 601.0
    refusals.refused("10.0.0.0", "no certificate")
    assert [record.peer for record in caplog.records if record.levelname == "WARNING"] == ["10.0.0.0"]


def test_a_missing_a_foreign_and_a_nonsense_file_are_named(pki, tmp_path):
    certificate, key = pki.directory / "server.pem", pki.directory / "server.key"
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("not a certificate")
    with pytest.raises(HardpointError, match=r"the key /nowhere/k cannot be read: No such file"):
        server_context(certificate, Path("/nowhere/k"), pki.ca_file)
    with pytest.raises(HardpointError, match=r"client\.key does not belong to the certificate .*server\.pem"):
        client_context(certificate, pki.directory / "client.key", pki.ca_file)
    with pytest.raises(HardpointError, match=r"nonsense\.pem and key .* cannot be used"):
        server_context(nonsense, key, pki.ca_file)
    with pytest.raises(HardpointError, match=r"CA certificate .*nonsense\.pem is not a PEM"):
        server_context(certificate, key, nonsense)
