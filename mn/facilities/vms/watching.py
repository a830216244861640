"""What hosts show of their VMs becomes rows; what a lost host had is Unknown.

A VM whose move ended while its hosts could not be asked is Unknown at the source, and its row keeps the
target: the two move it without the node. They are asked where it is when one of them is back or tells of it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, select

from agentkit.errors import HardpointError
from agentkit.turns import Turns
from kvmagent.protocol_vms import ListVms, VmEvent, VmSeen
from mn.db.global_settings import MEMORY_RATIO
from mn.db.schema import new_uuid
from mn.facilities.hosts.followers import when_connected, when_lost, when_vm_told
from mn.facilities.hosts.tables import host_table, load_host
from mn.facilities.vms.allocation import recount
from mn.facilities.vms.domains import keep_domain, look_at
from mn.facilities.vms.tables import UNDER_WAY, State, change_vm, load_vm, vm_table
from mn.fleet.client import Endpoint
from mn.rest.services import Services

log = logging.getLogger(__name__)

_settling = Turns()
"""Held of a VM from when its row is read until it is written where it really is."""


class Believed(msgspec.Struct, frozen=True):
    """What a VM's row says, in its present turn; `destination_uuid` is the host that it is on its way to."""

    uuid: str
    state: str
    host_uuid: str | None
    turn: int
    destination_uuid: str | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nobody has seen how its move ended."""
        return self.state == State.UNKNOWN and self.destination_uuid is not None


class Found(msgspec.Struct, frozen=True):
    """What a VM's row ought to say."""

    state: State
    host_uuid: str | None


def what_is(believed: Believed, host_uuid: str, seen: VmSeen | None) -> Found | None:
    """Return what a VM's row ought to say when a host shows it so; None: it does, or a job decides."""
    if believed.state in UNDER_WAY:
        return None
    return what_is_left(believed, host_uuid, seen)


def what_is_left(believed: Believed, host_uuid: str, seen: VmSeen | None) -> Found | None:
    """Return the same, whatever was under way: it has failed."""
    here = believed.host_uuid == host_uuid
    if seen is None:
        on_host = believed.state not in (State.CREATED, State.STOPPED, State.DESTROYED)
        return Found(State.STOPPED, None) if here and on_host else None
    if here or (believed.host_uuid is None and believed.state in (State.CREATED, State.STOPPED)):
        found = Found(State(seen.state), host_uuid)
        return None if (believed.state, believed.host_uuid) == (found.state, found.host_uuid) else found
    return None


def after_move(source: Found, target: Found) -> Found:
    """Return where a VM is whose move has failed, by what the source and then the target show of it.

    The source has been told to keep it before. Unknown at the source: it may be at either.
    """
    # It runs at the target once it has come there; what the source has shown before that is old.
    if source.host_uuid is None or target.state is State.RUNNING:
        return target
    if source.state is State.RUNNING or (source.state is State.PAUSED and target.host_uuid is None):
        return source
    # One that has left may still be there, Paused; and so is one that is only coming in.
    return Found(State.UNKNOWN, source.host_uuid)


def load_believed(connection: Connection, uuid: str) -> Believed | None:
    """Return what is believed of a VM, None when there is no such VM."""
    row = load_vm(connection, uuid)
    return _believed(row) if row is not None else None


def save_found(connection: Connection, believed: Believed, found: Found, memory_ratio: float) -> bool:
    """Write what was found of a VM, unless its row has changed since it was looked at.

    While it is Unknown at the source of its move the target is kept: it may be there.
    """
    row = load_vm(connection, believed.uuid)
    if row is None or row.turn != believed.turn:
        return False
    values: dict[str, Any] = {"state": found.state, "host_uuid": found.host_uuid}
    if found.host_uuid != believed.host_uuid:
        values["last_host_uuid"] = believed.host_uuid
        host = load_host(connection, found.host_uuid) if found.host_uuid is not None else None
        values |= {"cluster_uuid": host.cluster_uuid} if host is not None else {}
    if found.state is not State.UNKNOWN or found.host_uuid != believed.host_uuid:
        values["destination_host_uuid"] = None
    change_vm(connection, believed.uuid, **values)
    for each in {believed.host_uuid, believed.destination_uuid, found.host_uuid} - {None}:
        recount(connection, str(each), memory_ratio)
    return True


async def look(services: Services, uuid: str) -> None:
    """Bring a VM's row in line with its host: a job does so last, as events that came meanwhile were left."""
    believed = await services.db.read(load_believed, uuid)
    if believed is None or believed.host_uuid is None:
        return
    endpoint = await services.db.read(load_endpoint, believed.host_uuid)
    if endpoint is None:
        return
    try:
        seen = await look_at(services, uuid, endpoint)
    except HardpointError as error:
        log.warning("VM not looked at", extra={"vm": uuid, "reason": error.details})
        return
    await _note(services, believed, what_is(believed, endpoint.host_uuid, seen))


async def settle(services: Services, uuid: str) -> None:
    """Write how a VM really is after a job on it has failed; Unknown when its host does not answer."""
    async with _settling.of(uuid):
        believed = await services.db.read(load_believed, uuid)
        if believed is None or believed.host_uuid is None or believed.state not in UNDER_WAY:
            return
        hosts = [host for host in (believed.host_uuid, believed.destination_uuid) if host is not None]
        absent = [host for host in hosts if await services.db.read(load_endpoint, host) is None]
        await _note(services, believed, await _find(services, believed, believed.host_uuid))
    for host in absent:  # one that was connected meanwhile has left the VM to the job
        try:
            await follow_event(services, host, VmEvent(uuid=uuid))
        except HardpointError as error:
            log.warning("VM not looked at", extra={"vm": uuid, "reason": error.details})


