"""What is done by itself: images that have been in the trash of a pool for their time are removed."""

from __future__ import annotations

import logging

from sqlalchemy import Connection, select

from agentkit.errors import HardpointError
from mn.db.schema import new_uuid
from mn.facilities.backup_storage.driver import driver_of
from mn.facilities.backup_storage.tables import CEPH_TYPE, Store, backup_storage_table, store_of
from mn.rest.services import Services

log = logging.getLogger(__name__)


async def clean_pools(services: Services) -> None:
    """Empty the trash of all Ceph backup storages of what is due."""
    for store in await services.db.read(load_connected):
        try:
            freed = await driver_of(store).reclaim(services, store, new_uuid())
        except HardpointError as error:
            extra = {"backup_storage": store.uuid, "reason": error.details}
            log.warning("trash not looked at", extra=extra)
            continue
        if freed.freed_bytes:
            told = {"backup_storage": store.uuid, "freed_bytes": freed.freed_bytes}
            log.info("images removed for good", extra=told)


def load_connected(connection: Connection) -> list[Store]:
    """Return the Ceph backup storages that are connected."""
    table = backup_storage_table
    mine = (table.c.type == CEPH_TYPE) & (table.c.status == "Connected")
    return [store_of(connection, row) for row in connection.execute(select(table).where(mine)).all()]
