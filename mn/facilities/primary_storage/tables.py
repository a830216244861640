"""Primary storages, the clusters and hosts that they belong to, and the ledger of what is on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    select,
    update,
)

from mn.db.schema import (
    Document,
    date_columns,
    identity_columns,
    metadata,
    named_columns,
    now_s,
    private,
    uuid_column,
)
from mn.facilities.cascade import part_of
from mn.facilities.clusters import CLUSTER
from mn.facilities.hosts.tables import HOST
from mn.facilities.zones import ZONE
from mn.query.resource import Relation, Resource

LOCAL, NFS, SMP = "LocalStorage", "NFS", "SharedMountPoint"
SHARED_BLOCK, CEPH = "SharedBlock", "Ceph"
VOLUME, SNAPSHOT, IMAGE_CACHE = "VolumeVO", "VolumeSnapshotVO", "ImageCacheVO"


def _bytes(name: str, comment: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, index=True, server_default="0", comment=comment)


def _capacity_columns() -> list[Column[int]]:
    return [
        _bytes("total_capacity", "bytes that volumes may take"),
        _bytes("available_capacity", "bytes of it that are free"),
        _bytes("total_physical_capacity", "bytes of the file system"),
        _bytes("available_physical_capacity", "bytes of it that are free"),
        _bytes("system_used_capacity", "bytes that were in use before"),
    ]


primary_storage_table = Table(
    "primary_storage",
    metadata,
    *named_columns("primary storage"),
    uuid_column("zone_uuid", ForeignKey("zone.uuid"), nullable=False, index=True, comment="UUID of its zone"),
    Column("url", String(2048), nullable=False, index=True, comment="its directory or export"),
    *_capacity_columns(),
    Column("type", String(32), nullable=False, index=True, comment="LocalStorage, NFS, SharedBlock..."),
    Column(
        "state", String(32), nullable=False, index=True, comment="Enabled, Disabled, Maintenance or Deleting"
    ),
    Column("status", String(32), nullable=False, index=True, comment="Connecting, Connected or Disconnected"),
    Column("mount_path", String(2048), nullable=False, comment="its directory on the hosts"),
    Column(
        "attached_cluster_uuids",
        Document,
        nullable=False,
        info={"members": True},
        comment="UUIDs of the clusters that it is attached to",
    ),
    Column(
        "shared_block_group_type",
        String(32),
        index=True,
        comment="LvmVolumeGroupBasic where it is a volume group",
    ),
    Column("fsid", String(36), unique=True, comment="UUID that a Ceph cluster has of its own"),
    Column("root_volume_pool_name", String(128), index=True, comment="Ceph pool of root volumes"),
    Column("data_volume_pool_name", String(128), index=True, comment="Ceph pool of data volumes"),
    Column("image_cache_pool_name", String(128), index=True, comment="Ceph pool of cached images"),
    private("ceph_client", String(128)),
    private("former_ceph_clients", Document),
    private("initialised", Boolean, nullable=False),
    *date_columns(),
)
"""`initialised` says that a shared one has its marker. Capacities of a local one are sums over its hosts."""

cluster_ref_table = Table(
    "primary_storage_cluster_ref",
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
        "cluster_uuid",
        ForeignKey("cluster.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the cluster",
    ),
    *date_columns(),
    UniqueConstraint("primary_storage_uuid", "cluster_uuid"),
)

host_ref_table = Table(
    "primary_storage_host_ref",
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
    Column("status", String(32), nullable=False, index=True, comment="Connected or Disconnected"),
    private("reason", Text),
    private("ceph_client", String(128)),
    *_capacity_columns(),
    *date_columns(),
    UniqueConstraint("primary_storage_uuid", "host_uuid"),
)
"""`ceph_client` is the one whose key the host was given last.

