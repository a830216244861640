"""Links of many hosts: hosts that do not answer are in nobody's way, and a loss is told once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

from agentkit.errors import HardpointError
from agentkit.wire import Event, EventKind
from mn.fleet import link
from mn.fleet.client import Endpoint, unreachable
from mn.fleet.link import HostLink, Pacing
from mn.fleet.stream import probed_socket

HASH = "0" * 64


class Agents:
    """Agents as the links see them: each answers, or hangs until it is let go."""

    def __init__(self, hung: set[str]) -> None:
        self.hung = hung
        self.most_at_once = self.at_once = 0
        self.go = asyncio.Event()

    async def events(
        self, endpoint: Endpoint, _instance: str | None, _since: int | None, turn: asyncio.Semaphore
    ) -> AsyncIterator[Event]:
        async with turn:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                await asyncio.sleep(0)
                if endpoint.host_uuid in self.hung:
                    await self.go.wait()
                    raise unreachable(endpoint, TimeoutError())
            finally:
                self.at_once -= 1
        hello = {"agent": "kvmagent", "version": "1", "protocol": 1, "instance": "i", "time": 0}
        hello |= {"hostUuid": endpoint.host_uuid, "inventoryHash": HASH}
        yield Event(seq=0, instance="i", kind=EventKind.RESET, data=hello)
        await asyncio.Event().wait()


class Seen:
    """What observers are told."""

    def __init__(self) -> None:
        self.connections: list[str] = []
        self.losses: list[str] = []

    async def connected(self, host_uuid: str) -> None:
        self.connections.append(host_uuid)

    async def lost(self, host_uuid: str, reason: HardpointError) -> None:
        self.losses.append(host_uuid)


async def no_revival() -> None:
    return None


async def until(condition, limit_s=60.0):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


def links_of(uuids, agents, seen, turns):
    return [HostLink(agents, Endpoint(uuid, "127.0.0.1", 1), HASH, seen, no_revival, turns) for uuid in uuids]


async def test_no_more_hosts_are_dialled_at_once_than_there_are_turns(monkeypatch):
    monkeypatch.setattr(link, "HOPEFUL_HANDSHAKES", 5)
    agents, seen = Agents(set()), Seen()
    links = links_of([f"h{n}" for n in range(100)], agents, seen, Pacing())
    for one in links:
        one.start()
    await until(lambda: len(seen.connections) == 100)
    assert agents.most_at_once <= 5
    await asyncio.gather(*(one.stop() for one in links))


async def test_hosts_that_were_lost_do_not_hold_up_those_that_answer(monkeypatch):
    monkeypatch.setattr(link, "HOPEFUL_HANDSHAKES", 5)
    monkeypatch.setattr(link, "RECONNECT_FIRST_S", 0.001)
    agents, seen, turns = Agents({f"dead{n}" for n in range(5)}), Seen(), Pacing()
    dead = links_of(sorted(agents.hung), agents, seen, turns)
    for one in dead:
        one.start()
    await until(lambda: agents.at_once == 5)
    agents.go.set()
    await until(lambda: len(seen.losses) == 5)
    agents.go.clear()  # now they hang again, in turns of their own
    await until(lambda: agents.at_once == 5)
    alive = links_of([f"alive{n}" for n in range(20)], agents, seen, turns)
    for one in alive:
        one.start()
    await until(lambda: len(seen.connections) == 20)
    assert len(seen.losses) == 5
    await asyncio.gather(*(one.stop() for one in [*dead, *alive]))


async def test_an_agent_of_another_host_at_the_address_is_told_as_a_loss(monkeypatch):
    agents, seen = Agents(set()), Seen()
    reasons: list[str] = []

    async def lost(_uuid: str, reason: HardpointError) -> None:
        reasons.append(reason.details)

    seen.lost = lost  # type: ignore[method-assign]
    (one,) = links_of(["wanted"], agents, seen, Pacing())
    answering = agents.events
    agents.events = lambda _e, i, s, t: answering(Endpoint("other", "127.0.0.1", 1), i, s, t)  # type: ignore[method-assign]
    one.start()
    await until(lambda: bool(reasons))
    assert "is the one of host other" in reasons[0]
    assert seen.connections == []
    await one.stop()


async def test_a_loss_that_cannot_be_noted_is_noted_later(monkeypatch):
    monkeypatch.setattr(link, "RECONNECT_FIRST_S", 0.001)
    agents, seen = Agents({"dead"}), Seen()
    agents.go.set()
    refusals: list[Exception] = [HardpointError("SYS.1000", "Internal error", "no database"), OSError("full")]
    revivals: list[str] = []

    async def lost(uuid: str, _reason: HardpointError) -> None:
        if refusals:
            raise refusals.pop(0)
        seen.losses.append(uuid)

    async def revive() -> None:
        revivals.append("tried")
        if len(revivals) == 1:
            raise OSError("no process can be started")

    seen.lost = lost  # type: ignore[method-assign]
    one = HostLink(agents, Endpoint("dead", "127.0.0.1", 1), HASH, seen, revive, Pacing())
    one.start()
    await until(lambda: len(revivals) == 3)
    assert seen.losses == ["dead"]
    await one.stop()


async def test_a_peer_that_is_silent_is_probed_by_the_kernel_and_given_up_within_eight_seconds():
    with probed_socket(socket.AF_INET, socket.SOCK_STREAM, 0) as probed:
        assert probed.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        first, every, most = (
            probed.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
    assert first + every * most <= 8
