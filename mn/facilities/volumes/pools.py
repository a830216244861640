"""Which volumes are in a pool of a Ceph primary storage: it stays with the storage while there are any."""

from __future__ import annotations

from sqlalchemy import Connection, select

from mn.facilities.primary_storage.ceph_pools import pool_used_by
from mn.facilities.volumes.tables import volume_table


def volume_in_pool(connection: Connection, storage_uuid: str, pool: str) -> str | None:
    """Name a volume that is in a pool which it does not get into by itself, None when there is none."""
    table = volume_table.c
    there = (table.primary_storage_uuid == storage_uuid) & table.path.startswith(
        f"pools/{pool}/", autoescape=True
    )
    row = connection.execute(select(table.name, table.uuid).where(there).limit(1)).first()
    return f"volume {row.name} ({row.uuid})" if row is not None else None


pool_used_by(volume_in_pool)
