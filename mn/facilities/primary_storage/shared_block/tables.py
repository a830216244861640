"""The LUNs of shared-block storages, their hosts, and the numbers that hosts hold leases under."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Integer,
    Row,
    String,
    Table,
    UniqueConstraint,
    select,
)

from kvmagent.protocol_shared_block import bare_wwid
from mn.db.schema import date_columns, identity_columns, metadata, named_columns, private, uuid_column
from mn.facilities.cascade import part_of
from mn.facilities.hosts.tables import HOST
from mn.facilities.primary_storage.tables import PRIMARY_STORAGE, SHARED_BLOCK, primary_storage_table
from mn.facilities.zones import ZONE
from mn.query.resource import Relation, Resource

GROUP_TYPE, LUN_TYPE = "LvmVolumeGroupBasic", "LvmLogicalVolumeBasic"
REASON_LENGTH = 512
HOST_ID_MOST = 2000
"""sanlock has so many host ids in a lockspace."""

lun_table = Table(
    "shared_block",
    metadata,
    *named_columns("LUN"),
    uuid_column(
        "shared_block_group_uuid",
        ForeignKey("primary_storage.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the primary storage",
    ),
    Column("type", String(32), nullable=False, index=True, comment="LvmLogicalVolumeBasic"),
    Column("disk_uuid", String(255), nullable=False, index=True, comment="WWID of the disk"),
    private("bare_wwid", String(255), nullable=False, unique=True),
    Column(
        "state", String(32), nullable=False, index=True, comment="Enabled, Disabled, Maintenance or Deleting"
    ),
    Column("status", String(32), nullable=False, index=True, comment="Connecting, Connected or Disconnected"),
    Column("total_capacity", BigInteger, index=True, comment="bytes of it"),
    Column("available_capacity", BigInteger, index=True, comment="bytes of it that are free"),
    *date_columns(),
)
"""`bare_wwid` is what all spellings of its WWID have in common: a disk belongs to one storage only."""

host_table = Table(
    "shared_block_host_ref",
    metadata,
    *identity_columns("reference"),
    uuid_column(
        "primary_storage_uuid",
        ForeignKey("primary_storage.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the primary storage",
    ),
    uuid_column(
        "host_uuid",
        ForeignKey("host.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the host",
    ),
    Column(
        "host_id", Integer, nullable=False, index=True, comment="number that the host holds its lease under"
    ),
    Column("status", String(32), nullable=False, index=True, comment="Connecting, Connected or Disconnected"),
    Column(
        "lock_state",
        String(32),
        index=True,
        comment="Held, Joining, NotJoined, RenewalLate, LeaseLost, DeviceMissing, ForeignLock or DaemonDown",
    ),
    Column("reason", String(REASON_LENGTH), index=True, comment="why it is so"),
    *date_columns(),
    UniqueConstraint("primary_storage_uuid", "host_uuid"),
)

host_id_table = Table(
    "shared_block_host_id",
    metadata,
    *identity_columns("host id"),
    uuid_column(
        "primary_storage_uuid", ForeignKey("primary_storage.uuid", ondelete="CASCADE"), nullable=False
    ),
    uuid_column("host_uuid", nullable=False),
    Column("host_id", Integer, nullable=False),
    *date_columns(),
    UniqueConstraint("primary_storage_uuid", "host_uuid"),
    UniqueConstraint("primary_storage_uuid", "host_id"),
)
"""Who may have a lease.

A row stays until the host has said that it has left: it may run where nobody sees it.
"""

LUN: Resource = Resource(
    "SharedBlock",
    lun_table,
    {
        "sharedBlockGroup": Relation(lambda: GROUP, "sharedBlockGroupUuid", "uuid"),
        "primaryStorage": Relation(lambda: PRIMARY_STORAGE, "sharedBlockGroupUuid", "uuid"),
    },
)
GROUP: Resource = Resource(
    "SharedBlockGroupPrimaryStorage",
    primary_storage_table,
    {
        "zone": Relation(lambda: ZONE, "zoneUuid", "uuid"),
        "sharedBlocks": Relation(lambda: LUN, "uuid", "sharedBlockGroupUuid"),
    },
    only={"type": SHARED_BLOCK},
)
GROUP.lists["sharedBlocks"] = GROUP.relations["sharedBlocks"]
GROUP_HOST: Resource = Resource(
    "SharedBlockGroupPrimaryStorageHostRef",
    host_table,
    {
        "primaryStorage": Relation(lambda: GROUP, "primaryStorageUuid", "uuid"),
        "host": Relation(lambda: HOST, "hostUuid", "uuid"),
    },
)
GROUP.relations["hostRef"] = Relation(lambda: GROUP_HOST, "uuid", "primaryStorageUuid")
PRIMARY_STORAGE.relations["sharedBlocks"] = GROUP.relations["sharedBlocks"]
HOST.relations["sharedBlockHostRef"] = Relation(lambda: GROUP_HOST, "uuid", "hostUuid")
part_of(PRIMARY_STORAGE, LUN, "shared_block_group_uuid")
part_of(PRIMARY_STORAGE, GROUP_HOST, "primary_storage_uuid")


def luns_of(connection: Connection, storage_uuid: str) -> list[Row[Any]]:
    """Return a storage's LUNs in the order in which they came."""
    mine = lun_table.c.shared_block_group_uuid == storage_uuid
    return list(connection.execute(select(lun_table).where(mine).order_by(lun_table.c.seq)))


def lun_with(connection: Connection, wwid: str) -> Row[Any] | None:
    """Return the LUN that a disk is, whichever way its WWID is written."""
    mine = lun_table.c.bare_wwid == bare_wwid(wwid)
    return connection.execute(select(lun_table).where(mine)).first()
