"""RotateCephPrimaryStorageKey: another key for the hosts of a Ceph storage, while VMs run (extension)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from sqlalchemy import Connection

from mn.facilities.common import find
from mn.facilities.primary_storage.attaching import try_to_connect_hosts
from mn.facilities.primary_storage.ceph_hosts import client_of, next_client
from mn.facilities.primary_storage.ceph_keys import (
    Retiring,
    drop_client,
    load_retiring,
    make_client,
    retire_clients,
    switch_client,
)
from mn.facilities.primary_storage.ceph_tables import CEPH_STORAGE
from mn.facilities.primary_storage.connecting import load_hosts
from mn.rest.operation import Action, Reply
from mn.rest.services import Job
from mn.rest.types import Ref

_REPLY = {
    "client": Annotated[str, Meta(description="the client of the cluster that hosts are now")],
    "formerClients": Annotated[
        list[str], Meta(description="clients whose keys are still good, as somebody may use them")
    ],
    "pendingHostUuids": Annotated[
        list[str], Meta(description="hosts that get the key when they can be reached again")
    ],
}


class RotateCephPrimaryStorageKey(
    Action, path="/primary-storage/ceph/{uuid}/actions", returns=_REPLY, timeout_s=3600.0
):
    """Have the hosts of a Ceph primary storage use another key, while VMs run (extension).

    Ceph knows one key of a client, and a VM cannot be given another one: it needs its key again whenever it
    has to find another monitor. So the new key is that of a new client. It is made first, so that a host is
    told of nothing that does not work; then it is written that hosts are to be it, so that each that connects
    from now on gets it; then those that are connected get it. The former client goes last: when all hosts
    have the new key and no monitor has a session of it, which is looked at now and by the hour. A VM that has
    run since before holds on to it until it is moved to another host or started again.
    """

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Make the client, tell the hosts, take the former one's key when nobody needs it."""
        services, uuid = job.services, self.uuid
        client = await job.transact(name_client, uuid)
        await job.step(make_client, services, uuid, client, undo=drop_client)
        await job.transact(switch_client, uuid, client)
        job.at(30)
        hosts = await job.transact(load_hosts, uuid)
        await job.step(try_to_connect_hosts, services, uuid, hosts)
        job.at(80)
        former = await job.step(retire_clients, services, uuid)
        left = await job.transact(look, uuid)
        return {"client": client, "formerClients": former, "pendingHostUuids": left.pending}


def name_client(connection: Connection, uuid: str) -> str:
    """Return the name of a storage's next client. Raises HardpointError (SYS.1003) for no such storage."""
    return next_client(client_of(find(connection, CEPH_STORAGE, uuid)))


def look(connection: Connection, uuid: str) -> Retiring:
    """Return the hosts that do not have the key yet."""
    return load_retiring(connection, uuid)
