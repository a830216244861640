"""The disks that a VM is created with: its root volume, of an image, and empty data volumes of offerings."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, update

from mn.db.global_settings import GlobalSettings
from mn.facilities.common import find
from mn.facilities.images.tables import IMAGE
from mn.facilities.offerings import offered_size
from mn.facilities.primary_storage.capacity import Place, room
from mn.facilities.primary_storage.connecting import usable_hosts
from mn.facilities.primary_storage.refusals import refused
from mn.facilities.primary_storage.tables import (
    LOCAL,
    PRIMARY_STORAGE,
    load_storage,
    storages_of_cluster,
)
from mn.facilities.vms.allocation import Wish, choose_host
from mn.facilities.vms.tables import State, vm_in, vm_table
from mn.facilities.volumes.from_image import ROOT_TEMPLATE, check_media_type, image_to_cache
from mn.facilities.volumes.life import NewVolume, create_root_volume, create_volume
from mn.rest.services import Job


class FirstDisks(msgspec.Struct, frozen=True):
    """What disks a VM is to have; `storage_uuid`: where they are to be, None: where there is most room.

    `root_tags` are system tags of the root volume.
    """

    name: str
    image_uuid: str | None = None
    root_offering_uuid: str | None = None
    data_offering_uuids: list[str] = []
    storage_uuid: str | None = None
    root_tags: list[str] = []

    @property
    def any(self) -> bool:
        """Whether there is a disk to be made."""
        return self.image_uuid is not None or bool(self.data_offering_uuids)


class Plan(msgspec.Struct, frozen=True):
    """Where the disks are to be made and how large (bytes); `host_uuid` is None on a shared storage."""

    zone_uuid: str
    storage_uuid: str
    host_uuid: str | None
    root_size: int
    data_sizes: list[int]


async def create_first_disks(job: Job, vm_uuid: str, wanted: FirstDisks, wish: Wish) -> None:
    """Make a VM's disks where a host with room for it can use them; undone when the job fails.

    Raises HardpointError: SYS.1003, SYS.1006, SYS.1007 for what does not exist, is disabled or does not fit,
    VM.1000 when no host can have the VM and its disks, PS.1000 for too little room.
    """
    plan = await job.transact(plan_disks, vm_uuid, wanted, wish, job.services.global_settings)
    if wanted.image_uuid is not None:
        image = await image_to_cache(job, wanted.image_uuid, plan.zone_uuid)
        job.at(30)
        root = await create_root_volume(
            job,
            vm_uuid,
            image,
            plan.storage_uuid,
            plan.host_uuid,
            name=f"ROOT-for-{wanted.name}",
            size=plan.root_size,
            system_tags=wanted.root_tags,
        )
        await job.transact(note_root, vm_uuid, root)
    for number, size in enumerate(plan.data_sizes, start=1):
        new = NewVolume(
            job.uuid_for(f"data volume {number} of {vm_uuid}"),
            f"DATA-{number}-for-{wanted.name}",
            "Data",
            size,
            storage_uuid=plan.storage_uuid,
            host_uuid=plan.host_uuid,
            disk_offering_uuid=wanted.data_offering_uuids[number - 1],
            vm_uuid=vm_uuid,
            device_id=number,
        )
        await create_volume(job, new)


def plan_disks(
    connection: Connection, vm_uuid: str, wanted: FirstDisks, wish: Wish, settings: GlobalSettings
) -> Plan:
    """Return where a VM's disks are to be made; raises HardpointError as `create_first_disks` does."""
    vm = vm_in(connection, vm_uuid, State.CREATED, State.STOPPED)
    root_size = 0
    if wanted.image_uuid is not None:
        check_media_type(connection, wanted.image_uuid, ROOT_TEMPLATE)
        root_size = find(connection, IMAGE, wanted.image_uuid).size or 0
    if wanted.root_offering_uuid is not None:
        root_size = max(root_size, _enabled_size(connection, wanted.root_offering_uuid))
    data_sizes = [_enabled_size(connection, offering) for offering in wanted.data_offering_uuids]
    if wanted.storage_uuid is not None:
        find(connection, PRIMARY_STORAGE, wanted.storage_uuid)

    def lacks_storage(connection: Connection, _vm_uuid: str, host: Row[Any]) -> str | None:
        found = _storages(connection, host, wanted.storage_uuid, settings)
        return None if found else "it has no enabled primary storage that it can use"

    host = choose_host(connection, vm, wish, settings, lacks_storage)
    storage = _storages(connection, host, wanted.storage_uuid, settings)[0]
    host_uuid = host.uuid if storage.type == LOCAL else None
    return Plan(vm.zone_uuid, storage.uuid, host_uuid, root_size, data_sizes)


def note_root(connection: Connection, vm_uuid: str, volume_uuid: str) -> None:
    """Write which volume is a VM's root volume."""
    table = vm_table
    connection.execute(update(table).where(table.c.uuid == vm_uuid).values(root_volume_uuid=volume_uuid))


def _storages(
    connection: Connection, host: Row[Any], only: str | None, settings: GlobalSettings
) -> list[Row[Any]]:
    """Return the storages that a host can make disks on, the one with the most room first."""
    found = []
    for uuid in storages_of_cluster(connection, host.cluster_uuid):
        row = load_storage(connection, uuid) if only in (None, uuid) else None
        if row is None or row.state != "Enabled":
            continue
        if host.uuid in {usable.uuid for usable in usable_hosts(connection, uuid)}:
            place = Place(uuid, host.uuid if row.type == LOCAL else None)
            found.append((room(connection, place, settings), row))
    return [row for _, row in sorted(found, key=lambda one: (-one[0], one[1].seq))]


def _enabled_size(connection: Connection, offering_uuid: str) -> int:
    size, state = offered_size(connection, offering_uuid)
    if state != "Enabled":
        raise refused(f"disk offering {offering_uuid} is {state}", "enable it, or choose another one")
    return size
