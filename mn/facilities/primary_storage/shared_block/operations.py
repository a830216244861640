"""Shared-block storages are added and queried, and get LUNs; LUNs that have grown are used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta
from sqlalchemy import Connection, delete, insert

from agentkit.wire import Command
from kvmagent.protocol_shared_block import bare_wwid
from kvmagent.protocol_storage import ExtendGroup, InitStorage, RefreshLuns, StorageEvent, StorageReply
from mn.db.schema import new_uuid, now_s
from mn.facilities.common import find, inventory
from mn.facilities.primary_storage.adding import AddStorage, insert_storage
from mn.facilities.primary_storage.capacity import Place
from mn.facilities.primary_storage.connecting import HostPlace, host_at, save_found, usable_hosts
from mn.facilities.primary_storage.driver import driver_of
from mn.facilities.primary_storage.refusals import illegal, not_found, refused
from mn.facilities.primary_storage.shared_block.driver import save_luns
from mn.facilities.primary_storage.shared_block.tables import (
    GROUP,
    GROUP_HOST,
    GROUP_TYPE,
    LUN,
    LUN_TYPE,
    lun_table,
    lun_with,
    luns_of,
)
from mn.facilities.primary_storage.tables import PRIMARY_STORAGE, SHARED_BLOCK
from mn.rest.operation import Post, Query, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref, StorageUrl

TIMEOUT_S = 3600.0
GROUPS = "/primary-storage/sharedblockgroup"
DiskId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]{2,254}$(?!\n)",
        description="the WWID of a disk, as GetSharedBlockCandidate shows it",
    ),
]
CommandFor = Callable[[HostPlace], Command[StorageReply]]
DiskIds = Annotated[list[DiskId], Meta(min_length=1, max_length=255, description="WWIDs of disks")]


class AddSharedBlockGroupPrimaryStorage(AddStorage, path=GROUPS, reply=PRIMARY_STORAGE, timeout_s=TIMEOUT_S):
    """Add a shared-block storage (manual 4.4.19.1); its group is made when its first cluster comes.

    LUNs that hold anything are refused. The system tag `sharedBlock::wipe::true` allows to wipe what a
    deleted storage of this kind has left; a volume group of somebody else, partitions and file systems never.
    """

    storage_type = SHARED_BLOCK

    disk_uuids: DiskIds
    type: Literal["SharedBlock"] = "SharedBlock"
    url: StorageUrl | None = None

    def check(self) -> None:
        """Refuse a disk that is named twice."""
        if len({bare_wwid(disk) for disk in self.disk_uuids}) != len(self.disk_uuids):
            raise illegal("parameter 'diskUuids' names a disk twice", "name each once")

    def url_of(self, uuid: str) -> str:
        """Return one that no other storage has: it is not used."""
        return f"sharedblock://{uuid}"

    async def run(self, job: Job) -> Reply:
        """Insert the rows; hosts come with the first cluster."""
        uuid = self.resource_uuid or job.uuid_for("primary-storage")
        luns = [job.uuid_for(f"lun {disk}") for disk in self.disk_uuids]
        await job.transact(insert_group, uuid, self, luns)
        return await inventory(job.services, PRIMARY_STORAGE, uuid)


class QuerySharedBlockGroupPrimaryStorage(Query, path=(GROUPS, f"{GROUPS}/{{uuid}}"), reply=GROUP):
    """Query shared-block storages with their LUNs (manual 4.4.19.3)."""


class QuerySharedBlockGroupPrimaryStorageHostRef(
    Query,
    path=(
        "/sharedblock-group/host-refs",
        "/sharedblock-group/host-refs/{uuid}",
    ),
    also_at=("/sharedblock-group/{primaryStorageUuid}/host-refs",),
    reply=GROUP_HOST,
):
    """Query how shared-block storages are on their hosts (manual 4.4.19.2): `lockState` names the cause."""


class QuerySharedBlock(
    Query,
    path=(
        "/sharedblock-group/sharedblocks",
        "/sharedblock-group/sharedblock/{uuid}",
    ),
    also_at=("/sharedblock-group/", "/sharedblock-group/sharedblocks/{uuid}"),
    reply=LUN,
):
    """Query the LUNs of shared-block storages (manual 4.4.19.7)."""


class AddSharedBlockToSharedBlockGroup(
    Post, path=f"{GROUPS}/{{uuid}}/sharedblocks", reply=GROUP, timeout_s=TIMEOUT_S
):
    """Take another LUN into a shared-block storage (manual 4.4.19.4); all its hosts have to see it.

    The system tag `sharedBlock::wipe::true` of the request allows what it does of a new storage.
    """

    uuid: Ref
    disk_uuid: DiskId

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Note it, have one host take it into the group, tell the others; a failure forgets it."""
        services, lun = job.services, job.uuid_for("lun")
        await job.transact(insert_lun, lun, self.uuid, self.disk_uuid, undo=remove_lun)
        hosts = await job.transact(load_places, self.uuid)
        await job.step(check_seen, services, hosts, self.disk_uuid)
        wipe = "sharedBlock::wipe::true" in self.system_tags
        others = await job.transact(load_others, self.uuid)
        command = ExtendGroup(storage=hosts[0].storage, wwid=self.disk_uuid, wipe=wipe, others=others)
        task = job.task_uuid()
        reply = await job.step(ask, services, hosts[0], command, task)
        services.fleet.acknowledge(hosts[0].endpoint, task)
        await job.transact(save_reply, self.uuid, hosts[0].host_uuid, reply)
        await job.step(tell_hosts, services, hosts[1:])
        return await inventory(services, GROUP, self.uuid)


