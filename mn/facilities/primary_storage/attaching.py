"""AttachPrimaryStorageToCluster and DetachPrimaryStorageFromCluster: which clusters' hosts use a storage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import Connection, delete, insert, select

from agentkit.errors import HardpointError
from mn.db.schema import new_uuid, now_s
from mn.facilities.cascade import child_of
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import DeletionMode, find, inventory
from mn.facilities.hosts.tables import host_table
from mn.facilities.primary_storage.capacity import Place
from mn.facilities.primary_storage.connecting import (
    connect_storage,
    leave_hosts,
    load_hosts,
    release_storage,
)
from mn.facilities.primary_storage.leaving import check_empty, drop_place
from mn.facilities.primary_storage.refusals import illegal, refused
from mn.facilities.primary_storage.tables import (
    CEPH,
    CLUSTER_REF,
    LOCAL,
    PRIMARY_STORAGE,
    attached_clusters,
    change_storage,
    cluster_ref_table,
    primary_storage_table,
)
from mn.rest.operation import Delete, Post, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Uuid

log = logging.getLogger(__name__)

TIMEOUT_S = 3600.0
HOSTS_AT_ONCE = 16

StillUsed = Callable[[Connection, str, str], str | None]
"""Says what of a cluster uses a storage (`VM web (uuid) is running`), None when nothing does."""

_users: list[StillUsed] = []


def used_by(still_used: StillUsed) -> None:
    """Have a storage stay attached to a cluster while `still_used` names something."""
    _users.append(still_used)


class AttachPrimaryStorageToCluster(
    Post,
    path="/clusters/{clusterUuid}/primary-storage/{primaryStorageUuid}",
    reply=PRIMARY_STORAGE,
    timeout_s=TIMEOUT_S,
):
    """Have the hosts of a cluster use a primary storage (manual 4.4.3).

    All of them that are connected must be able to.
    """

    cluster_uuid: Uuid
    primary_storage_uuid: Uuid

    def locks(self) -> tuple[str, ...]:
        """One change of a storage's clusters at a time."""
        return (f"primary-storage/{self.primary_storage_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the reference, then initialise the storage on the hosts; a failure takes both back."""
        services, storage, cluster = job.services, self.primary_storage_uuid, self.cluster_uuid
        await job.transact(check_attach, storage, cluster)
        await job.when_undone(follow_rows, services, storage, cluster)
        await job.transact(attach, storage, cluster, undo=detach)
        hosts = await job.transact(load_hosts, storage, [cluster])
        job.at(10)
        try:
            await job.step(connect_hosts, services, storage, hosts)
        except HardpointError as error:
            raise _not_attached(storage, cluster, error) from error
        return await inventory(services, PRIMARY_STORAGE, storage)


class DetachPrimaryStorageFromCluster(
    Delete,
    path="/clusters/{clusterUuid}/primary-storage/{primaryStorageUuid}",
    reply=PRIMARY_STORAGE,
    timeout_s=TIMEOUT_S,
):
    """Have the hosts of a cluster no longer use a primary storage (manual 4.4.4)."""

    cluster_uuid: Uuid
    primary_storage_uuid: Uuid

    def locks(self) -> tuple[str, ...]:
        """One change of a storage's clusters at a time."""
        return (f"primary-storage/{self.primary_storage_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Take the reference away, then the storage from the hosts; a failure gives both back."""
        services, storage, cluster = job.services, self.primary_storage_uuid, self.cluster_uuid
        await job.transact(check_detach, storage, cluster)
        await job.when_undone(follow_rows, services, storage, cluster)
        await job.transact(detach, storage, cluster, undo=attach_again)
        hosts = await job.transact(load_hosts, storage, [cluster])
        try:
            await job.step(release_hosts, services, storage, hosts)
        except HardpointError as error:
            raise _not_detached(storage, cluster, error) from error
        await job.transact(forget_hosts, storage, cluster)
        return await inventory(services, PRIMARY_STORAGE, storage)


def check_attach(connection: Connection, storage_uuid: str, cluster_uuid: str) -> None:
    """Raise HardpointError when a storage cannot be attached to a cluster.

    SYS.1003 for what does not exist, SYS.1006 and SYS.1007 for what does not fit.
    """
    row, cluster = find(connection, PRIMARY_STORAGE, storage_uuid), find(connection, CLUSTER, cluster_uuid)
    named = f"primary storage {row.name} ({storage_uuid})"
    if cluster_uuid in attached_clusters(connection, storage_uuid):
        raise refused(f"{named} is attached to cluster {cluster.name} ({cluster_uuid}) already", "detach it")
    if row.zone_uuid != cluster.zone_uuid:
        raise illegal(
            f"{named} is in zone {row.zone_uuid}, cluster {cluster_uuid} in another",
            "name a cluster of the storage's zone",
        )
    if cluster.hypervisor_type != "KVM":
        raise refused(
            f"cluster {cluster.name} ({cluster_uuid}) is of hypervisorType {cluster.hypervisor_type}: hosts "
            "of it have no disks",
            "name a cluster whose hypervisorType is KVM",
        )
    if row.state == "Deleting":
        raise refused(f"{named} is being deleted", "add another one")
    if row.type != CEPH:  # whose url says nothing
        _check_url_free(connection, row.type, row.url, cluster_uuid)


def attach(connection: Connection, storage_uuid: str, cluster_uuid: str) -> None:
    """Write that a storage is attached to a cluster. Raises HardpointError as `check_attach` does."""
    check_attach(connection, storage_uuid, cluster_uuid)
    attach_again(connection, storage_uuid, cluster_uuid)


def attach_again(connection: Connection, storage_uuid: str, cluster_uuid: str) -> None:
    """Write that a storage is attached to a cluster, where both are there still."""
    now = now_s()
    values = {"uuid": new_uuid(), "primary_storage_uuid": storage_uuid, "cluster_uuid": cluster_uuid}
    connection.execute(insert(cluster_ref_table), {**values, "create_date": now, "last_op_date": now})
    _show_clusters(connection, storage_uuid)


def detach(connection: Connection, storage_uuid: str, cluster_uuid: str) -> None:
    """Write that a storage is no longer attached to a cluster."""
    refs = cluster_ref_table.c
    mine = (refs.primary_storage_uuid == storage_uuid) & (refs.cluster_uuid == cluster_uuid)
    connection.execute(delete(cluster_ref_table).where(mine))
    _show_clusters(connection, storage_uuid)


def check_detach(connection: Connection, storage_uuid: str, cluster_uuid: str) -> None:
    """Raise HardpointError (SYS.1003, SYS.1006) when a storage cannot be detached from a cluster."""
    row, cluster = find(connection, PRIMARY_STORAGE, storage_uuid), find(connection, CLUSTER, cluster_uuid)
    named = f"primary storage {row.name} ({storage_uuid})"
    if cluster_uuid not in attached_clusters(connection, storage_uuid):
        raise refused(
            f"{named} is not attached to cluster {cluster.name} ({cluster_uuid})", "see attachedClusterUuids"
        )
    for still_used in _users:
        user = still_used(connection, storage_uuid, cluster_uuid)
        if user is not None:
            raise refused(f"{named} is in use: {user}", "stop what uses it first")
    if row.type == LOCAL:
        for host_uuid in _hosts_of(connection, cluster_uuid):
            place = Place(storage_uuid, host_uuid)
            check_empty(connection, place, f"{named} cannot leave host {host_uuid}")


def forget_hosts(connection: Connection, storage_uuid: str, cluster_uuid: str) -> None:
    """Forget that the hosts of a cluster use a storage."""
    hosts = _hosts_of(connection, cluster_uuid)
    if find(connection, PRIMARY_STORAGE, storage_uuid).type == LOCAL:
        for host_uuid in hosts:
            drop_place(connection, Place(storage_uuid, host_uuid))
    leave_hosts(connection, storage_uuid, hosts)


async def connect_hosts(services: Services, storage_uuid: str, host_uuids: list[str]) -> None:
    """Initialise a storage on hosts, the first one alone: a shared storage gets its marker there."""
    await _each(services, storage_uuid, host_uuids, connect_storage)


async def try_to_connect_hosts(services: Services, storage_uuid: str, host_uuids: list[str]) -> None:
    """Have hosts know what has changed of a storage; those that are away are told when they connect."""
    try:
        await connect_hosts(services, storage_uuid, host_uuids)
    except HardpointError as error:
        extra = {"storage": storage_uuid, "reason": error.details}
        log.warning("a host does not know of a storage's change", extra=extra)


async def release_hosts(services: Services, storage_uuid: str, host_uuids: list[str]) -> None:
    """Have hosts no longer use a storage."""
    await _each(services, storage_uuid, host_uuids, release_storage)
    await services.db.write(leave_hosts, storage_uuid, host_uuids)


async def follow_rows(services: Services, storage_uuid: str, cluster_uuid: str) -> None:
    """Have the hosts of a cluster use a storage or not, as the rows say.

    One that cannot release it does so when it is connected next. Raises HardpointError when one cannot use
    it.
    """
    hosts = await services.db.read(load_hosts, storage_uuid, [cluster_uuid])
    if cluster_uuid in await services.db.read(attached_clusters, storage_uuid):
        await connect_hosts(services, storage_uuid, hosts)
        return
    try:
        await _each(services, storage_uuid, hosts, release_storage)
    except HardpointError as error:
        log.warning("storage not released", extra={"storage": storage_uuid, "reason": error.details})
    await services.db.write(leave_cluster_hosts, storage_uuid, cluster_uuid)


def leave_cluster_hosts(connection: Connection, storage_uuid: str, cluster_uuid: str) -> None:
    """Forget that hosts of a cluster, connected or not, use a storage."""
    leave_hosts(connection, storage_uuid, _hosts_of(connection, cluster_uuid))


async def _each(
    services: Services, storage_uuid: str, host_uuids: list[str], do: Callable[..., object]
) -> None:
    """Do something on some hosts at once. Raises the first HardpointError when all have ended."""
    places = asyncio.Semaphore(HOSTS_AT_ONCE)

    async def one(host_uuid: str) -> None:
        async with places:
            await do(services, storage_uuid, host_uuid)  # type: ignore[misc]

    outcomes = await asyncio.gather(*(one(uuid) for uuid in host_uuids), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def leave_cluster(job: Job, uuid: str, _mode: DeletionMode) -> None:
    """Take a storage from a cluster that is deleted; its hosts are gone by now."""
    await job.transact(drop_reference, uuid)


def drop_reference(connection: Connection, ref_uuid: str) -> None:
    """Forget that a storage is attached to a cluster."""
    refs = cluster_ref_table
    row = connection.execute(select(refs).where(refs.c.uuid == ref_uuid)).first()
    if row is not None:
        detach(connection, row.primary_storage_uuid, row.cluster_uuid)


child_of(CLUSTER, CLUSTER_REF, "cluster_uuid", remove=leave_cluster)


def _show_clusters(connection: Connection, storage_uuid: str) -> None:
    clusters = attached_clusters(connection, storage_uuid)
    change_storage(connection, storage_uuid, attached_cluster_uuids=clusters)


def _check_url_free(connection: Connection, kind: str, url: str, cluster_uuid: str) -> None:
    table, refs = primary_storage_table, cluster_ref_table.c
    joined = table.join(cluster_ref_table, refs.primary_storage_uuid == table.c.uuid)
    same = (refs.cluster_uuid == cluster_uuid) & (table.c.type == kind) & (table.c.url == url)
    other = connection.execute(select(table.c.name, table.c.uuid).select_from(joined).where(same)).first()
    if other is not None:
        raise refused(
            f"cluster {cluster_uuid} has {url} already, as primary storage {other.name} ({other.uuid})",
            "attach one of the two only",
        )


def _hosts_of(connection: Connection, cluster_uuid: str) -> list[str]:
    found = select(host_table.c.uuid).where(host_table.c.cluster_uuid == cluster_uuid)
    return list(connection.execute(found).scalars())


def _not_attached(storage: str, cluster: str, error: HardpointError) -> HardpointError:
    return HardpointError(
        "PS.1001",
        "Unable to attach primary storage",
        f"primary storage {storage} was not attached to cluster {cluster}: {error.details}",
        remedy=error.remedy,
        blame=error.blame,
        cause=error,
    )


def _not_detached(storage: str, cluster: str, error: HardpointError) -> HardpointError:
    return HardpointError(
        "PS.1002",
        "Unable to detach primary storage",
        f"primary storage {storage} was not detached from cluster {cluster}: {error.details}",
        remedy=error.remedy,
        blame=error.blame,
        cause=error,
    )
