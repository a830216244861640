"""The monitors of a storage of any kind: joined, added, removed, changed, and asked to do something."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from agentkit.errors import Blame, HardpointError
from cephagent.protocol import ClusterReport
from mn.db.schema import new_uuid, now_s
from mn.db.vault import Vault
from mn.facilities.ceph.asking import At, agent_on
from mn.facilities.ceph.clusters import check_mon, check_one_cluster
from mn.facilities.ceph.servers import (
    Login,
    follow_server,
    join_server,
    leave_server,
    login_of,
    refresh_storage,
    survey_server,
)
from mn.facilities.ceph.tables import (
    HIDDEN,
    SEALED_FOR,
    Kind,
    kinds,
    server_named,
)
from mn.facilities.ceph.urls import MonUrl
from mn.facilities.common import find
from mn.facilities.hosts.connecting import reporter
from mn.facilities.undoing import undo_task
from mn.rest.services import Job, Services

log = logging.getLogger(__name__)

R = TypeVar("R")


class Found(msgspec.Struct, frozen=True):
    """The cluster of a storage, an agent that can be asked, and why some hosts could not be joined."""

    fsid: str
    report: ClusterReport
    at: At
    failed: dict[str, str]


def server_locks(urls: Iterable[MonUrl]) -> tuple[str, ...]:
    """Return what a job needs for itself to bring agents to hosts, or take them away."""
    return tuple(f"ceph-server/{url.hostname}" for url in urls)


def insert_mons(
    connection: Connection, kind: Kind, storage_uuid: str, urls: list[MonUrl], vault: Vault
) -> list[Login]:
    """Insert a storage's monitors, Connecting. Raises HardpointError (SYS.1007) for a host that one has."""
    made, now = [], now_s()
    for url in urls:
        _check_free(connection, kind, url.hostname, None)
        uuid = new_uuid()
        values = {
            "uuid": uuid,
            "mon_uuid": uuid,
            "hostname": url.hostname,
            "mon_port": url.mon_port,
            kind.owner: storage_uuid,
            "status": "Connecting",
            "ssh_username": url.username,
            "ssh_password": HIDDEN,
            "ssh_port": url.ssh_port,
            "sealed_password": vault.seal(url.password, SEALED_FOR),
            "server_uuid": server_named(connection, url.hostname),
            "create_date": now,
            "last_op_date": now,
        }
        connection.execute(insert(kind.mons), values)
        row = connection.execute(select(kind.mons).where(kind.mons.c.uuid == uuid)).one()
        made.append(login_of(connection, row))
    return made


def drop_mons(connection: Connection, kind: Kind, storage_uuid: str, urls: list[MonUrl], *_: object) -> None:
    """Remove a storage's monitors on the hosts of some URLs."""
    forget_mons(connection, kind, storage_uuid, [url.hostname for url in urls])


def forget_mons(connection: Connection, kind: Kind, storage_uuid: str, hostnames: list[str]) -> None:
    """Remove a storage's monitors on some hosts, of that storage only."""
    mine = (kind.mons.c[kind.owner] == storage_uuid) & kind.mons.c.hostname.in_(hostnames)
    connection.execute(delete(kind.mons).where(mine))


async def join_all(
    job: Job, logins: list[Login], fsid: str | None, ports: dict[str, int], *, keep: bool = False
) -> Found:
    """Bring the agents to some servers; those that cannot be joined are said in the reply.

    `ports` are the monitors' by host. `keep`: the agents stay though the job fails. Raises HardpointError:
    the first one's when none can be joined, SYS.1006 when they are of several clusters, or have no monitor.
    """
    services, report = job.services, reporter(job)
    surveyed = await job.steps(survey_server, [(services, login) for login in logins])
    job.at(20)
    known = [login for login in surveyed if not isinstance(login, HardpointError)]
    each_known = [(services, login, job.task_uuid(at), report) for at, login in enumerate(known)]
    outcomes = await job.steps(join_server, each_known, undo=None if keep else abandon_server)
    job.at(65)
    joined = [outcome for outcome in outcomes if not isinstance(outcome, HardpointError)]
    failed = {
        login.hostname: outcome
        for asked, found in ((logins, surveyed), (known, outcomes))
        for login, outcome in zip(asked, found, strict=True)
        if isinstance(outcome, HardpointError)
    }
    if not joined:
        raise none_joined({login.hostname: failed[login.hostname] for login in logins})
    for each in joined:
        check_mon(each.report, each.hostname, ports[each.hostname])
    found = check_one_cluster(((each.hostname, each.report.fsid) for each in joined), fsid)
    server = next(login.server_uuid for login in logins if login.hostname == joined[0].hostname)
    at = await job.transact(agent_on, server)
    return Found(found, joined[0].report, at, {name: error.details for name, error in failed.items()})


