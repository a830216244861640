"""Ceph storage (manual 4.4.18): volumes are RBD images in the pools of a cluster."""

from __future__ import annotations

import logging
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, update

from agentkit.errors import HardpointError
from cephagent.protocol import DropClones, PurgeTrash, TakeKey
from kvmagent.protocol_ceph import RAW, in_pool, rbd_place
from kvmagent.protocol_storage import StorageKind, StorageSpec
from mn.db.global_settings import CEPH_DELETE_POOL
from mn.db.schema import new_uuid
from mn.facilities.ceph.asking import agent_of, ask
from mn.facilities.ceph.caring import leave, reconnect
from mn.facilities.ceph.changing import MonUrls
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
from mn.facilities.ceph.pools import PoolNameParameter, make_pool, undo_pool, unmake_pool
from mn.facilities.ceph.servers import refresh_storage
from mn.facilities.ceph.urls import MonUrl, parse_mon_urls
from mn.facilities.common import add, find, inventory
from mn.facilities.primary_storage.ceph_hosts import (
    cluster_of,
    load_clients,
    load_mons,
    named_pools,
    pool_names,
    tagged_pool,
)
from mn.facilities.primary_storage.ceph_keys import give_key, give_keys
from mn.facilities.primary_storage.ceph_pools import insert_pool
from mn.facilities.primary_storage.ceph_tables import CACHE, CEPH_STORAGE, DATA, KIND, ROOT, pools_of
from mn.facilities.primary_storage.driver import Driver, register_driver
from mn.facilities.primary_storage.tables import (
    CEPH,
    PRIMARY_STORAGE,
    host_ref_table,
    primary_storage_table,
)
from mn.facilities.tags.rules import drop_tags
from mn.facilities.zones import ZONE
from mn.rest.operation import Create, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Description, Name, Ref

log = logging.getLogger(__name__)

NOT_USED = "not used"
TIMEOUT_S = 3 * 3600.0


class WantedPool(msgspec.Struct, frozen=True):
    """A pool that a storage is to have; `create`: it is made for it."""

    name: str
    type: str
    create: bool


class CephDriver(Driver):
    """RBD images of a cluster."""

    kind = StorageKind.CEPH
    is_reported = True
    disk_format = RAW
    is_flat = True

    def check_url(self, url: str) -> None:
        """Nothing is made of it."""

    def mount_path(self, uuid: str, url: str) -> str:
        """There is none."""
        return NOT_USED

    def shown_path(self, row: Row[Any], path: str) -> str:
        """Return the pool and the image."""
        return f"ceph://{self.host_path(row, path)}"

    def host_path(self, row: Row[Any], path: str) -> str:
        """Return the same as VMs' hosts know it."""
        place = rbd_place(cluster_of(row, named_pools(path)), path)
        return place.named if place is not None else path

    def volume_path(self, connection: Connection, row: Row[Any], volume: Row[Any], path: str) -> str:
        """Have it in the pool that the volume's tag names. Raises HardpointError (SYS.1007) for none."""
        return in_pool(path, tagged_pool(connection, row, volume))

    def cached_format(self, image_format: str) -> str:
        """Volumes are clones, which raw images only can have."""
        return self.disk_format

    async def key(self, services: Services, storage: StorageSpec) -> str | None:
        """Ask an agent beside a monitor, which makes it where there is none."""
        return None if storage.ceph is None else await give_key(services, storage.uuid, storage.ceph.user)

    def gave_key(self, connection: Connection, storage: StorageSpec, host_uuid: str) -> None:
        """Write which client the host is."""
        refs = host_ref_table
        mine = (refs.c.primary_storage_uuid == storage.uuid) & (refs.c.host_uuid == host_uuid)
        user = storage.ceph.user if storage.ceph is not None else None
        connection.execute(update(refs).where(mine).values(ceph_client=user))

    async def let_read_origins(self, services: Services, uuid: str) -> None:
        """Have the hosts' keys read the pools that images of the cache are clones of, or are to be."""
        await give_keys(services, uuid)

    async def leave_origins(self, services: Services, uuid: str, pools: list[str]) -> None:
        """Take that back where nothing of a pool is needed; deleted images there may go now."""
        try:
            await give_keys(services, uuid)
            for pool in pools:
                await ask(services, KIND, uuid, PurgeTrash(pool=pool), new_uuid())
        except HardpointError as error:  # both are done again by the hour, and when hosts connect
            extra = {"storage": uuid, "reason": error.details}
            log.warning("the pools of backup storages were not left", extra=extra)

    def spec(self, connection: Connection, row: Row[Any], host_uuid: str | None = None) -> StorageSpec:
        """Return the cluster as its monitors have it, and the storage's pools."""
        more = [pool.pool_name for pool in pools_of(connection, row.uuid)]
        cluster = msgspec.structs.replace(cluster_of(row, more), mons=load_mons(connection, row))
        return StorageSpec(uuid=row.uuid, kind=self.kind, url=row.url, ceph=cluster)

    def recheck(self, connection: Connection, uuid: str) -> None:
        """Write what the agents said last."""
        refresh_storage(connection, KIND, uuid)

    async def connect(self, job: Job, uuid: str) -> None:
        """Bring the agents to the monitors' hosts again."""
        await reconnect(job, KIND, uuid)

    async def remove(self, job: Job, uuid: str) -> None:
        """Remove what images of backup storages cannot go for, take the hosts' key back.

        Remove the pools that were made for it when the settings say so; then the agents go.
        """
        await job.step(try_to_drop_clones, job.services, uuid, job.task_uuid())
        await job.step(try_to_take_key, job.services, uuid, job.task_uuid())
        if await job.transact(read_switch, job.services.global_settings[CEPH_DELETE_POOL]):
            at = await job.transact(agent_of, KIND, uuid)
            for name in await job.transact(own_pools, uuid):
                await job.step(unmake_pool, job.services, KIND, at, uuid, name, job.task_uuid())
        await leave(job, KIND, uuid)


