"""Moving volumes to another primary storage (manual 4.4.13, 4.4.14)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Row, select

from mn.db.global_settings import GlobalSettings
from mn.facilities.common import find, inventory
from mn.facilities.primary_storage.capacity import Place, room
from mn.facilities.primary_storage.connecting import HostPlace, host_at, usable_hosts
from mn.facilities.primary_storage.refusals import illegal, refused
from mn.facilities.primary_storage.tables import LOCAL, PRIMARY_STORAGE, primary_storage_table
from mn.facilities.volumes.migrating import begin_move, end_move, move_volume, needed_room
from mn.facilities.volumes.tables import VOLUME
from mn.facilities.volumes.use import quiet_volume
from mn.query.plan import load_one
from mn.rest.operation import Action, Get, Reply
from mn.rest.services import Call, Job
from mn.rest.types import Ref

TIMEOUT_S = 24 * 3600.0


class GetPrimaryStorageCandidatesForVolumeMigration(
    Get,
    path="/primary-storage/volumes/{volumeUuid}/migration-candidates",
    returns={"inventories": Annotated[list[dict[str, Any]], Meta(description="primary storages")]},
):
    """List the primary storages that a volume can be moved to (manual 4.4.13).

    Some host uses both, whatever their types are; for a volume on a local storage that is its host. To
    another host of its local storage it is moved by LocalStorageMigrateVolume.
    """

    volume_uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Read the storages."""
        settings = call.services.global_settings
        found = await call.services.db.read(load_candidates, self.volume_uuid, settings)
        return {"inventories": [msgspec.Raw(storage.encode()) for storage in found]}


class PrimaryStorageMigrateVolume(
    Action, path="/primary-storage/volumes/{volumeUuid}/actions", reply=VOLUME, timeout_s=TIMEOUT_S
):
    """Move a volume to another primary storage (manual 4.4.14); no running VM may have it."""

    volume_uuid: Ref
    dst_primary_storage_uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a volume at a time."""
        return (f"volume/{self.volume_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Copy the files on a host that has both storages, then change the rows."""
        services, settings = job.services, job.services.global_settings
        both = await job.transact(check_move, self.volume_uuid, self.dst_primary_storage_uuid, settings)
        move = await job.transact(
            begin_move,
            self.volume_uuid,
            both.source,
            both.target,
            both.place,
            settings,
            undo=end_move,
        )
        await move_volume(job, move)
        return await inventory(services, VOLUME, self.volume_uuid)


class Both(msgspec.Struct, frozen=True):
    """A host that has both storages, and where the volume will be."""

    source: HostPlace
    target: HostPlace
    place: Place


def load_candidates(connection: Connection, volume_uuid: str, settings: GlobalSettings) -> list[str]:
    """Return the inventories of a volume's candidates. Raises HardpointError (SYS.1003)."""
    places = _candidates(connection, find(connection, VOLUME, volume_uuid), settings)
    return [load_one(connection, PRIMARY_STORAGE, uuid) or "" for uuid in places]


def check_move(connection: Connection, volume_uuid: str, storage_uuid: str, settings: GlobalSettings) -> Both:
    """Return a host that has both storages.

    Raises HardpointError: SYS.1003 for what does not exist, SYS.1007 for a storage that is no candidate,
    SYS.1006 and VOLUME.1000 for a volume that is not to be moved now.
    """
    row = find(connection, VOLUME, volume_uuid)
    target = find(connection, PRIMARY_STORAGE, storage_uuid)
    quiet_volume(connection, volume_uuid)
    if row.is_shareable:
        raise refused(f"volume {row.name} ({volume_uuid}) is shareable", "make a copy of it instead")
    place = _candidates(connection, row, settings).get(storage_uuid)
    if place is None:
        raise illegal(
            f"primary storage {target.name} ({storage_uuid}) is none that volume {row.name} ({volume_uuid}) "
            "can be moved to",
            "see GetPrimaryStorageCandidatesForVolumeMigration",
        )
    hosts = _hosts(connection, storage_uuid) if place.host_uuid is None else [place.host_uuid]
    mine = _source_hosts(connection, row)
    host = next(uuid for uuid in hosts if uuid in mine)
    return Both(_on(connection, row.primary_storage_uuid, host), _on(connection, storage_uuid, host), place)


def _candidates(connection: Connection, row: Row[Any], settings: GlobalSettings) -> dict[str, Place]:
    """Return where a volume can go on each storage that has room for it."""
    if row.primary_storage_uuid is None:
        return {}
    source = find(connection, PRIMARY_STORAGE, row.primary_storage_uuid)
    table = primary_storage_table.c
    others = (table.zone_uuid == source.zone_uuid) & (table.uuid != source.uuid)
    usable = others & (table.state == "Enabled") & (table.status == "Connected")
    mine = set(_source_hosts(connection, row))
    found = {}
    for storage in connection.execute(select(table.uuid, table.type).where(usable).order_by(table.seq)).all():
        hosts = [uuid for uuid in _hosts(connection, storage.uuid) if uuid in mine]
        if not hosts:
            continue
        alone = [Place(storage.uuid, uuid) for uuid in hosts]
        places = alone if storage.type == LOCAL else [Place(storage.uuid)]
        roomy = max(places, key=lambda place: room(connection, place, settings))
        if room(connection, roomy, settings) >= needed_room(connection, row.uuid, roomy):
            found[storage.uuid] = roomy
    return found


def _source_hosts(connection: Connection, row: Row[Any]) -> list[str]:
    """Return the hosts that have a volume: the one of a volume on local storage."""
    hosts = _hosts(connection, row.primary_storage_uuid)
    return [uuid for uuid in hosts if row.host_uuid in (None, uuid)]


def _hosts(connection: Connection, storage_uuid: str) -> list[str]:
    return [host.uuid for host in usable_hosts(connection, storage_uuid)]


def _on(connection: Connection, storage_uuid: str, host_uuid: str) -> HostPlace:
    return host_at(connection, Place(storage_uuid, host_uuid))
