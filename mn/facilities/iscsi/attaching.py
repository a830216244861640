"""AttachIscsiServerToCluster and DetachIscsiServerFromCluster: which clusters' hosts log in to a server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.schema import new_uuid, now_s
from mn.facilities.cascade import child_of
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import DeletionMode, find, inventory
from mn.facilities.hosts.tables import host_table
from mn.facilities.iscsi.hosts import (
    HostAnswer,
    check_answers,
    forget_hosts,
    login_hosts,
    logout_hosts,
    reports_by_host,
)
from mn.facilities.iscsi.luns import check_luns, sync_luns
from mn.facilities.iscsi.tables import (
    CLUSTER_REF,
    ISCSI_SERVER,
    attached_clusters,
    cluster_ref_table,
    connected_hosts,
    iscsi_lun_table,
    iscsi_target_table,
)
from mn.rest.operation import Delete, Post, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Uuid

log = logging.getLogger(__name__)

PATH = "/clusters/{clusterUuid}/storage-devices/iscsi/servers/{uuid}"
TIMEOUT_S = 3600.0

StillUsed = Callable[[Connection, list[str], str], str | None]
"""Says what of a cluster uses a LUN with one of some WWIDs, None when nothing does."""

_users: list[StillUsed] = []


def luns_used_by(still_used: StillUsed) -> None:
    """Have a server stay attached to a cluster while `still_used` names something."""
    _users.append(still_used)


class AttachIscsiServerToCluster(Post, path=PATH, reply=ISCSI_SERVER, timeout_s=TIMEOUT_S):
    """Have the hosts of a cluster log in to an iSCSI server (manual 4.6.6).

    All of them that are connected must be able to; hosts that come later log in by themselves.
    """

    uuid: Uuid
    cluster_uuid: Uuid

    def locks(self) -> tuple[str, ...]:
        """One change of a server at a time."""
        return (f"iscsi-server/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the reference, log in on all hosts, compare what they see; a failure takes all of it back."""
        services, server, cluster = job.services, self.uuid, self.cluster_uuid
        await job.transact(check_attach, server, cluster)
        await job.when_undone(follow_rows, services, server, cluster)
        await job.transact(attach, server, cluster, undo=detach)
        hosts = await job.transact(connected_hosts, [cluster])
        job.at(10)
        answers = await job.step(login_hosts, services, server, hosts, job.task_uuid())
        await job.transact(save_attached, server, answers)
        return await inventory(services, ISCSI_SERVER, server)