class RefreshSharedblockDeviceCapacity(
    Post,
    path=f"{GROUPS}/{{sharedBlockGroupUuid}}/sharedblocks/{{uuid}}",
    also_at=(f"{GROUPS}/{{sharedBlockGroupUuid}}/sharedblocks/actions/refresh",),
    reply=GROUP,
    timeout_s=TIMEOUT_S,
):
    """Use what a LUN has gained (manual 4.4.19.6), or all LUNs of a storage when none is named."""

    shared_block_group_uuid: Ref
    uuid: Ref | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of a storage at a time."""
        return (f"primary-storage/{self.shared_block_group_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Have all hosts look, then one of them extend the group."""
        services, storage = job.services, self.shared_block_group_uuid
        wwids = await job.transact(load_wwids, storage, self.uuid)
        hosts = await job.transact(load_places, storage)
        await job.step(rescan_hosts, services, hosts, wwids)
        command = RefreshLuns(storage=hosts[0].storage, wwids=wwids, resize=True)
        task = job.task_uuid()
        reply = await job.step(ask, services, hosts[0], command, task)
        services.fleet.acknowledge(hosts[0].endpoint, task)
        await job.transact(save_reply, storage, hosts[0].host_uuid, reply)
        return await inventory(services, GROUP, storage)


def insert_group(
    connection: Connection, uuid: str, wanted: AddSharedBlockGroupPrimaryStorage, luns: list[str]
) -> None:
    """Insert the rows. Raises HardpointError: SYS.1003, SYS.1007 for a disk that a storage has already."""
    insert_storage(connection, uuid, wanted, shared_block_group_type=GROUP_TYPE)
    for lun, disk in zip(luns, wanted.disk_uuids, strict=True):
        _insert_lun(connection, lun, uuid, disk)


def insert_lun(connection: Connection, lun: str, storage_uuid: str, disk: str) -> None:
    """Insert the row of a LUN.

    Raises HardpointError: SYS.1003, SYS.1006 for a storage that takes nothing new, SYS.1007 for a disk that
    one has already.
    """
    row = find(connection, GROUP, storage_uuid)
    if row.state != "Enabled":
        raise refused(f"primary storage {row.name} ({storage_uuid}) is {row.state}", "enable it first")
    _insert_lun(connection, lun, storage_uuid, disk)


