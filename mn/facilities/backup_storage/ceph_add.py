"""AddCephBackupStorage: a pool of a cluster keeps images; all of it undone when a step fails."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection

from agentkit.errors import Blame, HardpointError
from mn.facilities.backup_storage.add import list_images
from mn.facilities.backup_storage.ceph_tables import CEPH_STORAGE, KIND
from mn.facilities.backup_storage.tables import (
    BACKUP_STORAGE,
    CEPH_TYPE,
    Store,
    backup_storage_table,
    connected_store,
)
from mn.facilities.ceph.changing import TIMEOUT_S, MonUrls
from mn.facilities.ceph.mons import (
    drop_mons,
    follow_all,
    insert_mons,
    join_all,
    save_cluster,
    server_locks,
    settle,
    unable_to_add,
)
from mn.facilities.ceph.pools import PoolNameParameter, make_pool, undo_pool
from mn.facilities.ceph.urls import MonUrl, parse_mon_urls
from mn.facilities.common import add, inventory
from mn.facilities.images.adopt import adopt_images
from mn.facilities.tags.rules import drop_tags
from mn.rest.operation import Create, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name

NOT_USED = "not used"


class AddCephBackupStorage(Create, path="/backup-storage/ceph", reply=CEPH_STORAGE, timeout_s=TIMEOUT_S):
    """Keep images in a pool of a Ceph cluster, known by its monitors (manual 4.5.15.1).

    An agent is brought to each monitor's host. A pool that is named must be there; otherwise one is made.
    `importImages` makes images known that lie in it.
    """

    mon_urls: MonUrls
    name: Name
    pool_name: PoolNameParameter | None = None
    url: str | None = None
    description: Description | None = None
    type: Literal["Ceph"] = "Ceph"
    import_images: bool = False

    def check(self) -> None:
        """Refuse URLs of no monitor, and images of a pool that is made anew."""
        parse_mon_urls(self.mon_urls)
        if self.import_images and self.pool_name is None:
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                "parameter 'importImages' is true, but there is no 'poolName'",
                remedy="name the pool that has the images",
                blame=Blame.CALLER,
            )

    def locks(self) -> tuple[str, ...]:
        """One change of a monitor's host at a time."""
        return server_locks(parse_mon_urls(self.mon_urls))

    async def run(self, job: Job) -> Reply:
        """Do it, undo it."""
        services = job.services
        uuid = self.resource_uuid or job.uuid_for("backup storage")
        try:
            await self._add(job, uuid, parse_mon_urls(self.mon_urls))
            if self.import_images:
                store = await job.transact(load_store, uuid)
                found = await job.step(list_images, services, store, job.task_uuid())
                await job.transact(adopt_images, uuid, found)
        except HardpointError as error:
            raise unable_to_add(f"Ceph backup storage {self.name}", error) from error
        return await inventory(services, CEPH_STORAGE, uuid)

    async def _add(self, job: Job, uuid: str, urls: list[MonUrl]) -> None:
        services, pool, create = job.services, self.pool_name or f"bak-t-{uuid}", self.pool_name is None
        await job.transact(insert_storage, uuid, self, pool, undo=remove_storage)
        logins = await job.transact(insert_mons, KIND, uuid, urls, services.vault, undo=drop_mons)
        found = await join_all(job, logins, None, {url.hostname: url.mon_port for url in urls})
        await job.transact(save_cluster, KIND, uuid, found.fsid)
        task = job.task_uuid()
        await job.step(make_pool, services, KIND, found.at, uuid, pool, task, create, undo=undo_pool)
        await settle(job, KIND, uuid, found)
        await job.step(follow_all, services, [each for each in logins if each.hostname not in found.failed])


def insert_storage(connection: Connection, uuid: str, wanted: AddCephBackupStorage, pool: str) -> None:
    """Insert the row, Connecting."""
    values: dict[str, Any] = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "url": NOT_USED,
        "total_capacity": 0,
        "available_capacity": 0,
        "type": CEPH_TYPE,
        "state": "Enabled",
        "status": "Connecting",
        "attached_zone_uuids": [],
        "pool_name": pool,
    }
    add(connection, BACKUP_STORAGE, values, wanted)


def remove_storage(connection: Connection, uuid: str, *_: object) -> None:
    """Remove the row that a job inserted, with its tags; its monitors go with it."""
    connection.execute(backup_storage_table.delete().where(backup_storage_table.c.uuid == uuid))
    drop_tags(connection, uuid)


def load_store(connection: Connection, uuid: str) -> Store:
    """Return a backup storage as drivers know it."""
    return connected_store(connection, uuid)