async def _settle_lost(services: Services, uuid: str) -> None:
    """Write where a VM is by now that was lost on its way to another host."""
    async with _settling.of(uuid):
        believed = await services.db.read(load_believed, uuid)
        if believed is not None and believed.is_lost and believed.host_uuid is not None:
            await _note(services, believed, await _find(services, believed, believed.host_uuid))


async def _find(services: Services, believed: Believed, host_uuid: str) -> Found:
    """Return how its hosts say that a VM is which a job has left."""
    target = believed.destination_uuid
    source = await _left(services, believed.uuid, host_uuid, sending=target is not None)
    return source if target is None else after_move(source, await _left(services, believed.uuid, target))


async def _left(services: Services, uuid: str, host_uuid: str, *, sending: bool = False) -> Found:
    """Return how a host says that a VM is which a job has left; it keeps one first that it may be sending."""
    endpoint = await services.db.read(load_endpoint, host_uuid)
    if endpoint is None:
        return Found(State.UNKNOWN, host_uuid)
    try:
        if sending:
            await keep_domain(services, uuid, endpoint)
        seen = await look_at(services, uuid, endpoint)
    except HardpointError as error:
        log.warning("VM not looked at", extra={"vm": uuid, "reason": error.details})
        return Found(State.UNKNOWN, host_uuid)
    return Found(State.STOPPED, None) if seen is None else Found(State(seen.state), host_uuid)


def load_endpoint(connection: Connection, host_uuid: str) -> Endpoint | None:
    """Return where a connected host's agent listens, None when it is not connected."""
    row = load_host(connection, host_uuid)
    if row is None or row.status != "Connected" or row.agent_port is None:
        return None
    return Endpoint(host_uuid, row.agent_address, row.agent_port)


async def follow_event(services: Services, host_uuid: str, event: VmEvent) -> None:
    """Look at the VM that an event is about, or at all."""
    if event.uuid is None:
        await follow_connected(services, host_uuid)
        return
    believed = await services.db.read(load_believed, event.uuid)
    endpoint = await services.db.read(load_endpoint, host_uuid)
    if believed is None or endpoint is None or believed.state in UNDER_WAY:
        return
    if believed.is_lost:
        await _settle_lost(services, event.uuid)
        return
    seen = await look_at(services, event.uuid, endpoint)
    await _note(services, believed, what_is(believed, host_uuid, seen))


async def follow_connected(services: Services, host_uuid: str) -> None:
    """Read all VMs of a host that is connected."""
    endpoint = await services.db.read(load_endpoint, host_uuid)
    if endpoint is None:
        return
    if not await services.db.read(had_vms, host_uuid):
        return
    rows = {row.uuid: row for row in await services.db.read(load_on_host, host_uuid)}
    task = new_uuid()
    reply = await services.fleet.call(endpoint, ListVms(), task)
    services.fleet.acknowledge(endpoint, task)
    seen = {vm.uuid: vm for vm in reply.vms}
    lost = []
    for uuid in sorted(rows.keys() | seen.keys()):
        believed = rows.get(uuid) or await services.db.read(load_believed, uuid)
        if believed is None:
            log.warning("a VM that is not known here runs on a host", extra={"host": host_uuid, "vm": uuid})
        elif believed.is_lost:
            lost.append(uuid)
        else:
            await _note(services, believed, what_is(believed, host_uuid, seen.get(uuid)))
    await services.db.write(recount, host_uuid, services.global_settings[MEMORY_RATIO])
    # They wait for other hosts: last, and side by side.
    await asyncio.gather(*(_settle_lost(services, uuid) for uuid in lost))


async def follow_lost(services: Services, host_uuid: str) -> None:
    """Write that it is not known how the VMs of a lost host are."""
    await services.db.write(doubt, host_uuid)


def doubt(connection: Connection, host_uuid: str) -> None:
    """Write Unknown where a lost host's VMs were running, unless it has been found meanwhile."""
    status = select(host_table.c.status).where(host_table.c.uuid == host_uuid)
    if connection.execute(status).scalar() == "Connected":
        return
    for believed in load_on_host(connection, host_uuid):
        if believed.state in (State.RUNNING, State.PAUSED):
            change_vm(connection, believed.uuid, state=State.UNKNOWN)


def had_vms(connection: Connection, host_uuid: str) -> bool:
    """Say whether a host has a VM, was the last one of a VM, or may be the next one."""
    vms = vm_table.c
    mine = _at(host_uuid) | (vms.last_host_uuid == host_uuid)
    return connection.execute(select(vms.uuid).where(mine).limit(1)).first() is not None


def load_on_host(connection: Connection, host_uuid: str) -> list[Believed]:
    """Return what is believed of a host's VMs, and of those that are on their way to it."""
    query = select(vm_table).where(_at(host_uuid))
    return [_believed(row) for row in connection.execute(query)]


def _at(host_uuid: str) -> ColumnElement[bool]:
    return (vm_table.c.host_uuid == host_uuid) | (vm_table.c.destination_host_uuid == host_uuid)


async def _note(services: Services, believed: Believed, found: Found | None) -> None:
    if found is None or (believed.state, believed.host_uuid) == (found.state, found.host_uuid):
        return
    ratio = services.global_settings[MEMORY_RATIO]
    if await services.db.write(save_found, believed, found, ratio):
        extra = {"vm": believed.uuid, "before": believed.state, "now": found.state}
        log.info("VM is other than believed", extra=extra)


def _believed(row: Row[Any]) -> Believed:
    return Believed(row.uuid, row.state, row.host_uuid, row.turn, row.destination_host_uuid)


when_connected(follow_connected)
when_lost(follow_lost)
when_vm_told(follow_event)
