"""The keys of Ceph primary storages' hosts: given, replaced by others, taken when nobody uses them.

A storage has one client that its hosts are now, and after a rotation those that some of them were.
"""

from __future__ import annotations

import logging

import msgspec
from sqlalchemy import Connection, and_, select

from agentkit.errors import HardpointError
from cephagent.protocol import RetireKey, TakeKey
from mn.db.schema import new_uuid
from mn.facilities.ceph.asking import ask
from mn.facilities.common import find
from mn.facilities.hosts.tables import host_table
from mn.facilities.primary_storage.ceph_hosts import client_of, load_clients, wanted_key
from mn.facilities.primary_storage.ceph_tables import CEPH_STORAGE, KIND
from mn.facilities.primary_storage.tables import (
    CEPH,
    attached_clusters,
    change_storage,
    host_ref_table,
    primary_storage_table,
)
from mn.rest.services import Services

log = logging.getLogger(__name__)


class Retiring(msgspec.Struct, frozen=True):
    """A storage's client, the ones before it, and the hosts that may not know its key yet."""

    client: str
    former: list[str]
    pending: list[str]


async def give_key(services: Services, uuid: str, client: str) -> str:
    """Have a client of a storage made, or what it may do changed; return its key."""
    command = await services.db.read(wanted_key, uuid, client)
    _, given = await ask(services, KIND, uuid, command, new_uuid())
    return given.key


async def give_keys(services: Services, uuid: str) -> None:
    """Do that for all clients of a storage."""
    for client in await services.db.read(load_clients, uuid):
        await give_key(services, uuid, client)


async def make_client(services: Services, uuid: str, client: str) -> None:
    """Have a client of a storage made; its key goes to hosts only, never into a journal."""
    await give_key(services, uuid, client)


async def drop_client(services: Services, uuid: str, client: str) -> None:
    """Undo that, for a client that no host has been told of."""
    if client not in await services.db.read(load_clients, uuid):
        await ask(services, KIND, uuid, TakeKey(user=client), new_uuid())


async def retire_clients(services: Services, uuid: str) -> list[str]:
    """Take the keys of a storage's former clients when all its hosts have the new one and nobody is them.

    Return those that keep theirs: a VM that has run since before the rotation is such a client until it is
    moved or started again.
    """
    known = await services.db.read(load_retiring, uuid)
    left = known.former
    if known.pending:
        return left
    for client in known.former:
        try:
            _, reply = await ask(services, KIND, uuid, RetireKey(user=client), new_uuid())
        except HardpointError as error:
            extra = {"storage": uuid, "client": client, "reason": error.details}
            log.warning("a former key of a Ceph storage is left on its cluster", extra=extra)
            continue
        if reply.retired:
            await services.db.write(forget_client, uuid, client)
            left = [each for each in left if each != client]
    return left


async def retire_all_clients(services: Services) -> None:
    """Do that for all storages, by the hour."""
    for uuid in await services.db.read(load_rotated):
        await retire_clients(services, uuid)


def load_rotated(connection: Connection) -> list[str]:
    """Return the storages that have former clients."""
    table = primary_storage_table.c
    rows = connection.execute(select(table.uuid, table.former_ceph_clients).where(table.type == CEPH))
    return [row.uuid for row in rows if row.former_ceph_clients]


def load_retiring(connection: Connection, uuid: str) -> Retiring:
    """Return the clients of a storage, and who may need the former ones."""
    row = find(connection, CEPH_STORAGE, uuid)
    client = client_of(row)
    refs, hosts = host_ref_table.c, host_table.c
    mine = and_(refs.host_uuid == hosts.uuid, refs.primary_storage_uuid == uuid)
    joined = host_table.outerjoin(host_ref_table, mine)
    query = select(hosts.uuid, hosts.status, refs.status.label("usable"), refs.ceph_client)
    users = hosts.cluster_uuid.in_(attached_clusters(connection, uuid)) & (hosts.hypervisor_type == "KVM")
    found = connection.execute(query.select_from(joined).where(users).order_by(hosts.seq)).all()
    ready = ("Connected", "Connected", client)
    pending = [each.uuid for each in found if (each.status, each.usable, each.ceph_client) != ready]
    return Retiring(client, list(row.former_ceph_clients or []), pending)


def switch_client(connection: Connection, uuid: str, client: str) -> None:
    """Write that a storage's hosts are to be another client from now on."""
    row = find(connection, CEPH_STORAGE, uuid)
    former = [client_of(row), *(row.former_ceph_clients or [])]
    change_storage(connection, uuid, ceph_client=client, former_ceph_clients=former)


def forget_client(connection: Connection, uuid: str, client: str) -> None:
    """Write that a former client has no key any more."""
    row = find(connection, CEPH_STORAGE, uuid)
    former = [each for each in row.former_ceph_clients or [] if each != client]
    change_storage(connection, uuid, former_ceph_clients=former)