def none_joined(failed: dict[str, HardpointError]) -> HardpointError:
    """Return the error when no server can be joined: the first one's code, and each one's reason."""
    first = next(iter(failed.values()))
    return HardpointError(
        first.code,
        first.summary,
        "; ".join(f"{hostname}: {error.details}" for hostname, error in failed.items()),
        remedy=first.remedy,
        blame=first.blame,
        cause=first,
    )


async def abandon_server(services: Services, login: Login, task_uuid: str, _report: object) -> None:
    """Undo the joining of a server when only this job's monitor rows have it; their undo follows."""
    if await services.db.read(count_users, login.server_uuid) > 1:
        return
    await services.db.write(forget_mons_on, login.server_uuid)
    await leave_server(services, login, undo_task(task_uuid))


def forget_mons_on(connection: Connection, server_uuid: str) -> None:
    """Remove the monitors on a server."""
    for kind in kinds:
        connection.execute(delete(kind.mons).where(kind.mons.c.server_uuid == server_uuid))


def count_users(connection: Connection, server_uuid: str) -> int:
    """Return how many monitors of storages are on a server."""
    return sum(
        len(connection.execute(select(kind.mons.c.uuid).where(kind.mons.c.server_uuid == server_uuid)).all())
        for kind in kinds
    )


async def leave_all(job: Job, logins: list[Login]) -> None:
    """Take the agents from servers that no storage has any more; one that cannot be is told in the log."""
    each = [(job.services, login, job.task_uuid(at)) for at, login in enumerate(logins)]
    await job.steps(try_to_leave, each)


async def try_to_leave(services: Services, login: Login, task_uuid: str) -> None:
    """Do that for one."""
    try:
        await leave_server(services, login, task_uuid)
    except HardpointError as error:
        extra = {"server": login.hostname, "reason": error.details}
        log.warning("the agent of a Ceph monitor was left behind", extra=extra)


async def settle(job: Job, kind: Kind, storage_uuid: str, found: Found) -> None:
    """Forget the monitors of a new storage that could not be joined; write how it is."""
    if found.failed:
        logins = await job.transact(all_logins, kind, storage_uuid)
        await job.transact(forget_mons, kind, storage_uuid, sorted(found.failed))
        await leave_all(job, [each for each in logins if each.hostname in found.failed])
    await job.transact(recheck, kind, storage_uuid)


def unable_to_add(what: str, error: HardpointError) -> HardpointError:
    """Return the error of a storage that was not added."""
    if error.code in ("SYS.1003", "SYS.1007"):
        return error
    return HardpointError(
        "SYS.1002",
        "Create resource failed",
        f"{what} was not added: {error.details}",
        remedy=error.remedy,
        blame=error.blame,
        cause=error,
    )


async def follow_all(services: Services, logins: list[Login]) -> None:
    """Begin the links to servers."""
    for login in logins:
        await follow_server(services, login.server_uuid)


def save_cluster(connection: Connection, kind: Kind, storage_uuid: str, fsid: str) -> None:
    """Write the cluster of a storage, and how it and its monitors are.

    Raises HardpointError (SYS.1007) when another storage of the kind has the cluster, or one of the other
    kind has its images in the same pool.
    """
    table = kind.resource.table
    others = (table.c.fsid == fsid) & (table.c.uuid != storage_uuid)
    other = connection.execute(select(table.c.name, table.c.uuid).where(others)).first()
    if other is not None:
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"the Ceph cluster {fsid} is {kind.what} {other.name} ({other.uuid}) already",
            remedy="use that one, or add pools or monitors to it",
            blame=Blame.CALLER,
        )
    _check_apart(connection, kind, storage_uuid, fsid)
    connection.execute(update(table).where(table.c.uuid == storage_uuid).values(fsid=fsid))
    refresh_storage(connection, kind, storage_uuid)


