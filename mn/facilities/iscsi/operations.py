"""Add, query, refresh, update and delete iSCSI servers, query their LUNs (manual 4.6.1 to 4.6.5, 4.6.8)."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import Connection, select

from agentkit.errors import Blame, HardpointError
from agentkit.logs import MASK
from mn.db.vault import Vault
from mn.facilities.cascade import delete_tree
from mn.facilities.common import DeletionMode, add, change, find, inventory
from mn.facilities.iscsi.attaching import detach, named, refused
from mn.facilities.iscsi.hosts import (
    SEALED_FOR,
    HostAnswer,
    change_hosts,
    check_answers,
    login_hosts,
    reports_by_host,
    sync_host,
)
from mn.facilities.iscsi.luns import check_luns, sync_luns
from mn.facilities.iscsi.tables import (
    CHAP_NAME_LENGTH,
    ISCSI_LUN,
    ISCSI_SERVER,
    attached_clusters,
    change_server,
    connected_hosts,
    iscsi_server_table,
)
from mn.rest.operation import Action, Create, Delete, Post, Query, Reply
from mn.rest.services import Job, Services
from mn.rest.types import NO_CONTROLS, HostAddress, Name, Port, Ref, Secret, Uuid

log = logging.getLogger(__name__)

PATH = "/storage-devices/iscsi/servers"
TIMEOUT_S = 3600.0
ChapName = Annotated[
    str,
    Meta(
        max_length=CHAP_NAME_LENGTH,
        pattern=NO_CONTROLS,
        description=f"a text of up to {CHAP_NAME_LENGTH} characters; empty: no CHAP",
    ),
]


class QueryIscsiServer(
    Query, path=(PATH, f"{PATH}/{{uuid}}"), also_at=("/storage-devices/iscsi",), reply=ISCSI_SERVER
):
    """Query iSCSI servers (manual 4.6.3)."""


class QueryIscsiLun(
    Query, path=("/storage-devices/iscsi/luns", "/storage-devices/iscsi/luns/{uuid}"), reply=ISCSI_LUN
):
    """Query the LUNs of iSCSI servers, one for each path (manual 4.6.8)."""


class AddIscsiServer(Create, path=PATH, reply=ISCSI_SERVER):
    """Add an iSCSI server, which is one portal (manual 4.6.1).

    Hosts ask it for its targets when it is attached to their cluster. With `mutualChap...` targets have to
    prove who they are as well (extension).
    """

    ip: HostAddress
    name: Name | None = None
    port: Port = 3260
    chap_user_name: ChapName | None = None
    chap_user_password: Secret | None = None
    mutual_chap_user_name: ChapName | None = None
    mutual_chap_user_password: Secret | None = None

    def check(self) -> None:
        """Refuse a name without a secret and a secret without a name."""
        check_pairs(self)
        _check_secrets(self.chap_user_password, self.mutual_chap_user_password)
        if self.mutual_chap_user_name and not self.chap_user_name:
            raise illegal("mutualChapUserName", "targets prove who they are only to hosts that do", _BOTH)

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        uuid = self.resource_uuid or job.uuid_for("iscsi server")
        await job.transact(insert_server, uuid, self, job.services.vault)
        return await inventory(job.services, ISCSI_SERVER, uuid)


class UpdateIscsiServer(Action, path=f"{PATH}/{{uuid}}/actions", reply=ISCSI_SERVER):
    """Change an iSCSI server (manual 4.6.5); another CHAP name or secret is used from the next login on.

    Sessions are not dropped. An empty chapUserName takes CHAP away.
    """

    uuid: Ref
    name: Name | None = None
    chap_user_name: ChapName | None = None
    chap_user_password: Secret | None = None
    mutual_chap_user_name: ChapName | None = None
    mutual_chap_user_password: Secret | None = None
    state: Literal["Enabled", "Disabled"] | None = None
    resource_uuid: Ref | None = None

    def check(self) -> None:
        """Refuse secrets that no target could have."""
        _check_secrets(self.chap_user_password, self.mutual_chap_user_password)

    def locks(self) -> tuple[str, ...]:
        """One change of a server at a time."""
        return (f"iscsi-server/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row, then have the hosts know it; one that is away learns of it when it is connected."""
        services = job.services
        hosts = await job.transact(update_server, self, services.vault)
        answers = await job.step(change_hosts, services, self.uuid, hosts, job.task_uuid())
        for answer in answers:
            if answer.error is not None:
                extra = {"host": answer.host_uuid, "server": self.uuid, "reason": answer.error.details}
                log.warning("CHAP not changed on a host", extra=extra)
        return await inventory(services, ISCSI_SERVER, self.uuid)


