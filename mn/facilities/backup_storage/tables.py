"""The rows of backup storages and of their zones, their resources, and the units of work on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Integer,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from agentkit.errors import Blame, HardpointError
from mn.db.schema import (
    Document,
    date_columns,
    metadata,
    named_columns,
    new_uuid,
    now_s,
    private,
    sequence_column,
    uuid_column,
)
from mn.facilities.cascade import when_deleted
from mn.facilities.common import find
from mn.facilities.zones import ZONE
from mn.fleet.agents import STORAGE_AGENT
from mn.fleet.client import Endpoint
from mn.query.resource import Relation, Resource

IMAGE_STORE_TYPE, CEPH_TYPE = "ImageStoreBackupStorage", "Ceph"
SEALED_FOR = "password of a backup storage"

backup_storage_table = Table(
    "backup_storage",
    metadata,
    *named_columns("backup storage"),
    Column("url", String(2048), nullable=False, comment="where it keeps images: a folder of its server"),
    Column("total_capacity", BigInteger, nullable=False, index=True, comment="bytes of its file system"),
    Column("available_capacity", BigInteger, nullable=False, index=True, comment="bytes that are free"),
    Column("type", String(64), nullable=False, index=True, comment="ImageStoreBackupStorage or Ceph"),
    Column("state", String(32), nullable=False, index=True, comment="Enabled or Disabled"),
    Column("status", String(32), nullable=False, index=True, comment="Connecting, Connected or Disconnected"),
    Column(
        "attached_zone_uuids",
        Document,
        nullable=False,
        info={"members": True},
        comment="UUIDs of the zones that it is attached to",
    ),
    Column("hostname", String(255), unique=True, comment="address or name of its server"),
    Column("username", String(255), comment="SSH user"),
    Column("fsid", String(36), unique=True, comment="UUID that a Ceph cluster has of its own"),
    Column("pool_name", String(128), index=True, comment="Ceph pool of the images"),
    Column(
        "pool_available_capacity",
        BigInteger,
        index=True,
        comment="bytes that contents of the pool may still have",
    ),
    Column("pool_used_capacity", BigInteger, index=True, comment="bytes of the pool's contents"),
    Column(
        "pool_replicated_size", Integer, index=True, comment="how many copies the pool has of each object"
    ),
    private("password", Text),
    Column("ssh_port", Integer, comment="SSH port"),
    private("ssh_host_key", Text),
    private("agent_address", String(255)),
    private("agent_port", Integer),
    private("inventory_hash", String(64)),
    *date_columns(),
)
zone_ref_table = Table(
    "backup_storage_zone_ref",
    metadata,
    sequence_column(),
    private("uuid", String(32), nullable=False, unique=True),
    uuid_column(
        "backup_storage_uuid",
        ForeignKey("backup_storage.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the backup storage",
    ),
    uuid_column("zone_uuid", ForeignKey("zone.uuid"), nullable=False, index=True, comment="UUID of the zone"),
    *date_columns(),
)

BACKUP_STORAGE = Resource("BackupStorage", backup_storage_table)
IMAGE_STORE = Resource("ImageStoreBackupStorage", backup_storage_table, only={"type": IMAGE_STORE_TYPE})
ZONE_REF = Resource(
    "BackupStorageZoneRef",
    zone_ref_table,
    {
        "zone": Relation(lambda: ZONE, "zoneUuid", "uuid"),
        "backupStorage": Relation(lambda: BACKUP_STORAGE, "backupStorageUuid", "uuid"),
    },
)
for _resource in (BACKUP_STORAGE, IMAGE_STORE):
    _resource.relations["zoneRef"] = Relation(lambda: ZONE_REF, "uuid", "backupStorageUuid")
ZONE.relations["backupStorageRef"] = Relation(lambda: ZONE_REF, "uuid", "zoneUuid")


class Store(msgspec.Struct, frozen=True):
    """A backup storage as drivers know it."""

    uuid: str
    name: str
    type: str
    hostname: str
    port: int
    agent: str = STORAGE_AGENT.name
    agent_uuid: str = ""
    """What the agent knows its server by; empty: the storage's own uuid."""
    pool: str = ""

    @property
    def endpoint(self) -> Endpoint:
        """Where its agent listens."""
        return Endpoint(self.agent_uuid or self.uuid, self.hostname, self.port, self.agent)


Locate = Callable[[Connection, Row[Any]], Store]

_locators: dict[str, Locate] = {}


