"""How hosts come to use a primary storage, and how it is known whether they can."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from agentkit.errors import HardpointError
from agentkit.turns import Turns
from kvmagent.protocol_storage import InitStorage, ReleaseStorage, StorageEvent, StorageSpec
from mn.db.schema import new_uuid, now_s
from mn.facilities.common import find
from mn.facilities.hosts.followers import when_connected, when_storage_told
from mn.facilities.hosts.holdings import given_back, hold, holdings_of
from mn.facilities.hosts.tables import host_table, load_host
from mn.facilities.primary_storage.capacity import Place, recount, save_capacity
from mn.facilities.primary_storage.driver import driver_of
from mn.facilities.primary_storage.tables import (
    LOCAL,
    PRIMARY_STORAGE,
    attached_clusters,
    change_storage,
    host_ref_table,
    load_storage,
    storages_of_cluster,
)
from mn.fleet.client import Endpoint
from mn.rest.services import Services

log = logging.getLogger(__name__)

_turns = Turns()
"""Held of a storage while it is initialised: the first host writes the marker that the next ones look for.
Held of a storage on a host from when it is looked up what the host is to have until what it says is written.
"""
_connecting: dict[str, object] = {}
_releasing: dict[str, object] = {}
"""Of each host whose storages are being initialised or released, the round that does it."""
RETRY_FIRST_S, RETRY_MOST_S = 2.0, 60.0
STORAGE = "primary-storage"
"""Hosts hold each storage that they were asked to use until they say that they have released it."""


class HostPlace(msgspec.Struct, frozen=True):
    """A host whose agent can be asked to do something with a storage."""

    host_uuid: str
    address: str
    port: int
    storage: StorageSpec

    @property
    def endpoint(self) -> Endpoint:
        """Where its agent listens."""
        return Endpoint(self.host_uuid, self.address, self.port)


class Wanted(msgspec.Struct, frozen=True):
    """How a storage is to be initialised on a host."""

    at: HostPlace
    first: bool
    others: list[str]
    wipe: bool = False


async def connect_storage(services: Services, storage_uuid: str, host_uuid: str) -> None:
    """Initialise a storage on a host, note how that ended; nothing happens when it is not attached there.

    Raises HardpointError when it cannot be used.
    """
    async with _turns.of(storage_uuid), _on(storage_uuid, host_uuid):
        wanted = await services.db.write(prepare_host, storage_uuid, host_uuid)
        if wanted is None:
            return
        storage, keyless = wanted.at.storage, None
        try:
            key = await driver_of(storage.kind.value).key(services, storage)
        except HardpointError as error:  # the host may have one already
            key, keyless = None, error
            extra = {"host": host_uuid, "storage": storage_uuid, "reason": error.details}
            log.warning("no key of a storage", extra=extra)
        command = InitStorage(
            storage=storage, first=wanted.first, wipe=wanted.wipe, others=wanted.others, key=key
        )
        task = new_uuid()
        try:
            reply = await services.fleet.call(wanted.at.endpoint, command, task)
        except HardpointError as error:
            told = StorageEvent(storage_uuid=storage_uuid, answering=False, reason=error.details)
            await services.db.write(save_lost, storage_uuid, host_uuid, told)
            if keyless is not None:
                raise _without_key(error, keyless) from error
            raise
        told = StorageEvent(storage_uuid=storage_uuid, answering=True, capacity=reply.capacity)
        await services.db.write(save_found, storage_uuid, host_uuid, told)
        if key is not None:
            await services.db.write(driver_of(storage.kind.value).gave_key, storage, host_uuid)
        services.fleet.acknowledge(wanted.at.endpoint, task)


def _on(storage_uuid: str, host_uuid: str) -> asyncio.Lock:
    return _turns.of(f"{storage_uuid} on {host_uuid}")


def _without_key(error: HardpointError, keyless: HardpointError) -> HardpointError:
    return HardpointError(
        error.code,
        error.summary,
        f"{error.details}; no key could be had for it: {keyless.details}",
        remedy=keyless.remedy or error.remedy,
        blame=error.blame,
        cause=keyless,
    )


async def release_storage(services: Services, storage_uuid: str, host_uuid: str) -> None:
    """Have a host no longer use a storage; one that does not answer finds out when it does."""
    async with _on(storage_uuid, host_uuid):
        wanted = await services.db.read(load_wanted, storage_uuid, host_uuid)
        if wanted is None:
            return
        task = new_uuid()
        await services.fleet.call(wanted.at.endpoint, ReleaseStorage(storage=wanted.at.storage), task)
        await services.db.write(save_released, storage_uuid, host_uuid)
        services.fleet.acknowledge(wanted.at.endpoint, task)


async def follow_connected(services: Services, host_uuid: str) -> None:
    """Have a host that is connected use the storages of its cluster, and release the others that it holds."""
    attached, others = await services.db.read(load_both, host_uuid)
    doing = []
    if others:
        doing.append(release_others(services, host_uuid))
    if attached:
        doing.append(connect_attached(services, host_uuid, attached))
    await asyncio.gather(*doing)


async def release_others(services: Services, host_uuid: str) -> None:
    """Have a host release what it is to use no longer: it was away when that ended, say."""

    async def release_each() -> dict[str, str | None]:
        others = await services.db.read(load_others, host_uuid)
        return {held.storage.uuid: await _reason(_release_held(services, held)) for held in others}

    await _until_done(services, _releasing, host_uuid, release_each)


async def _release_held(services: Services, held: HostPlace) -> None:
    """Have a host release a storage that may be gone by now. Raises HardpointError."""
    async with _on(held.storage.uuid, held.host_uuid):
        if held not in await services.db.read(load_others, held.host_uuid):  # attached again
            return
        task = new_uuid()
        await services.fleet.call(held.endpoint, ReleaseStorage(storage=held.storage), task)
        await services.db.write(save_released, held.storage.uuid, held.host_uuid)
        services.fleet.acknowledge(held.endpoint, task)


async def connect_attached(services: Services, host_uuid: str, attached: list[str]) -> None:
    """Initialise storages on a host; a server, a LUN or a cluster may come later than the host."""
    reasons: dict[str, str | None] = {}

    async def connect_each() -> dict[str, str | None]:
        lacking = await services.db.read(load_lacking, host_uuid) if reasons else attached
        wanted = [uuid for uuid in lacking if not reasons or reasons.get(uuid) is not None]
        ended = {uuid: await _reason(connect_storage(services, uuid, host_uuid)) for uuid in wanted}
        reasons.update(ended)
        return ended

    await _until_done(services, _connecting, host_uuid, connect_each)


async def _until_done(
    services: Services,
    rounds: dict[str, object],
    host_uuid: str,
    attempt: Callable[[], Awaitable[dict[str, str | None]]],
) -> None:
    """Do something with storages on a host until none of them has a reason why not, less and less often.

    That ends as well when the host is lost, or connected anew and so begun with again.
    """
    mine = rounds[host_uuid] = object()
    told: dict[str, str | None] = {}
    pause = RETRY_FIRST_S
    try:
        while True:
            reasons = await attempt()
            for storage_uuid, reason in reasons.items():
                if reason not in (None, told.get(storage_uuid)):
                    extra = {"host": host_uuid, "storage": storage_uuid, "reason": reason}
                    log.warning("storage not initialised or released on a host", extra=extra)
            told = reasons
            if not any(reasons.values()):
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 no secret
            pause = min(pause * 2, RETRY_MOST_S)
            host = await services.db.read(load_host, host_uuid)
            if rounds.get(host_uuid) is not mine or host is None or host.status != "Connected":
                return
    finally:
        if rounds.get(host_uuid) is mine:
            del rounds[host_uuid]


async def _reason(doing: Awaitable[None]) -> str | None:
    """Return why something failed, None when it has not."""
    try:
        await doing
    except HardpointError as error:
        return error.details
    return None


async def note_event(services: Services, host_uuid: str, event: StorageEvent) -> None:
    """Write what a host says of a storage."""
    if event.answering:
        await services.db.write(save_found, event.storage_uuid, host_uuid, event)
    else:
        await services.db.write(save_lost, event.storage_uuid, host_uuid, event)


when_connected(follow_connected, beside=True)
when_storage_told(note_event)


def load_attached(connection: Connection, host_uuid: str) -> list[str]:
    """Return the uuids of the storages that a host is to use."""
    host = load_host(connection, host_uuid)
    if host is None or host.hypervisor_type != "KVM":
        return []
    return storages_of_cluster(connection, host.cluster_uuid)


def load_lacking(connection: Connection, host_uuid: str) -> list[str]:
    """Return the uuids of the storages that a host is to use and cannot."""
    refs = host_ref_table.c
    usable = select(refs.primary_storage_uuid).where(
        (refs.host_uuid == host_uuid) & (refs.status == "Connected")
    )
    there = set(connection.execute(usable).scalars())
    return [uuid for uuid in load_attached(connection, host_uuid) if uuid not in there]


def load_wanted(connection: Connection, storage_uuid: str, host_uuid: str) -> Wanted | None:
    """Return how a storage is to be initialised on a host, None when either is gone or has no agent."""
    row, host = load_storage(connection, storage_uuid), load_host(connection, host_uuid)
    if row is None or host is None or host.agent_port is None:
        return None
    driver = driver_of(row.type)
    first = load_ref(connection, storage_uuid, host_uuid) is None if driver.is_local else not row.initialised
    others, wipe = driver.others(connection, row.uuid), driver.wipes(connection, row.uuid)
    return Wanted(_host_place(connection, row, host), first, others, wipe)


def load_both(connection: Connection, host_uuid: str) -> tuple[list[str], list[HostPlace]]:
    """Return the uuids of the storages that a host is to use, and the others that it holds."""
    return load_attached(connection, host_uuid), load_others(connection, host_uuid)


def load_others(connection: Connection, host_uuid: str) -> list[HostPlace]:
    """Return what a host holds and is to use no longer; nothing when it cannot be asked."""
    held = holdings_of(connection, host_uuid, STORAGE)
    wanted = load_attached(connection, host_uuid) if held else []
    specs = [msgspec.convert(each.spec, StorageSpec) for each in held if each.subject not in wanted]
    host = load_host(connection, host_uuid) if specs else None
    if host is None or host.agent_port is None:
        return []
    return [HostPlace(host_uuid, host.agent_address, host.agent_port, spec) for spec in specs]


def prepare_host(connection: Connection, storage_uuid: str, host_uuid: str) -> Wanted | None:
    """Write what a host needs, and that it may hold the storage; return how it is to be initialised there.

    None when it is not attached there, or the host is gone or has no agent.
    """
    row = load_storage(connection, storage_uuid)
    if row is None or storage_uuid not in load_attached(connection, host_uuid):
        return None
    driver_of(row.type).prepare(connection, storage_uuid, host_uuid)
    wanted = load_wanted(connection, storage_uuid, host_uuid)
    if wanted is not None:
        hold(connection, host_uuid, STORAGE, storage_uuid, wanted.at.storage)
    return wanted


def save_released(connection: Connection, storage_uuid: str, host_uuid: str) -> None:
    """Write that a host has said that it uses a storage no longer."""
    given_back(connection, host_uuid, STORAGE, storage_uuid)
    row = load_storage(connection, storage_uuid)
    if row is not None:
        driver_of(row.type).released(connection, storage_uuid, host_uuid)


def load_ref(connection: Connection, storage_uuid: str, host_uuid: str) -> Row[Any] | None:
    """Return the row of a storage on a host, None when it has never been initialised there."""
    refs = host_ref_table
    mine = (refs.c.primary_storage_uuid == storage_uuid) & (refs.c.host_uuid == host_uuid)
    return connection.execute(select(refs).where(mine)).first()


def save_found(connection: Connection, storage_uuid: str, host_uuid: str, event: StorageEvent) -> None:
    """Write that a host can use a storage, and its capacity, unless it is to use it no longer."""
    row = load_storage(connection, storage_uuid)
    if row is None or storage_uuid not in load_attached(connection, host_uuid):
        return
    driver_of(row.type).told(connection, storage_uuid, host_uuid, event)
    now, ref = now_s(), load_ref(connection, storage_uuid, host_uuid)
    if ref is None:
        key = {"uuid": new_uuid(), "primary_storage_uuid": storage_uuid, "host_uuid": host_uuid}
        dates = {"create_date": now, "last_op_date": now}
        connection.execute(insert(host_ref_table), {**key, **dates, "status": "Connected"})
    elif ref.status != "Connected":
        values = {"status": "Connected", "reason": None, "last_op_date": now}
        connection.execute(update(host_ref_table).where(host_ref_table.c.uuid == ref.uuid).values(**values))
    if event.capacity is not None and not driver_of(row.type).is_reported:
        place = Place(storage_uuid, host_uuid if row.type == LOCAL else None)
        save_capacity(connection, place, event.capacity)
    if not row.initialised:
        change_storage(connection, storage_uuid, initialised=True)
    refresh_status(connection, storage_uuid)


def save_lost(connection: Connection, storage_uuid: str, host_uuid: str, event: StorageEvent) -> None:
    """Write that a host can use a storage no longer; nothing happens when it never could."""
    row, ref = load_storage(connection, storage_uuid), load_ref(connection, storage_uuid, host_uuid)
    if row is None or load_host(connection, host_uuid) is None:
        return
    driver_of(row.type).told(connection, storage_uuid, host_uuid, event)
    if ref is None:
        return
    reason = event.reason or "it does not answer"
    values = {"status": "Disconnected", "reason": reason, "last_op_date": now_s()}
    connection.execute(update(host_ref_table).where(host_ref_table.c.uuid == ref.uuid).values(**values))
    refresh_status(connection, storage_uuid)


def refresh_status(connection: Connection, storage_uuid: str) -> None:
    """Write whether a storage is Connected: a shared one when some host can use it, a local one always."""
    row = load_storage(connection, storage_uuid)
    if row is None or row.type == LOCAL or driver_of(row.type).is_reported:
        return
    refs = host_ref_table.c
    usable = (refs.primary_storage_uuid == storage_uuid) & (refs.status == "Connected")
    some = connection.execute(select(refs.uuid).where(usable).limit(1)).scalar() is not None
    status = "Connected" if some else "Disconnected"
    if row.status != status:
        log.info("primary storage", extra={"storage": storage_uuid, "status": status})
        change_storage(connection, storage_uuid, status=status)
        driver_of(row.type).refreshed(connection, storage_uuid, status)


def leave_hosts(connection: Connection, storage_uuid: str, host_uuids: list[str]) -> None:
    """Forget that hosts use a storage, and count it anew."""
    refs = host_ref_table.c
    mine = (refs.primary_storage_uuid == storage_uuid) & refs.host_uuid.in_(host_uuids)
    connection.execute(delete(host_ref_table).where(mine))
    row = load_storage(connection, storage_uuid)
    if row is not None:
        driver_of(row.type).left(connection, storage_uuid, host_uuids)
    recount(connection, storage_uuid)
    refresh_status(connection, storage_uuid)


def load_hosts(
    connection: Connection, storage_uuid: str, cluster_uuids: list[str] | None = None
) -> list[str]:
    """Return the connected hosts of some clusters, of all that a storage is attached to unless named."""
    clusters = attached_clusters(connection, storage_uuid) if cluster_uuids is None else cluster_uuids
    hosts = host_table.c
    connected = hosts.cluster_uuid.in_(clusters) & (hosts.status == "Connected")
    wanted = connected & (hosts.hypervisor_type == "KVM") & hosts.agent_port.is_not(None)
    return list(connection.execute(select(hosts.uuid).where(wanted).order_by(hosts.seq)).scalars())


def usable_hosts(connection: Connection, storage_uuid: str) -> list[Row[Any]]:
    """Return the hosts that can use a storage now; those that take VMs come first."""
    refs, hosts = host_ref_table.c, host_table
    joined = hosts.join(host_ref_table, refs.host_uuid == hosts.c.uuid)
    usable = (refs.primary_storage_uuid == storage_uuid) & (refs.status == "Connected")
    wanted = usable & (hosts.c.status == "Connected") & hosts.c.agent_port.is_not(None)
    order = ((hosts.c.state != "Enabled"), hosts.c.seq)
    return list(connection.execute(select(hosts).select_from(joined).where(wanted).order_by(*order)))


def host_at(connection: Connection, place: Place) -> HostPlace:
    """Return a host that can work at a place: the place's own, or any that can use the storage.

    Raises HardpointError (PS.1003) when there is none now.
    """
    row = find(connection, PRIMARY_STORAGE, place.storage_uuid)
    for host in usable_hosts(connection, place.storage_uuid):
        if place.host_uuid in (None, host.uuid):
            return _host_place(connection, row, host)
    raise no_host(connection, row, place.host_uuid)


def no_host(connection: Connection, row: Row[Any], host_uuid: str | None) -> HardpointError:
    """Return the error of a storage that no host can use now."""
    refs = host_ref_table.c
    mine = (refs.primary_storage_uuid == row.uuid) & refs.reason.is_not(None)
    if host_uuid is not None:
        mine &= refs.host_uuid == host_uuid
    reason = connection.execute(select(refs.reason).where(mine).limit(1)).scalar()
    which = f"host {host_uuid} cannot use it now" if host_uuid else "no connected host can use it now"
    return HardpointError(
        "PS.1003",
        "Primary storage disconnected",
        f"primary storage {row.name} ({row.uuid}): {which}{f': {reason}' if reason else ''}",
        remedy="attach it to a cluster with connected hosts, or reconnect it when its reason is gone",
    )


def _host_place(connection: Connection, row: Row[Any], host: Row[Any]) -> HostPlace:
    spec = driver_of(row.type).spec(connection, row, host.uuid)
    return HostPlace(host.uuid, host.agent_address, host.agent_port, spec)