class RefreshIscsiServer(Post, path=f"{PATH}/{{uuid}}", reply=ISCSI_SERVER, timeout_s=TIMEOUT_S):
    """Find the targets and LUNs of an iSCSI server anew on all its hosts (manual 4.6.4).

    `iscsiHostRefs` has each host's answer. It fails when no host can.
    """

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a server at a time."""
        return (f"iscsi-server/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Log in and rescan everywhere, write what the hosts see."""
        services = job.services
        hosts = await job.transact(hosts_to_refresh, self.uuid)
        job.at(10)
        answers = await job.step(login_hosts, services, self.uuid, hosts, job.task_uuid())
        await job.transact(save_refreshed, self.uuid, answers)
        return await inventory(services, ISCSI_SERVER, self.uuid)


class DeleteIscsiServer(Delete, path=f"{PATH}/{{uuid}}", timeout_s=TIMEOUT_S):
    """Delete an iSCSI server (manual 4.6.2).

    Permissive keeps one that is attached to a cluster; Enforcing has its hosts log out first, as far as they
    can: what is in use there goes when it no longer is.
    """

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a server at a time."""
        return (f"iscsi-server/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Detach it, delete the rows."""
        hosts = await job.transact(detach_all, self.uuid, self.delete_mode)
        await job.step(sync_hosts, job.services, hosts)
        await delete_tree(job, ISCSI_SERVER, self.uuid, self.delete_mode)
        return {}


_BOTH = "give a name and a secret, or neither"
_SECRET_MOST = 128


def check_pairs(wanted: AddIscsiServer) -> None:
    """Raise HardpointError (SYS.1007) for half of what CHAP takes."""
    for name, secret, parameter in (
        (wanted.chap_user_name, wanted.chap_user_password, "chapUserName"),
        (wanted.mutual_chap_user_name, wanted.mutual_chap_user_password, "mutualChapUserName"),
    ):
        if bool(name) != (secret is not None):
            raise illegal(parameter, "it and its password only go together", _BOTH)


def _check_secrets(*secrets: Secret | None) -> None:
    for secret in secrets:
        text = secret.text if secret is not None else ""
        if text != text.strip() or not text.isprintable() or len(text) > _SECRET_MOST:
            raise illegal(
                "chapUserPassword",
                "it has spaces at an end, or characters that are not printable, or more than "
                f"{_SECRET_MOST} of them",
                "give the target another secret",
            )


def illegal(parameter: str, reason: str, remedy: str) -> HardpointError:
    """Return the error of a parameter; secrets are not in it."""
    details = f"parameter '{parameter}': {reason}"
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)


def insert_server(connection: Connection, uuid: str, wanted: AddIscsiServer, vault: Vault) -> None:
    """Insert the row. Raises HardpointError (SYS.1007) for a portal that another server is."""
    table, address = iscsi_server_table.c, wanted.ip.text
    query = select(table.name, table.uuid).where(table.ip == address, table.port == wanted.port)
    other = connection.execute(query.where(table.uuid != uuid)).first()
    if other is not None:
        taken = f"{address}:{wanted.port} is iSCSI server {other.name} ({other.uuid}) already"
        raise illegal("ip", taken, "use that one")
    values: dict[str, Any] = {
        "uuid": uuid,
        "name": wanted.name or f"iscsi-server-{address}",
        "ip": address,
        "port": wanted.port,
        "state": "Enabled",
        **_chap_columns(vault, "", wanted.chap_user_name, wanted.chap_user_password),
        **_chap_columns(vault, "mutual_", wanted.mutual_chap_user_name, wanted.mutual_chap_user_password),
    }
    add(connection, ISCSI_SERVER, values, wanted)