Capacities are those of a local storage on the host; of a shared one they stand in its own row."""

allocation_table = Table(
    "primary_storage_allocation",
    metadata,
    *identity_columns("reference"),
    uuid_column("resource_uuid", nullable=False, index=True, comment="UUID of the volume, snapshot or image"),
    uuid_column(
        "primary_storage_uuid",
        ForeignKey("primary_storage.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the primary storage",
    ),
    uuid_column("host_uuid", index=True, comment="UUID of the host that it is on"),
    Column("size", BigInteger, nullable=False, index=True, comment="bytes"),
    Column(
        "resource_type",
        String(32),
        nullable=False,
        index=True,
        comment="VolumeVO, VolumeSnapshotVO or ImageCacheVO",
    ),
    private("charge", BigInteger, nullable=False),
    private("storage_type", String(32), nullable=False),
    *date_columns(),
)
"""What takes of a storage's capacity. `charge` is what it takes: the size, by over-provisioning."""

PRIMARY_STORAGE = Resource(
    "PrimaryStorage", primary_storage_table, {"zone": Relation(lambda: ZONE, "zoneUuid", "uuid")}
)
CLUSTER_REF = Resource(
    "PrimaryStorageClusterRef",
    cluster_ref_table,
    {
        "cluster": Relation(lambda: CLUSTER, "clusterUuid", "uuid"),
        "primaryStorage": Relation(lambda: PRIMARY_STORAGE, "primaryStorageUuid", "uuid"),
    },
)
HOST_REF = Resource(
    "PrimaryStorageHostRef",
    host_ref_table,
    {
        "host": Relation(lambda: HOST, "hostUuid", "uuid"),
        "primaryStorage": Relation(lambda: PRIMARY_STORAGE, "primaryStorageUuid", "uuid"),
    },
)
LOCAL_RESOURCE = Resource(
    "LocalStorageResourceRef",
    allocation_table,
    {
        "host": Relation(lambda: HOST, "hostUuid", "uuid"),
        "primaryStorage": Relation(lambda: PRIMARY_STORAGE, "primaryStorageUuid", "uuid"),
    },
    only={"storage_type": LOCAL},
)
PRIMARY_STORAGE.relations["clusterRef"] = Relation(lambda: CLUSTER_REF, "uuid", "primaryStorageUuid")
PRIMARY_STORAGE.relations["hostRef"] = Relation(lambda: HOST_REF, "uuid", "primaryStorageUuid")
ZONE.relations["primaryStorage"] = Relation(lambda: PRIMARY_STORAGE, "uuid", "zoneUuid")
CLUSTER.relations["primaryStorageRef"] = Relation(lambda: CLUSTER_REF, "uuid", "clusterUuid")
part_of(PRIMARY_STORAGE, HOST_REF, "primary_storage_uuid")


def change_storage(connection: Connection, uuid: str, **values: Any) -> None:
    """Write columns of a primary storage; nothing happens when it is gone."""
    where = primary_storage_table.c.uuid == uuid
    connection.execute(update(primary_storage_table).where(where).values(**values, last_op_date=now_s()))


def load_storage(connection: Connection, uuid: str) -> Row[Any] | None:
    """Return a primary storage's row, None when there is none."""
    where = primary_storage_table.c.uuid == uuid
    return connection.execute(select(primary_storage_table).where(where)).first()


def attached_clusters(connection: Connection, uuid: str) -> list[str]:
    """Return the uuids of the clusters that a storage is attached to."""
    refs = cluster_ref_table.c
    found = select(refs.cluster_uuid).where(refs.primary_storage_uuid == uuid).order_by(refs.seq)
    return list(connection.execute(found).scalars())


def storages_of_cluster(connection: Connection, cluster_uuid: str) -> list[str]:
    """Return the uuids of the storages that are attached to a cluster."""
    refs = cluster_ref_table.c
    found = select(refs.primary_storage_uuid).where(refs.cluster_uuid == cluster_uuid).order_by(refs.seq)
    return list(connection.execute(found).scalars())
