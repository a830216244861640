"""The operations that all backup storages have (manual 4.5.1 to 4.5.7)."""

from __future__ import annotations

import logging
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, func, select

from agentkit.errors import Blame, HardpointError
from mn.facilities.backup_storage.driver import care_of, known_types
from mn.facilities.backup_storage.tables import (
    BACKUP_STORAGE,
    backup_storage_table,
    change_storage,
    load_storage,
    zone_ref_table,
)
from mn.facilities.cascade import delete_row
from mn.facilities.common import DeletionMode, change, find, inventory
from mn.facilities.states import check_event, state_after
from mn.rest.operation import Action, Delete, Get, Query, Reply
from mn.rest.services import Call, Job
from mn.rest.types import Description, Name, Ref, StateEvent, Uuid

log = logging.getLogger(__name__)


class DeleteBackupStorage(Delete, path="/backup-storage/{uuid}", timeout_s=3600.0):
    """Delete a backup storage (manual 4.5.1): its agent leaves the server, what it keeps stays there.

    Images that lie on no other backup storage are forgotten. Permissive fails, and keeps it, when the agent
    cannot be removed; Enforcing deletes it all the same.
    """

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a backup storage at a time."""
        return (f"backup-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Take the agent away, then the row; one that does not exist is deleted already."""
        kind = await job.transact(type_of, self.uuid)
        if kind is not None:
            try:
                await care_of(kind).leave(job, self.uuid)
            except HardpointError as error:
                if self.delete_mode == "Permissive":
                    raise _cannot_delete(self.uuid, error) from error
                log.warning("deleted all the same", extra={"resource": self.uuid, "reason": error.details})
            await job.transact(delete_row, BACKUP_STORAGE.name, self.uuid)
        return {}


class QueryBackupStorage(Query, path=("/backup-storage", "/backup-storage/{uuid}"), reply=BACKUP_STORAGE):
    """Query backup storages (manual 4.5.2)."""


class ChangeBackupStorageState(Action, path="/backup-storage/{uuid}/actions", reply=BACKUP_STORAGE):
    """Enable or disable a backup storage (manual 4.5.4): a disabled one takes and gives no images."""

    uuid: Ref
    state_event: StateEvent

    def check(self) -> None:
        """Backup storages can be enabled and disabled only."""
        check_event(self.state_event, "enable", "disable")

    def locks(self) -> tuple[str, ...]:
        """One change of a backup storage at a time."""
        return (f"backup-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(write_state, self.uuid, state_after(self.state_event))
        return await inventory(job.services, BACKUP_STORAGE, self.uuid)


class UpdateBackupStorage(Action, path="/backup-storage/{uuid}/actions", reply=BACKUP_STORAGE):
    """Change a backup storage's name or description (manual 4.5.7)."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of a backup storage at a time."""
        return (f"backup-storage/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_storage, self)
        return await inventory(job.services, BACKUP_STORAGE, self.uuid)


class GetBackupStorageCapacity(
    Get,
    path="/backup-storage/capacities",
    returns={
        "totalCapacity": Annotated[int, Meta(description="bytes of all that were asked for")],
        "availableCapacity": Annotated[int, Meta(description="bytes of them that are free")],
    },
):
    """Add up the capacity of backup storages (manual 4.5.5), of zones, or of all."""

    zone_uuids: list[Ref] = msgspec.field(default_factory=list)
    backup_storage_uuids: list[Ref] = msgspec.field(default_factory=list)
    of_all: bool = msgspec.field(default=False, name="all")

    def check(self) -> None:
        """Want to know of what."""
        if not (self.zone_uuids or self.backup_storage_uuids or self.of_all):
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                "GetBackupStorageCapacity: it is not said of which backup storages",
                remedy="give zoneUuids or backupStorageUuids, or all=true",
                blame=Blame.CALLER,
            )

    async def answer(self, call: Call) -> Reply:
        """Add up."""
        total, available = await call.services.db.read(add_up, self)
        return {"totalCapacity": total, "availableCapacity": available}


class GetBackupStorageTypes(
    Get,
    path="/backup-storage/types",
    returns={
        "types": Annotated[list[str], Meta(description="types of backup storages")],
        "backupStorageTypes": Annotated[list[str], Meta(description="the same")],
    },
):
    """List the types of backup storages (manual 4.5.6)."""

    async def answer(self, call: Call) -> Reply:
        """List what there are drivers for."""
        return {"types": known_types(), "backupStorageTypes": known_types()}


def type_of(connection: Connection, uuid: str) -> str | None:
    """Return a backup storage's type, None when there is no such one."""
    row = load_storage(connection, uuid)
    return None if row is None else str(row.type)


def write_state(connection: Connection, uuid: str, state: str) -> None:
    """Write a state. Raises HardpointError (SYS.1003) when there is no such backup storage."""
    if find(connection, BACKUP_STORAGE, uuid).state != state:
        change_storage(connection, uuid, state=state)


def update_storage(connection: Connection, wanted: UpdateBackupStorage) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such backup storage."""
    change(connection, BACKUP_STORAGE, wanted.uuid, {"name": wanted.name, "description": wanted.description})


def add_up(connection: Connection, wanted: GetBackupStorageCapacity) -> tuple[int, int]:
    """Return the bytes that there are and those that are free; uuids and zones narrow it down."""
    table, refs = backup_storage_table, zone_ref_table
    query = select(func.sum(table.c.total_capacity), func.sum(table.c.available_capacity))
    if wanted.backup_storage_uuids:
        query = query.where(table.c.uuid.in_(wanted.backup_storage_uuids))
    if wanted.zone_uuids:
        attached = select(refs.c.backup_storage_uuid).where(refs.c.zone_uuid.in_(wanted.zone_uuids))
        query = query.where(table.c.uuid.in_(attached))
    total, available = connection.execute(query).one()
    return int(total or 0), int(available or 0)


def _cannot_delete(uuid: str, error: HardpointError) -> HardpointError:
    return HardpointError(
        "SYS.1004",
        "Delete resource failed",
        f"backup storage {uuid} was not deleted: {error.details}",
        remedy=f"{error.remedy or 'remove the cause'}, or delete with deleteMode=Enforcing",
        cause=error,
    )