def _insert_lun(connection: Connection, lun: str, storage_uuid: str, disk: str) -> None:
    other = lun_with(connection, disk)
    if other is not None:
        raise illegal(
            f"disk {disk} belongs to primary storage {other.shared_block_group_uuid} already",
            "name one that GetSharedBlockCandidate shows",
        )
    now = now_s()
    status = find(connection, GROUP, storage_uuid).status
    values = {
        "uuid": lun,
        "name": disk[:255],
        "shared_block_group_uuid": storage_uuid,
        "type": LUN_TYPE,
        "disk_uuid": disk,
        "bare_wwid": bare_wwid(disk),
        "state": "Enabled",
        "status": status,
        "create_date": now,
        "last_op_date": now,
    }
    connection.execute(insert(lun_table), values)


def remove_lun(connection: Connection, lun: str, _storage_uuid: str, _disk: str) -> None:
    """Forget a LUN that was not taken."""
    connection.execute(delete(lun_table).where(lun_table.c.uuid == lun))


def load_places(connection: Connection, storage_uuid: str) -> list[HostPlace]:
    """Return the hosts that can use a storage now. Raises HardpointError (PS.1003) when there is none."""
    first = host_at(connection, Place(storage_uuid))
    others = (host.uuid for host in usable_hosts(connection, storage_uuid))
    return [
        first,
        *(host_at(connection, Place(storage_uuid, uuid)) for uuid in others if uuid != first.host_uuid),
    ]


def load_others(connection: Connection, storage_uuid: str) -> list[str]:
    """Return the other groups of the fleet."""
    return driver_of(SHARED_BLOCK).others(connection, storage_uuid)


def load_wwids(connection: Connection, storage_uuid: str, lun_uuid: str | None) -> list[str]:
    """Return the WWID of a LUN, or of all. Raises HardpointError (SYS.1003) when there is no such one."""
    find(connection, GROUP, storage_uuid)
    found = [row for row in luns_of(connection, storage_uuid) if lun_uuid in (None, row.uuid)]
    if not found:
        raise not_found(f"primary storage {storage_uuid} has no LUN {lun_uuid}")
    return [row.disk_uuid for row in found]


def save_reply(connection: Connection, storage_uuid: str, host_uuid: str, reply: StorageReply) -> None:
    """Write the capacity of a storage and its LUNs."""
    told = StorageEvent(storage_uuid=storage_uuid, answering=True, capacity=reply.capacity)
    save_found(connection, storage_uuid, host_uuid, told)
    save_luns(connection, storage_uuid, reply.luns)


async def ask(services: Services, at: HostPlace, command: Command[StorageReply], task: str) -> StorageReply:
    """Have a host do something with its group."""
    return await services.fleet.call(at.endpoint, command, task)


async def check_seen(services: Services, hosts: list[HostPlace], wwid: str) -> None:
    """Have all hosts look for a LUN. Raises HardpointError (SYS.1006) of one that does not see it."""
    await _each(services, hosts, lambda at: RefreshLuns(storage=at.storage, wwids=[wwid]))


async def rescan_hosts(services: Services, hosts: list[HostPlace], wwids: list[str]) -> None:
    """Have all hosts look how large LUNs are."""
    await _each(services, hosts, lambda at: RefreshLuns(storage=at.storage, wwids=wwids))


async def tell_hosts(services: Services, hosts: list[HostPlace]) -> None:
    """Tell hosts what LUNs a storage has now."""
    await _each(services, hosts, lambda at: InitStorage(storage=at.storage, first=False))


async def _each(services: Services, hosts: list[HostPlace], command_for: CommandFor) -> None:
    async def one(at: HostPlace) -> None:
        task = new_uuid()
        await services.fleet.call(at.endpoint, command_for(at), task)
        services.fleet.acknowledge(at.endpoint, task)

    outcomes = await asyncio.gather(*(one(at) for at in hosts), return_exceptions=True)
    failed = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)
    if failed is not None:
        raise failed
