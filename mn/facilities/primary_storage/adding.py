"""What adding a primary storage is, whatever its type: the row is made, enabled, without a cluster."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Connection

from mn.facilities.common import add, find, inventory
from mn.facilities.primary_storage.driver import Driver, driver_of
from mn.facilities.primary_storage.tables import LOCAL, PRIMARY_STORAGE
from mn.facilities.zones import ZONE
from mn.rest.operation import Create, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, StorageUrl


class AddStorage(Create, kw_only=True):
    """What the operations that add one have in common."""

    storage_type: ClassVar[str]

    name: Name
    zone_uuid: Ref
    description: Description | None = None

    @property
    def driver(self) -> Driver:
        """The driver of the type that is added."""
        return driver_of(self.storage_type)

    def url_of(self, uuid: str) -> str:
        """Return the storage's url."""
        raise NotImplementedError

    async def run(self, job: Job) -> Reply:
        """Insert the row; hosts come with the first cluster."""
        uuid = self.resource_uuid or job.uuid_for("primary-storage")
        await job.transact(insert_storage, uuid, self)
        return await inventory(job.services, PRIMARY_STORAGE, uuid)


class AddPrimaryStorage(AddStorage):
    """What the operations have in common that add one which is at a url."""

    url: StorageUrl

    def check(self) -> None:
        """Refuse a url that the storage cannot have."""
        self.driver.check_url(self.url)

    def url_of(self, uuid: str) -> str:
        """Return what the caller has given."""
        return self.url


def insert_storage(connection: Connection, uuid: str, wanted: AddStorage, **more: Any) -> None:
    """Insert the row.

    Raises HardpointError: SYS.1003 when its zone does not exist, SYS.1007 for a url that another one has.
    """
    find(connection, ZONE, wanted.zone_uuid)
    driver, url = wanted.driver, wanted.url_of(uuid)
    driver.check_unique(connection, uuid, url, wanted.zone_uuid)
    values: dict[str, Any] = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "zone_uuid": wanted.zone_uuid,
        "url": url,
        "type": wanted.storage_type,
        "state": "Enabled",
        "status": "Connected" if wanted.storage_type == LOCAL else "Disconnected",
        "mount_path": driver.mount_path(uuid, url),
        "attached_cluster_uuids": [],
        "initialised": False,
        **more,
    }
    add(connection, PRIMARY_STORAGE, values, wanted)
