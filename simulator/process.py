"""The process of a simulated fleet: one socket for all loopback addresses, and hosts by their address."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agentkit.agent import Agent, new_instance
from agentkit.errors import Blame, HardpointError
from agentkit.gate import RefusalLog, accept_on
from agentkit.lean import share_one_arena, web
from agentkit.limits import check_open_files, raise_open_files
from agentkit.place import StateDirectory, start_error
from agentkit.routes import Routes
from agentkit.tasks import PRUNE_EVERY_S
from agentkit.tls import lower_read_buffer
from kvmagent.handlers import Context
from simulator.control import Control
from simulator.host import Shared, SimulatedHost, State, refuse
from simulator.machines import Machines

log = logging.getLogger(__name__)

HOSTS, MACHINES, CONTROL, CA_FILE = "hosts", "machines", "control", "ca.pem"
JOURNAL_THREADS = 4
STOP_LIMIT_S = 5.0
BACKLOG = 4096


class Simulator:
    """The hosts whose folders are below `state`/hosts, served on one port at their loopback addresses."""

    def __init__(self, state: Path, files_max: int) -> None:
        self._state = state
        self._files_max = files_max
        self._hosts: dict[str, SimulatedHost] = {}
        self._by_address: dict[str, SimulatedHost] = {}
        self._runner = web.AppRunner(
            Routes(self._find).application(), access_log=None, shutdown_timeout=STOP_LIMIT_S
        )

    async def live(self, listener: socket.socket, place: StateDirectory) -> None:
        """Serve until SIGTERM or SIGINT."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await self._runner.setup()
        if self._runner.server is None:
            raise AssertionError("aiohttp has set up no server")
        machines, ca = Machines(self._state / MACHINES), self._state / CA_FILE
        threads = ThreadPoolExecutor(JOURNAL_THREADS, thread_name_prefix="journal")
        self._shared = Shared(machines, ca, threads, RefusalLog(), self._runner.server)
        self._read_hosts()
        listener.setblocking(False)
        tasks = [
            asyncio.create_task(accept_on(listener, self._take, self._shared.refusals)),
            asyncio.create_task(self._prune()),
        ]
        control = Control(self)
        await control.start(self._state / CONTROL)
        ready = place.write_ready(listener, new_instance())
        log.info("ready", extra={"port": ready.port, "hosts": len(self._hosts)})
        await stopped.wait()
        await control.stop()
        for task in tasks:
            task.cancel()
        listener.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(host.end(STOP_LIMIT_S) for host in self._hosts.values()))
        await self._runner.cleanup()
        threads.shutdown()
        log.info("stopped")

    def serve(self, uuid: str) -> None:
        """Serve the host of that folder; one that is served already stays as it is."""
        if uuid not in self._hosts:
            self._add(SimulatedHost(self._state / HOSTS / uuid, self._shared))

    async def drop(self, uuid: str) -> None:
        """Serve a host no more; also fine when it is not served."""
        host = self._hosts.pop(uuid, None)
        if host is not None:
            self._by_address.pop(host.address, None)
            await host.end(STOP_LIMIT_S)

    async def lose(self, count: int, uuids: Collection[str], *, silently: bool) -> list[str]:
        """Let the named hosts die (or fall silent), else `count` drawn from those that are up."""
        hosts = [self._named(uuid) for uuid in uuids]
        if not hosts:
            up = [host for host in self._hosts.values() if host.state is State.UP]
            hosts = random.sample(up, min(count, len(up)))
        for host in hosts:
            if silently:
                host.fall_silent()
            else:
                await host.die()
        return [host.uuid for host in hosts]

    def recover(self) -> list[str]:
        """Bring back all hosts that died or fell silent."""
        lost = [host for host in self._hosts.values() if host.state is not State.UP]
        for host in lost:
            host.come_back()
        return [host.uuid for host in lost]

    def counts(self) -> dict[str, int]:
        """Return how many hosts are in each state, and how many connections there are."""
        found = {str(state): 0 for state in State}
        for host in self._hosts.values():
            found[host.state] += 1
        return {**found, "connections": sum(host.connections for host in self._hosts.values())}

    def _named(self, uuid: str) -> SimulatedHost:
        if uuid in self._hosts:
            return self._hosts[uuid]
        raise HardpointError(
            "SYS.1003",
            "Resource not found",
            f"there is no simulated host {uuid} here",
            remedy="name one that QueryHost shows",
            blame=Blame.CALLER,
        )

    def _read_hosts(self) -> None:
        directory = self._state / HOSTS
        directory.mkdir(mode=0o700, exist_ok=True)
        for home in directory.iterdir():
            try:
                self._add(SimulatedHost(home, self._shared))
            except HardpointError as error:
                # A folder that the node was about to fill or to remove: it says so by the control socket.
                log.warning("host not served", extra={"host": home.name, "reason": error.details})

    def _add(self, host: SimulatedHost) -> None:
        check_open_files(len(self._hosts) + 1, self._files_max)
        other = self._by_address.setdefault(host.address, host)
        if other is not host:
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                f"the address {host.address} belongs to the simulated host {other.uuid}",
                remedy="give each host an address of its own",
                blame=Blame.CALLER,
            )
        self._hosts[host.uuid] = host

    def _take(self, connection: socket.socket, peer: str) -> None:
        host = self._by_address.get(connection.getsockname()[0])
        if host is None:
            refuse(connection)
            return
        try:
            host.take(connection, peer)
        except HardpointError as error:
            self._shared.refusals.refused(host.address, error.details)
            refuse(connection)

    async def _find(self, request: web.Request) -> Agent[Context]:
        address = request.get_extra_info("sockname", ("",))[0]
        host = self._by_address.get(address)
        if host is None or host.state is State.DEAD:
            raise ConnectionResetError(f"no host has the address {address}")
        return await host.agent()

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_EVERY_S)
            for host in list(self._hosts.values()):
                await host.prune()


def serve(state: Path, port: int) -> None:
    """Be the simulator of a state folder until stopped. Raises HardpointError when it cannot start."""
    share_one_arena()
    lower_read_buffer()
    files_max = raise_open_files()
    place = StateDirectory(state)
    place.take()
    try:
        asyncio.run(Simulator(state, files_max).live(_listen(port, place.last_port()), place))
    finally:
        place.release()


def _listen(port: int, last_port: int | None) -> socket.socket:
    """Return one socket that listens on all loopback addresses and on no other, however large the fleet."""
    for wanted in [last_port, 0] if port == 0 and last_port else [port]:
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", wanted))  # noqa: S104 of the loopback device only
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            reason = error
        else:
            return listener
    details = f"the simulator cannot listen on port {port} of the loopback device: {reason.strerror}"
    raise start_error(details, "choose another port; binding to a device needs Linux 5.7 or root")