def _chap_columns(vault: Vault, whose: str, name: str | None, secret: Secret | None) -> dict[str, Any]:
    sealed = vault.seal(secret.text, SEALED_FOR) if secret is not None else None
    return {
        f"{whose}chap_user_name": name or None,
        f"{whose}chap_user_password": MASK if sealed else None,
        f"{whose}chap_secret": sealed,
    }


def update_server(connection: Connection, wanted: UpdateIscsiServer, vault: Vault) -> list[str]:
    """Write what is given; return the hosts that have to know another name or secret.

    Raises HardpointError: SYS.1003 for no such server, SYS.1007 for a name without a secret.
    """
    row = find(connection, ISCSI_SERVER, wanted.uuid)
    change(connection, ISCSI_SERVER, wanted.uuid, {"name": wanted.name, "state": wanted.state})
    values = {
        **_changed_chap(row._mapping, vault, "", wanted.chap_user_name, wanted.chap_user_password),
        **_changed_chap(
            row._mapping, vault, "mutual_", wanted.mutual_chap_user_name, wanted.mutual_chap_user_password
        ),
    }
    if not values:
        return []
    change_server(connection, wanted.uuid, **values)
    return connected_hosts(connection, attached_clusters(connection, wanted.uuid))


def _changed_chap(
    row: Any, vault: Vault, whose: str, name: str | None, secret: Secret | None
) -> dict[str, Any]:
    if name is None and secret is None:
        return {}
    if name == "":
        return _chap_columns(vault, whose, None, None)
    parameter = "mutualChapUserName" if whose else "chapUserName"
    if (name or row[f"{whose}chap_user_name"]) is None:
        raise illegal(parameter, "there is no name to the secret", _BOTH)
    if secret is None:
        if row[f"{whose}chap_secret"] is None:
            raise illegal(parameter, "there is no secret to the name", _BOTH)
        return {f"{whose}chap_user_name": name}
    return _chap_columns(vault, whose, name or row[f"{whose}chap_user_name"], secret)


def hosts_to_refresh(connection: Connection, uuid: str) -> list[str]:
    """Return the connected hosts of a server's clusters. Raises HardpointError (SYS.1003, SYS.1006)."""
    row = find(connection, ISCSI_SERVER, uuid)
    clusters = attached_clusters(connection, uuid)
    hosts = connected_hosts(connection, clusters)
    if not clusters:
        raise refused(f"{named(row)} is attached to no cluster: no host asks it", "attach it to a cluster")
    if not hosts:
        raise refused(f"no host of the clusters of {named(row)} is Connected", "connect one")
    return hosts


def save_refreshed(connection: Connection, uuid: str, answers: list[HostAnswer]) -> None:
    """Write the LUNs that the hosts have said to see.

    Raises HardpointError: SYS.1006 when none could log in, ISCSI.1002 for LUNs that nobody can tell apart.
    """
    if all(answer.error is not None for answer in answers):
        check_answers(connection, answers, "no login to the iSCSI server")
    check_luns(connection, uuid, reports_by_host(answers))
    sync_luns(connection, uuid)


def detach_all(connection: Connection, uuid: str, mode: str) -> list[str]:
    """Take a server from all clusters; return the connected hosts of these.

    Raises HardpointError (SYS.1006) when it is attached and that is not to end it.
    """
    clusters = attached_clusters(connection, uuid)
    if clusters and mode == "Permissive":
        row = find(connection, ISCSI_SERVER, uuid)
        raise refused(
            f"{named(row)} is attached to cluster {clusters[0]}",
            "detach it from all clusters, or delete it with deleteMode=Enforcing",
        )
    for cluster in clusters:
        detach(connection, uuid, cluster)
    return connected_hosts(connection, clusters)


async def sync_hosts(services: Services, host_uuids: list[str]) -> None:
    """Have hosts log out of what they need no more; one that cannot does when it is connected again."""
    for host_uuid in host_uuids:
        try:
            await sync_host(services, host_uuid)
        except HardpointError as error:
            log.warning("not logged out", extra={"host": host_uuid, "reason": error.details})
