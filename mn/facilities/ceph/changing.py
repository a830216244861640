"""What adding, removing and changing monitors is, whatever kind of storage they belong to."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta
from sqlalchemy import Connection

from agentkit.errors import HardpointError
from mn.facilities.ceph.mons import (
    all_logins,
    drop_mons,
    follow_all,
    forget_mons,
    insert_mons,
    join_all,
    leave_all,
    logins_on,
    recheck,
    server_locks,
    update_mon,
)
from mn.facilities.ceph.tables import SEALED_FOR, Kind
from mn.facilities.ceph.urls import parse_mon_urls
from mn.facilities.common import find, inventory
from mn.rest.operation import Action, Delete, Post, Reply
from mn.rest.services import Job
from mn.rest.types import HostAddress, Name, Port, Ref, Secret

TIMEOUT_S = 3 * 3600.0

MonUrls = Annotated[
    list[str], Meta(min_length=1, description="monitors, user:password@host[:sshPort][/?monPort=6789]")
]


class AddMons(Post):
    """Add monitors to a storage: all of them, or none."""

    storage: ClassVar[Kind]

    uuid: Ref
    mon_urls: MonUrls

    def check(self) -> None:
        """Refuse URLs of no monitor."""
        parse_mon_urls(self.mon_urls)

    def locks(self) -> tuple[str, ...]:
        """One change of a storage, and of a monitor's host, at a time."""
        return (lock_of(self.storage, self.uuid), *server_locks(parse_mon_urls(self.mon_urls)))

    async def run(self, job: Job) -> Reply:
        """Insert the rows, join the servers; a failure takes all back."""
        kind, services, urls = self.storage, job.services, parse_mon_urls(self.mon_urls)
        fsid = await job.transact(fsid_of, kind, self.uuid)
        logins = await job.transact(insert_mons, kind, self.uuid, urls, services.vault, undo=drop_mons)
        found = await join_all(job, logins, fsid, {url.hostname: url.mon_port for url in urls})
        for hostname, reason in found.failed.items():
            raise HardpointError(
                "SYS.1006",
                "Operation failed",
                f"the monitor on {hostname} was not added to {kind.what} {self.uuid}: {reason}",
                remedy="see to that host, then add its monitor again",
            )
        await job.transact(recheck, kind, self.uuid)
        await job.step(follow_all, services, logins)
        return await inventory(services, kind.resource, self.uuid)


class RemoveMons(Delete):
    """Remove monitors from a storage, known by their hosts; the last one stays."""

    storage: ClassVar[Kind]

    uuid: Ref
    mon_hostnames: Annotated[list[str], Meta(min_length=1, description="hosts of monitors")]

    def locks(self) -> tuple[str, ...]:
        """One change of a storage, and of a monitor's host, at a time."""
        names = (f"ceph-server/{name}" for name in self.mon_hostnames)
        return (lock_of(self.storage, self.uuid), *names)

    async def run(self, job: Job) -> Reply:
        """Remove the rows; agents that nothing else needs leave."""
        kind = self.storage
        logins = await job.transact(logins_on, kind, self.uuid, self.mon_hostnames)
        await job.transact(forget_mons, kind, self.uuid, [login.hostname for login in logins])
        await job.transact(recheck, kind, self.uuid)
        await leave_all(job, logins)
        return await inventory(job.services, kind.resource, self.uuid)


class UpdateMon(Action):
    """Change how a monitor is reached; it holds from the next reconnect of its storage on."""

    storage: ClassVar[Kind]

    mon_uuid: Ref
    hostname: HostAddress | None = None
    ssh_username: Name | None = None
    ssh_password: Secret | None = None
    ssh_port: Port | None = None
    mon_port: Port | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row; an agent that nothing needs any more leaves."""
        kind, vault = self.storage, job.services.vault
        sealed = vault.seal(self.ssh_password.text, SEALED_FOR) if self.ssh_password is not None else None
        before = await job.transact(storage_of, kind, self.mon_uuid)
        logins = await job.transact(all_logins, kind, before) if before is not None else []
        storage = await job.transact(update_mon, kind, self.mon_uuid, self._given(), sealed)
        await job.transact(recheck, kind, storage)
        await leave_all(job, logins if self.hostname is not None else [])
        return await inventory(job.services, kind.resource, storage)

    def _given(self) -> dict[str, Any]:
        return {
            "hostname": self.hostname.text if self.hostname is not None else None,
            "ssh_username": self.ssh_username,
            "ssh_port": self.ssh_port,
            "mon_port": self.mon_port,
        }


def lock_of(kind: Kind, uuid: str) -> str:
    """Return the name of what a change of a storage needs for itself."""
    return f"{kind.what.replace(' ', '-')}/{uuid}"


def fsid_of(connection: Connection, kind: Kind, uuid: str) -> str | None:
    """Return the fsid of a storage's cluster. Raises HardpointError (SYS.1003) for no such storage."""
    fsid: str | None = find(connection, kind.resource, uuid).fsid
    return fsid


def storage_of(connection: Connection, kind: Kind, mon_uuid: str) -> str | None:
    """Return the storage of a monitor, None when there is no such monitor."""
    query = kind.mons.select().where(kind.mons.c.mon_uuid == mon_uuid)
    row = connection.execute(query).first()
    return None if row is None else str(getattr(row, kind.owner))