class DetachIscsiServerFromCluster(Delete, path=PATH, reply=ISCSI_SERVER, timeout_s=TIMEOUT_S):
    """Have the hosts of a cluster log out of an iSCSI server (manual 4.6.7).

    Refused while something uses one of its disks. A host that is away logs out when it is back.
    """

    uuid: Uuid
    cluster_uuid: Uuid

    def locks(self) -> tuple[str, ...]:
        """One change of a server at a time."""
        return (f"iscsi-server/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Take the reference away, then log out on all hosts; a failure gives both back."""
        services, server, cluster = job.services, self.uuid, self.cluster_uuid
        await job.transact(check_detach, server, cluster)
        await job.when_undone(follow_rows, services, server, cluster)
        await job.transact(detach, server, cluster, undo=attach_again)
        hosts = await job.transact(connected_hosts, [cluster])
        answers = await job.step(logout_hosts, services, server, hosts, job.task_uuid())
        await job.transact(save_detached, server, answers)
        return await inventory(services, ISCSI_SERVER, server)


def check_attach(connection: Connection, uuid: str, cluster_uuid: str) -> None:
    """Raise HardpointError (SYS.1003, SYS.1006) when a server cannot be attached to a cluster."""
    row, cluster = find(connection, ISCSI_SERVER, uuid), find(connection, CLUSTER, cluster_uuid)
    if cluster_uuid in attached_clusters(connection, uuid):
        raise refused(
            f"{named(row)} is attached to cluster {cluster.name} ({cluster_uuid}) already", "refresh it"
        )
    if row.state != "Enabled":
        raise refused(f"{named(row)} is {row.state}", "enable it with UpdateIscsiServer")


def attach(connection: Connection, uuid: str, cluster_uuid: str) -> None:
    """Write that a server is attached to a cluster. Raises HardpointError as `check_attach` does."""
    check_attach(connection, uuid, cluster_uuid)
    attach_again(connection, uuid, cluster_uuid)


def attach_again(connection: Connection, uuid: str, cluster_uuid: str) -> None:
    """Write that a server is attached to a cluster."""
    now, refs = now_s(), cluster_ref_table
    values = {"uuid": new_uuid(), "iscsi_server_uuid": uuid, "cluster_uuid": cluster_uuid}
    connection.execute(insert(refs), {**values, "create_date": now, "last_op_date": now})
    connection.execute(update(refs).where(refs.c.uuid == values["uuid"]).values(id=refs.c.seq))


def detach(connection: Connection, uuid: str, cluster_uuid: str) -> None:
    """Write that a server is no longer attached to a cluster."""
    refs = cluster_ref_table.c
    mine = (refs.iscsi_server_uuid == uuid) & (refs.cluster_uuid == cluster_uuid)
    connection.execute(delete(cluster_ref_table).where(mine))


def check_detach(connection: Connection, uuid: str, cluster_uuid: str) -> None:
    """Raise HardpointError (SYS.1003, SYS.1006) when a server cannot be detached from a cluster."""
    row, cluster = find(connection, ISCSI_SERVER, uuid), find(connection, CLUSTER, cluster_uuid)
    if cluster_uuid not in attached_clusters(connection, uuid):
        raise refused(
            f"{named(row)} is not attached to cluster {cluster.name} ({cluster_uuid})", "see iscsiClusterRefs"
        )
    luns, targets = iscsi_lun_table.c, iscsi_target_table.c
    joined = iscsi_lun_table.join(iscsi_target_table, targets.uuid == luns.iscsi_target_uuid)
    query = select(luns.wwid).select_from(joined).where(targets.iscsi_server_uuid == uuid)
    wwids = list(connection.execute(query).scalars())
    for still_used in _users:
        user = still_used(connection, wwids, cluster_uuid)
        if user is not None:
            raise refused(f"a LUN of {named(row)} is in use: {user}", "stop what uses it first")


def save_attached(connection: Connection, uuid: str, answers: list[HostAnswer]) -> None:
    """Write the LUNs that the hosts have said to see.

    Raises HardpointError: SYS.1006 when one could not log in, ISCSI.1002 for LUNs that nobody can tell apart.
    """
    check_answers(connection, answers, "no login to the iSCSI server")
    check_luns(connection, uuid, reports_by_host(answers))
    sync_luns(connection, uuid)


def save_detached(connection: Connection, uuid: str, answers: list[HostAnswer]) -> None:
    """Forget the hosts that have logged out. Raises HardpointError (SYS.1006) when one could not."""
    check_answers(connection, answers, "not logged out of the iSCSI server")
    forget_answered(connection, uuid, answers)


def forget_answered(connection: Connection, uuid: str, answers: list[HostAnswer]) -> None:
    """Forget that hosts see a server which have logged out of it."""
    forget_hosts(connection, uuid, [answer.host_uuid for answer in answers if answer.error is None])


async def follow_rows(services: Services, uuid: str, cluster_uuid: str) -> None:
    """Have the hosts of a cluster have a server or not, as the rows say.

    One that cannot does so when it is connected next.
    """
    wanted = cluster_uuid in await services.db.read(attached_clusters, uuid)
    hosts = await services.db.read(connected_hosts, [cluster_uuid])
    answers = await (login_hosts if wanted else logout_hosts)(services, uuid, hosts, new_uuid())
    if wanted:
        await services.db.write(sync_luns, uuid)
    else:
        await services.db.write(forget_answered, uuid, answers)
    for answer in answers:
        if answer.error is not None:
            extra = {"host": answer.host_uuid, "server": uuid, "reason": answer.error.details}
            log.warning("not logged in again" if wanted else "not logged out", extra=extra)


async def leave_cluster(job: Job, ref_uuid: str, _mode: DeletionMode) -> None:
    """Take a server from a cluster that is deleted; its hosts are gone by now."""
    await job.transact(drop_reference, ref_uuid)


def drop_reference(connection: Connection, ref_uuid: str) -> None:
    """Forget that a server is attached to a cluster."""
    connection.execute(delete(cluster_ref_table).where(cluster_ref_table.c.uuid == ref_uuid))


child_of(CLUSTER, CLUSTER_REF, "cluster_uuid", remove=leave_cluster)


def all_hosts(connection: Connection, cluster_uuid: str) -> list[str]:
    """Return the uuids of a cluster's hosts, connected or not."""
    found = select(host_table.c.uuid).where(host_table.c.cluster_uuid == cluster_uuid)
    return list(connection.execute(found).scalars())


def named(row: Row[Any]) -> str:
    """Return how a server is named to people."""
    return f"iSCSI server {row.name} ({row.uuid})"


def refused(details: str, remedy: str) -> HardpointError:
    """Return the error of what is not possible as things are."""
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