def locate_by(type_name: str, locate: Locate) -> None:
    """Say how the agent of a type of backup storage is found, where it is not in the storage's row."""
    _locators[type_name] = locate


def change_storage(connection: Connection, uuid: str, **values: Any) -> None:
    """Write columns of a backup storage; nothing happens when it is gone."""
    where = backup_storage_table.c.uuid == uuid
    connection.execute(update(backup_storage_table).where(where).values(**values, last_op_date=now_s()))


def load_storage(connection: Connection, uuid: str) -> Row[Any] | None:
    """Return a backup storage's row, None when there is no such one."""
    query = select(backup_storage_table).where(backup_storage_table.c.uuid == uuid)
    return connection.execute(query).first()


def store_of(connection: Connection, row: Row[Any]) -> Store:
    """Return a backup storage as drivers know it. Raises HardpointError when its agent cannot be asked."""
    locate = _locators.get(row.type)
    if locate is not None:
        return locate(connection, row)
    return Store(row.uuid, row.name, row.type, row.agent_address or row.hostname, row.agent_port or 0)


def connected_store(connection: Connection, uuid: str, *, enabled: bool = False) -> Store:
    """Return a backup storage that can be worked with.

    Raises HardpointError: SYS.1003 when it does not exist, SYS.1006 when it is not connected, or `enabled`
    is asked for and it is not.
    """
    row = find(connection, BACKUP_STORAGE, uuid)
    if row.status != "Connected":
        raise _refused(row, f"is {row.status}", "reconnect it (ReconnectBackupStorage), then try again")
    if enabled and row.state != "Enabled":
        raise _refused(row, f"is {row.state}", "enable it (ChangeBackupStorageState), or use another one")
    return store_of(connection, row)


def zones_of(connection: Connection, uuid: str) -> list[str]:
    """Return the zones that a backup storage is attached to, in the order they were attached."""
    table = zone_ref_table
    query = select(table.c.zone_uuid).where(table.c.backup_storage_uuid == uuid).order_by(table.c.seq)
    return list(connection.execute(query).scalars())


def attach_zone(connection: Connection, uuid: str, zone_uuid: str) -> None:
    """Attach a backup storage to a zone. Raises HardpointError (SYS.1006) when it is attached already."""
    row, zone = find(connection, BACKUP_STORAGE, uuid), find(connection, ZONE, zone_uuid)
    if zone_uuid in zones_of(connection, uuid):
        raise _refused(
            row, f"is attached to zone {zone.name} ({zone_uuid}) already", "there is nothing to do"
        )
    now = now_s()
    values = {"uuid": new_uuid(), "backup_storage_uuid": uuid, "zone_uuid": zone_uuid}
    connection.execute(insert(zone_ref_table), {**values, "create_date": now, "last_op_date": now})
    _note_zones(connection, uuid)


def detach_zone(connection: Connection, uuid: str, zone_uuid: str) -> None:
    """Detach a backup storage from a zone.

    Raises HardpointError: SYS.1003, SYS.1006 when it is not attached.
    """
    row = find(connection, BACKUP_STORAGE, uuid)
    find(connection, ZONE, zone_uuid)
    if not _detach(connection, uuid, zone_uuid):
        raise _refused(row, f"is not attached to zone {zone_uuid}", "see its attachedZoneUuids")


def _detach(connection: Connection, uuid: str, zone_uuid: str) -> bool:
    table = zone_ref_table
    mine = (table.c.backup_storage_uuid == uuid) & (table.c.zone_uuid == zone_uuid)
    found = connection.execute(delete(table).where(mine)).rowcount > 0
    _note_zones(connection, uuid)
    return found


def detach_all_of(connection: Connection, zone_uuid: str) -> None:
    """Detach all backup storages from a zone that goes."""
    table = zone_ref_table
    query = select(table.c.backup_storage_uuid).where(table.c.zone_uuid == zone_uuid)
    for uuid in list(connection.execute(query).scalars()):
        _detach(connection, uuid, zone_uuid)


def _note_zones(connection: Connection, uuid: str) -> None:
    """Bring what the inventory shows in line with the references."""
    change_storage(connection, uuid, attached_zone_uuids=zones_of(connection, uuid))


def _refused(row: Row[Any], what: str, remedy: str) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"backup storage {row.name} ({row.uuid}) {what}",
        remedy=remedy,
        blame=Blame.CALLER,
    )


when_deleted(ZONE, detach_all_of)
