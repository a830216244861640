"""The operations that only image stores have (manual 4.5.14.2, 4.5.14.4, 4.5.14.5)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from mn.db.vault import Vault
from mn.facilities.backup_storage.add import check_free
from mn.facilities.backup_storage.driver import Reclaimed, driver_of
from mn.facilities.backup_storage.tables import (
    BACKUP_STORAGE,
    IMAGE_STORE,
    SEALED_FOR,
    Store,
    connected_store,
)
from mn.facilities.common import change, find, inventory
from mn.facilities.hosts.rules import check_address
from mn.rest.operation import Action, Query, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Description, HostAddress, Name, Port, Ref, Secret


class QueryImageStoreBackupStorage(
    Query, path=("/backup-storage/image-store", "/backup-storage/image-store/{uuid}"), reply=IMAGE_STORE
):
    """Query image stores (manual 4.5.14.2)."""


class UpdateImageStoreBackupStorage(
    Action, path="/backup-storage/image-store/{uuid}/actions", reply=IMAGE_STORE
):
    """Change an image store (manual 4.5.14.4); address and login hold from the next reconnect on."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None
    hostname: HostAddress | None = None
    username: Name | None = None
    password: Secret | None = None
    ssh_port: Port | None = None

    def check(self) -> None:
        """Refuse an address that no server can have."""
        if self.hostname is not None:
            check_address(self.hostname.text)

    def locks(self) -> tuple[str, ...]:
        """One change of a backup storage, and one addition of a server at a time."""
        server = (f"image-store/{self.hostname.text}",) if self.hostname is not None else ()
        return (f"backup-storage/{self.uuid}", *server)

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_store, self, self._login(job.services.vault))
        return await inventory(job.services, IMAGE_STORE, self.uuid)

    def _login(self, vault: Vault) -> dict[str, Any]:
        sealed = vault.seal(self.password.text, SEALED_FOR) if self.password is not None else None
        return {"username": self.username, "ssh_port": self.ssh_port, "password": sealed}


class GcResult(msgspec.Struct, rename="camel"):
    """What collecting garbage came to."""

    freed_space_in_bytes: Annotated[int, Meta(description="bytes of the server's disk that were freed")]


class ReclaimSpaceFromImageStore(
    Action,
    path="/backup-storage/image-store/{uuid}/actions",
    returns={"gcResult": Annotated[GcResult, Meta(description="what was freed")]},
    timeout_s=24 * 3600.0,
):
    """Free the space that deleted images left on an image store (manual 4.5.14.5)."""

    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One collection at a time; images come and go meanwhile."""
        return (f"reclaim/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Have it done."""
        store = await job.transact(connected_image_store, self.uuid)
        task = job.task_uuid()
        done = await job.step(reclaim_space, job.services, store, task)
        return {"gcResult": GcResult(done.freed_bytes)}


def update_store(
    connection: Connection, wanted: UpdateImageStoreBackupStorage, login: dict[str, Any]
) -> None:
    """Write what is given; another server shows another SSH host key.

    Raises HardpointError: SYS.1003 when there is no such image store, SYS.1007 when the server is taken.
    """
    values = {"name": wanted.name, "description": wanted.description, **login}
    if wanted.hostname is not None:
        check_free(connection, wanted.hostname.text, wanted.uuid)
        values["hostname"] = wanted.hostname.text
    former = find(connection, BACKUP_STORAGE, wanted.uuid).hostname
    change(connection, BACKUP_STORAGE, wanted.uuid, values)
    if wanted.hostname is not None and wanted.hostname.text != former:
        table = BACKUP_STORAGE.table
        connection.execute(table.update().where(table.c.uuid == wanted.uuid).values(ssh_host_key=None))


def connected_image_store(connection: Connection, uuid: str) -> Store:
    """Return an image store that can be worked with; raises as `connected_store` does."""
    return connected_store(connection, uuid)


async def reclaim_space(services: Services, store: Store, task_uuid: str) -> Reclaimed:
    """Have garbage collected."""
    return await driver_of(store).reclaim(services, store, task_uuid)
