"""AddImageStoreBackupStorage: look, deploy the agent, open the store; all of it undone when a step fails."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection, delete, select

from agentkit.errors import Blame, HardpointError
from mn.db.global_settings import CLOCK_OFFSET
from mn.facilities.backup_storage.connecting import (
    connect_store,
    follow_store,
    release_store,
    save_connected,
    untrack_store,
)
from mn.facilities.backup_storage.driver import Held, driver_of
from mn.facilities.backup_storage.rules import check_folder
from mn.facilities.backup_storage.tables import (
    BACKUP_STORAGE,
    IMAGE_STORE,
    IMAGE_STORE_TYPE,
    SEALED_FOR,
    Store,
    backup_storage_table,
    store_of,
)
from mn.facilities.common import add, find, inventory
from mn.facilities.hosts.connecting import deploy_agent, reporter, survey_host, undeploy_agent
from mn.facilities.hosts.rules import Surroundings, check_address, check_server
from mn.facilities.images.adopt import adopt_images
from mn.facilities.tags.rules import drop_tags
from mn.fleet.agents import STORAGE_AGENT
from mn.fleet.deploy import Target
from mn.fleet.ssh import SshTarget
from mn.rest.operation import Create, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Description, HostAddress, Name, Port, Secret, Text

TIMEOUT_S = 3 * 3600.0


class AddImageStoreBackupStorage(
    Create, path="/backup-storage/image-store", reply=IMAGE_STORE, timeout_s=TIMEOUT_S
):
    """Add an image store: deploy its agent and open the store in a folder of its server (manual 4.5.14.1).

    The folder may have been an image store before; `importImages` makes images known that lie in it.
    """

    hostname: HostAddress
    username: Name
    password: Secret
    url: Text
    name: Name
    ssh_port: Port = 22
    description: Description | None = None
    type: Literal["ImageStoreBackupStorage", "ImageStore"] = "ImageStoreBackupStorage"
    import_images: bool = False

    def check(self) -> None:
        """Refuse an address that no server can have and a path that no store can have."""
        check_address(self.hostname.text)
        check_folder(self.url)

    def locks(self) -> tuple[str, ...]:
        """One addition of a server at a time."""
        return (f"image-store/{self.hostname.text}",)

    async def run(self, job: Job) -> Reply:
        """Do it, undo it."""
        services = job.services
        uuid = self.resource_uuid or job.uuid_for("backup storage")
        await job.transact(check_free, self.hostname.text, uuid)
        try:
            await self._add(job, uuid)
        except HardpointError as error:
            raise self._unable(error) from error
        await job.step(follow_store, services, uuid, undo=untrack_store)
        if self.import_images:
            store = await job.transact(load_store, uuid)
            task = job.task_uuid()
            found = await job.step(list_images, services, store, task)
            await job.transact(adopt_images, uuid, found)
        return await inventory(services, IMAGE_STORE, uuid)

    async def _add(self, job: Job, uuid: str) -> None:
        services = job.services
        survey = await job.step(survey_host, services, self._target(uuid))
        host_key = survey.host_key if survey else None
        if survey is not None:
            clock = services.global_settings[CLOCK_OFFSET]
            around = Surroundings(services.fleet.fleet_uuid, (), False, False, clock)
            owner = await job.transact(name_of, survey.owner_host_uuid)
            check_server(survey, uuid, self._label, around, owner)
        sealed = services.vault.seal(self.password.text, SEALED_FOR)
        await job.transact(insert_store, uuid, self, sealed, host_key, undo=remove_store)
        job.at(10)
        target = self._target(uuid, host_key)
        endpoint = await job.step(deploy_agent, services, target, reporter(job), undo=undeploy_agent)
        job.at(70)
        task = job.task_uuid()
        reply = await job.step(connect_store, services, endpoint, self.url, task, undo=release_store)
        services.fleet.acknowledge(endpoint, task)
        await job.transact(save_connected, endpoint, reply.inventory, host_key)

    @property
    def _label(self) -> str:
        return f"image store {self.name} ({self.hostname.text})"

    def _target(self, uuid: str, host_key: str | None = None) -> Target:
        address = self.hostname.text
        login = SshTarget(address, self.ssh_port, self.username, self.password.text, host_key)
        return Target(uuid, address, login, agent=STORAGE_AGENT)

    def _unable(self, error: HardpointError) -> HardpointError:
        if error.code == "SYS.1007":
            return error
        return HardpointError(
            "SYS.1002",
            "Create resource failed",
            f"{self._label} was not added: {error.details}",
            remedy=error.remedy,
            blame=error.blame,
            cause=error,
        )


def check_free(connection: Connection, hostname: str, uuid: str) -> None:
    """Raise HardpointError (SYS.1007) when another backup storage has the server."""
    table = backup_storage_table
    query = select(table).where(table.c.hostname == hostname, table.c.uuid != uuid)
    other = connection.execute(query).first()
    if other is not None:
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"parameter 'hostname' is {hostname}: that belongs to backup storage {other.name} ({other.uuid})",
            remedy="give another server, or delete that backup storage first",
            blame=Blame.CALLER,
        )


def insert_store(
    connection: Connection,
    uuid: str,
    wanted: AddImageStoreBackupStorage,
    sealed: str,
    host_key: str | None,
) -> None:
    """Insert the row, Connecting. Raises HardpointError (SYS.1007) as `check_free` does."""
    check_free(connection, wanted.hostname.text, uuid)
    values: dict[str, Any] = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "url": wanted.url,
        "total_capacity": 0,
        "available_capacity": 0,
        "type": IMAGE_STORE_TYPE,
        "state": "Enabled",
        "status": "Connecting",
        "attached_zone_uuids": [],
        "hostname": wanted.hostname.text,
        "username": wanted.username,
        "password": sealed,
        "ssh_port": wanted.ssh_port,
        "ssh_host_key": host_key,
    }
    add(connection, BACKUP_STORAGE, values, wanted)


def remove_store(connection: Connection, uuid: str, wanted: AddImageStoreBackupStorage, *_: object) -> None:
    """Remove the row that this job inserted, with its tags."""
    table = backup_storage_table
    mine = (table.c.uuid == uuid) & (table.c.hostname == wanted.hostname.text)
    if connection.execute(delete(table).where(mine)).rowcount:
        drop_tags(connection, uuid)


def name_of(connection: Connection, uuid: str | None) -> str | None:
    """Return a backup storage's name, None when there is no such one."""
    table = backup_storage_table
    return connection.execute(select(table.c.name).where(table.c.uuid == uuid)).scalar()


def load_store(connection: Connection, uuid: str) -> Store:
    """Return a backup storage as drivers know it."""
    return store_of(connection, find(connection, BACKUP_STORAGE, uuid))


async def list_images(services: Services, store: Store, task_uuid: str) -> list[Held]:
    """Say which images lie in a store."""
    return await driver_of(store).list_images(services, store, task_uuid)