register_driver(CephDriver())


class AddCephPrimaryStorage(Create, path="/primary-storage/ceph", reply=CEPH_STORAGE, timeout_s=TIMEOUT_S):
    """Add the pools of a Ceph cluster, known by its monitors (manual 4.4.18.1).

    An agent is brought to each monitor's host. Pools that are named must be there, others are made. Monitors
    whose host cannot be joined are left out when another one can.
    """

    mon_urls: MonUrls
    name: Name
    zone_uuid: Ref
    root_volume_pool_name: PoolNameParameter | None = None
    data_volume_pool_name: PoolNameParameter | None = None
    image_cache_pool_name: PoolNameParameter | None = None
    url: str | None = None
    description: Description | None = None
    type: Literal["Ceph"] = "Ceph"

    def check(self) -> None:
        """Refuse URLs of no monitor."""
        parse_mon_urls(self.mon_urls)

    def locks(self) -> tuple[str, ...]:
        """One change of a monitor's host at a time."""
        return server_locks(parse_mon_urls(self.mon_urls))

    async def run(self, job: Job) -> Reply:
        """Do it, undo it."""
        uuid = self.resource_uuid or job.uuid_for("primary-storage")
        urls = parse_mon_urls(self.mon_urls)
        try:
            await self._add(job, uuid, urls)
        except HardpointError as error:
            raise unable_to_add(f"Ceph primary storage {self.name}", error) from error
        return await inventory(job.services, CEPH_STORAGE, uuid)

    async def _add(self, job: Job, uuid: str, urls: list[MonUrl]) -> None:
        services = job.services
        pools = self._pools(uuid)
        await job.transact(insert_storage, uuid, self, pools, undo=remove_storage)
        logins = await job.transact(insert_mons, KIND, uuid, urls, services.vault, undo=drop_mons)
        found = await join_all(job, logins, None, {url.hostname: url.mon_port for url in urls})
        await job.transact(save_cluster, KIND, uuid, found.fsid)
        for pool in pools:
            task = job.task_uuid()
            report = await job.step(
                make_pool, services, KIND, found.at, uuid, pool.name, task, pool.create, undo=undo_pool
            )
            await job.transact(insert_pool, uuid, pool.name, pool.type, pool.create, report)
        await settle(job, KIND, uuid, found)
        await job.step(follow_all, services, [each for each in logins if each.hostname not in found.failed])

    def _pools(self, uuid: str) -> list[WantedPool]:
        wanted = (
            (self.root_volume_pool_name, f"pri-v-r-{uuid}", ROOT),
            (self.data_volume_pool_name, f"pri-v-d-{uuid}", DATA),
            (self.image_cache_pool_name, f"pri-c-{uuid}", CACHE),
        )
        return [WantedPool(given or own, kind, given is None) for given, own, kind in wanted]


def insert_storage(
    connection: Connection, uuid: str, wanted: AddCephPrimaryStorage, pools: list[WantedPool]
) -> None:
    """Insert the row, Connecting. Raises HardpointError (SYS.1003) when its zone does not exist."""
    find(connection, ZONE, wanted.zone_uuid)
    root, data, cache = (pool.name for pool in pools)
    values: dict[str, Any] = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "zone_uuid": wanted.zone_uuid,
        "url": NOT_USED,
        "type": CEPH,
        "state": "Enabled",
        "status": "Connecting",
        "mount_path": NOT_USED,
        "attached_cluster_uuids": [],
        "initialised": False,
        "root_volume_pool_name": root,
        "data_volume_pool_name": data,
        "image_cache_pool_name": cache,
    }
    add(connection, PRIMARY_STORAGE, values, wanted)


def remove_storage(connection: Connection, uuid: str, *_: object) -> None:
    """Remove the row that a job inserted, with its tags; its parts go with it."""
    connection.execute(primary_storage_table.delete().where(primary_storage_table.c.uuid == uuid))
    drop_tags(connection, uuid)


def read_switch(_connection: Connection, value: float) -> bool:
    """Return the setting as it is when the job begins."""
    return bool(value)


async def try_to_drop_clones(services: Services, uuid: str, task_uuid: str) -> None:
    """Remove cached images that are clones of a backup storage's, which could not be removed before them."""
    try:
        pools = await services.db.read(pool_names, uuid)
        await ask(services, KIND, uuid, DropClones(pools=pools), task_uuid)
    except HardpointError as error:
        extra = {"storage": uuid, "reason": error.details}
        log.warning("clones of a backup storage's images are left on a Ceph cluster", extra=extra)


async def try_to_take_key(services: Services, uuid: str, task_uuid: str) -> None:
    """Take the keys of a storage's hosts from the cluster; a cluster that cannot be asked keeps them."""
    clients = await services.db.read(load_clients, uuid)
    try:
        for number, client in enumerate(clients):
            task = f"{int(task_uuid, 16) ^ number:032x}"
            await ask(services, KIND, uuid, TakeKey(user=client), task)
    except HardpointError as error:
        extra = {"storage": uuid, "clients": clients, "reason": error.details}
        log.warning("the key of a Ceph storage is left on its cluster", extra=extra)


def own_pools(connection: Connection, uuid: str) -> list[str]:
    """Return the pools that were made for a storage."""
    return [pool.pool_name for pool in pools_of(connection, uuid) if pool.self_made]
