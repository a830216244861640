"""Attaching backup storages to zones (manual 4.5.10, 4.5.11)."""

from __future__ import annotations

from mn.facilities.backup_storage.tables import BACKUP_STORAGE, attach_zone, detach_zone
from mn.facilities.common import inventory
from mn.rest.operation import Create, Delete, Reply
from mn.rest.services import Job
from mn.rest.types import Ref, Uuid

PATH = "/zones/{zoneUuid}/backup-storage/{backupStorageUuid}"


class AttachBackupStorageToZone(Create, path=PATH, reply=BACKUP_STORAGE):
    """Let a zone use the images of a backup storage (manual 4.5.10)."""

    zone_uuid: Ref
    backup_storage_uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of either at a time."""
        return (f"zone/{self.zone_uuid}", f"backup-storage/{self.backup_storage_uuid}")

    async def run(self, job: Job) -> Reply:
        """Write the reference."""
        await job.transact(attach_zone, self.backup_storage_uuid, self.zone_uuid)
        return await inventory(job.services, BACKUP_STORAGE, self.backup_storage_uuid)


class DetachBackupStorageFromZone(Delete, path=PATH, reply=BACKUP_STORAGE):
    """Take a backup storage from a zone (manual 4.5.11)."""

    zone_uuid: Uuid
    backup_storage_uuid: Uuid

    def locks(self) -> tuple[str, ...]:
        """One change of either at a time."""
        return (f"zone/{self.zone_uuid}", f"backup-storage/{self.backup_storage_uuid}")

    async def run(self, job: Job) -> Reply:
        """Remove the reference."""
        await job.transact(detach_zone, self.backup_storage_uuid, self.zone_uuid)
        return await inventory(job.services, BACKUP_STORAGE, self.backup_storage_uuid)