def _check_apart(connection: Connection, kind: Kind, storage_uuid: str, fsid: str) -> None:
    """Raise HardpointError (SYS.1007) when a storage of another kind has its images in the same pool.

    They are called by the same uuids there: what removes one would remove the other.
    """
    pool = getattr(find(connection, kind.resource, storage_uuid), kind.image_pool)
    for other in kinds:
        theirs = other.resource.table.c
        same = (theirs.fsid == fsid) & (theirs[other.image_pool] == pool) & (theirs.uuid != storage_uuid)
        row = connection.execute(select(theirs.name, theirs.uuid).where(same)).first()
        if row is not None:
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                f"pool {pool} of the Ceph cluster {fsid} has the images of {other.what} {row.name} "
                f"({row.uuid}), whose names those of {kind.what} {storage_uuid} would have",
                remedy="name another pool, or leave it out to have one made",
                blame=Blame.CALLER,
            )


def all_logins(connection: Connection, kind: Kind, storage_uuid: str) -> list[Login]:
    """Return the servers of a storage's monitors."""
    return [login_of(connection, mon) for mon in kind.mon_rows(connection, storage_uuid)]


def logins_on(connection: Connection, kind: Kind, storage_uuid: str, hostnames: list[str]) -> list[Login]:
    """Return the servers of a storage's monitors on some hosts; unknown hosts are passed over.

    Raises HardpointError: SYS.1003 for no such storage, SYS.1006 when no monitor would be left.
    """
    row = find(connection, kind.resource, storage_uuid)
    mons = kind.mon_rows(connection, storage_uuid)
    going = [mon for mon in mons if mon.hostname in hostnames]
    if going and len(going) == len(mons):
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"{kind.what} {row.name} ({storage_uuid}) would have no monitor without "
            f"{', '.join(mon.hostname for mon in going)}",
            remedy="add another monitor first, or delete the storage",
            blame=Blame.CALLER,
        )
    return [login_of(connection, mon) for mon in going]


def recheck(connection: Connection, kind: Kind, storage_uuid: str) -> None:
    """Write how a storage is by what the agents said last."""
    refresh_storage(connection, kind, storage_uuid)


def update_mon(
    connection: Connection, kind: Kind, mon_uuid: str, wanted: dict[str, Any], password: str | None
) -> str:
    """Write what is given of a monitor; return its storage's uuid.

    Another host is another server; it gets its agent when the storage is reconnected. Raises HardpointError:
    SYS.1003 for no such monitor, SYS.1007 for a host that another one has.
    """
    mon = connection.execute(select(kind.mons).where(kind.mons.c.mon_uuid == mon_uuid)).first()
    if mon is None:
        raise HardpointError(
            "SYS.1003",
            "Resource not found",
            f"there is no monitor with the uuid {mon_uuid}",
            remedy=f"take a monUuid from Query{kind.resource.name}",
            blame=Blame.CALLER,
        )
    values = {name: value for name, value in wanted.items() if value is not None}
    if password is not None:
        values["sealed_password"] = password
    hostname = values.get("hostname", mon.hostname)
    if hostname != mon.hostname:
        _check_free(connection, kind, hostname, mon.uuid)
        values |= {"server_uuid": server_named(connection, hostname), "status": "Disconnected"}
        values |= {"reason": "it was not connected since its host was changed", "mon_addr": None}
    if values:
        values["last_op_date"] = now_s()
        connection.execute(update(kind.mons).where(kind.mons.c.uuid == mon.uuid).values(**values))
    return str(getattr(mon, kind.owner))


def _check_free(connection: Connection, kind: Kind, hostname: str, mon_uuid: str | None) -> None:
    mons, table = kind.mons, kind.resource.table
    joined = mons.join(table, table.c.uuid == mons.c[kind.owner])
    query = select(mons.c.uuid, table.c.name, table.c.uuid.label("storage")).select_from(joined)
    for row in connection.execute(query.where(mons.c.hostname == hostname)):
        if row.uuid != mon_uuid:
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                f"the monitor on {hostname} belongs to {kind.what} {row.name} ({row.storage}) already",
                remedy="name another host, or remove the monitor there first",
                blame=Blame.CALLER,
            )
