"""The monitors of Ceph backup storages (manual 4.5.15.2 to 4.5.15.5)."""

from __future__ import annotations

from mn.facilities.backup_storage.ceph_tables import CEPH_STORAGE, KIND
from mn.facilities.backup_storage.driver import register_care
from mn.facilities.backup_storage.tables import CEPH_TYPE
from mn.facilities.ceph.caring import leave, reconnect
from mn.facilities.ceph.changing import TIMEOUT_S, AddMons, RemoveMons, UpdateMon
from mn.rest.operation import Query
from mn.rest.services import Job

MONS = "/backup-storage/ceph/{uuid}/mons"


class QueryCephBackupStorage(
    Query, path=("/backup-storage/ceph", "/backup-storage/ceph/{uuid}"), reply=CEPH_STORAGE
):
    """Query Ceph backup storages (manual 4.5.15.2)."""


class AddMonToCephBackupStorage(AddMons, path=MONS, reply=CEPH_STORAGE, timeout_s=TIMEOUT_S):
    """Add monitors to a Ceph backup storage (manual 4.5.15.4): all of them, or none."""

    storage = KIND


class RemoveMonFromCephBackupStorage(RemoveMons, path=MONS, reply=CEPH_STORAGE, timeout_s=TIMEOUT_S):
    """Remove monitors from a Ceph backup storage by their hosts (manual 4.5.15.5); the last one stays."""

    storage = KIND


class UpdateCephBackupStorageMon(
    UpdateMon, path="/backup-storage/ceph/mons/{monUuid}/actions", reply=CEPH_STORAGE, timeout_s=TIMEOUT_S
):
    """Change how a monitor is reached (manual 4.5.15.3); it holds from the next reconnect on."""

    storage = KIND


class CephCare:
    """Ceph backup storages; see the contract (`Care`) for the methods."""

    async def reconnect(self, job: Job, uuid: str) -> None:
        """Bring the agents to the monitors' hosts again."""
        await reconnect(job, KIND, uuid)

    async def leave(self, job: Job, uuid: str) -> None:
        """Take the agents away; the pool stays with its images."""
        await leave(job, KIND, uuid)


register_care(CEPH_TYPE, CephCare())
