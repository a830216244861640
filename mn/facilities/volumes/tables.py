"""The rows of volumes and snapshots."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Integer,
    Row,
    String,
    Table,
    Text,
    select,
    update,
)

from mn.db.schema import date_columns, metadata, named_columns, now_s, private, uuid_column
from mn.facilities.offerings import DISK_OFFERING
from mn.facilities.primary_storage.tables import LOCAL_RESOURCE, PRIMARY_STORAGE
from mn.query.resource import Relation, Resource

volume_table = Table(
    "volume",
    metadata,
    *named_columns("volume"),
    uuid_column(
        "primary_storage_uuid",
        ForeignKey("primary_storage.uuid"),
        index=True,
        comment="UUID of the primary storage that it is on",
    ),
    uuid_column("vm_instance_uuid", index=True, comment="UUID of the VM that it is attached to"),
    uuid_column("disk_offering_uuid", index=True, comment="UUID of the disk offering that it was made of"),
    uuid_column("root_image_uuid", index=True, comment="UUID of the image that it was made of"),
    Column("install_path", String(2048), index=True, comment="its file on the hosts"),
    Column("type", String(16), nullable=False, index=True, comment="Root or Data"),
    Column("format", String(16), index=True, comment="qcow2 or raw"),
    Column("size", BigInteger, nullable=False, index=True, comment="bytes that a VM sees"),
    Column("actual_size", BigInteger, index=True, comment="bytes that it takes, without snapshots"),
    Column("device_id", Integer, index=True, comment="its place among the VM's disks"),
    Column("state", String(16), nullable=False, index=True, comment="Enabled or Disabled"),
    Column(
        "status",
        String(16),
        nullable=False,
        index=True,
        comment="NotInstantiated, Creating, Ready, Deleted, or what is done with it: Migrating...",
    ),
    Column("is_shareable", Boolean, nullable=False, comment="whether several VMs may have it"),
    private("host_uuid", String(32), index=True),
    private("path", Text),
    private("backing_path", Text),
    private("parent_uuid", String(32)),
    private("tree_uuid", String(32)),
    *date_columns(),
)
"""`host_uuid` is that of a local volume. `path` and `backing_path` are within the storage; what is below is
the snapshot `parent_uuid`, or an image. `tree_uuid` is that of its snapshots.
"""

snapshot_table = Table(
    "volume_snapshot",
    metadata,
    *named_columns("snapshot"),
    Column("type", String(32), nullable=False, comment="Storage or Hypervisor"),
    uuid_column(
        "volume_uuid",
        ForeignKey("volume.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the volume",
    ),
    uuid_column("tree_uuid", nullable=False, index=True, comment="what the snapshots of a volume share"),
    uuid_column("parent_uuid", index=True, comment="UUID of the snapshot before it"),
    uuid_column("primary_storage_uuid", index=True, comment="UUID of the primary storage that it is on"),
    Column("primary_storage_install_path", Text, comment="its file on the hosts"),
    Column("volume_type", String(16), nullable=False, comment="Root or Data"),
    Column("format", String(16), nullable=False, index=True, comment="qcow2 or raw"),
    Column("latest", Boolean, nullable=False, index=True, comment="whether the volume is based on it"),
    Column("size", BigInteger, nullable=False, index=True, comment="bytes that it takes"),
    Column("state", String(16), nullable=False, index=True, comment="Enabled"),
    Column("status", String(16), nullable=False, index=True, comment="Creating, Ready or Deleting"),
    private("path", Text, nullable=False),
    private("backing_path", Text),
    *date_columns(),
)

VOLUME: Resource = Resource(
    "Volume",
    volume_table,
    {
        "primaryStorage": Relation(lambda: PRIMARY_STORAGE, "primaryStorageUuid", "uuid"),
        "diskOffering": Relation(lambda: DISK_OFFERING, "diskOfferingUuid", "uuid"),
        "snapshot": Relation(lambda: SNAPSHOT, "uuid", "volumeUuid"),
        "localStorageHostRef": Relation(lambda: LOCAL_RESOURCE, "uuid", "resourceUuid"),
    },
)
SNAPSHOT: Resource = Resource(
    "VolumeSnapshot",
    snapshot_table,
    {
        "volume": Relation(lambda: VOLUME, "volumeUuid", "uuid"),
        "primaryStorage": Relation(lambda: PRIMARY_STORAGE, "primaryStorageUuid", "uuid"),
        "localStorageHostRef": Relation(lambda: LOCAL_RESOURCE, "uuid", "resourceUuid"),
    },
)
PRIMARY_STORAGE.relations["volume"] = Relation(lambda: VOLUME, "uuid", "primaryStorageUuid")
PRIMARY_STORAGE.relations["volumeSnapshot"] = Relation(lambda: SNAPSHOT, "uuid", "primaryStorageUuid")
DISK_OFFERING.relations["volume"] = Relation(lambda: VOLUME, "uuid", "diskOfferingUuid")
LOCAL_RESOURCE.relations["volume"] = Relation(lambda: VOLUME, "resourceUuid", "uuid")
LOCAL_RESOURCE.relations["snapshot"] = Relation(lambda: SNAPSHOT, "resourceUuid", "uuid")


def load_volume(connection: Connection, uuid: str) -> Row[Any] | None:
    """Return a volume's row, None when there is none."""
    return connection.execute(select(volume_table).where(volume_table.c.uuid == uuid)).first()


def change_volume(connection: Connection, uuid: str, **values: Any) -> None:
    """Write columns of a volume; nothing happens when it is gone."""
    where = volume_table.c.uuid == uuid
    connection.execute(update(volume_table).where(where).values(**values, last_op_date=now_s()))


def snapshots_of(connection: Connection, volume_uuid: str) -> list[Row[Any]]:
    """Return a volume's snapshots, older ones first: so each comes after what it stands on."""
    mine = snapshot_table.c.volume_uuid == volume_uuid
    return list(connection.execute(select(snapshot_table).where(mine).order_by(snapshot_table.c.seq)))
