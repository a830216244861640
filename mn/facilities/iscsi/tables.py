"""iSCSI servers, their targets and LUNs, the clusters that use them, and what each host has of them."""

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
    Text,
    UniqueConstraint,
    select,
    update,
)

from mn.db.schema import (
    NAME_LENGTH,
    Document,
    date_columns,
    identity_columns,
    metadata,
    now_s,
    private,
    uuid_column,
)
from mn.facilities.cascade import part_of
from mn.facilities.clusters import CLUSTER
from mn.facilities.hosts.tables import HOST, host_table
from mn.query.resource import Relation, Resource

CONNECTED, DEGRADED, DISCONNECTED = "Connected", "Degraded", "Disconnected"
CHAP_NAME_LENGTH = 128


def _server_uuid() -> Column[str]:
    return uuid_column(
        "iscsi_server_uuid",
        ForeignKey("iscsi_server.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the iSCSI server",
    )


iscsi_server_table = Table(
    "iscsi_server",
    metadata,
    *identity_columns("iSCSI server"),
    Column("name", String(NAME_LENGTH), nullable=False, index=True, comment="name of the iSCSI server"),
    Column("ip", String(255), nullable=False, index=True, comment="address or name of its portal"),
    Column("port", Integer, nullable=False, index=True, comment="port of its portal"),
    Column("chap_user_name", String(CHAP_NAME_LENGTH), index=True, comment="CHAP name of the hosts"),
    Column("chap_user_password", String(16), index=True, comment="stars when there is a CHAP secret"),
    Column("mutual_chap_user_name", String(CHAP_NAME_LENGTH), index=True, comment="CHAP name of the targets"),
    Column(
        "mutual_chap_user_password",
        String(16),
        index=True,
        comment="stars when there is a secret of the targets",
    ),
    Column("state", String(32), nullable=False, index=True, comment="Enabled or Disabled"),
    private("chap_secret", Text),
    private("mutual_chap_secret", Text),
    *date_columns(),
    UniqueConstraint("ip", "port"),
)

iscsi_target_table = Table(
    "iscsi_target",
    metadata,
    *identity_columns("target"),
    _server_uuid(),
    Column("iqn", String(255), nullable=False, index=True, comment="its iSCSI name"),
    Column("state", String(32), nullable=False, index=True, comment="Enabled or Disabled"),
    *date_columns(),
    UniqueConstraint("iscsi_server_uuid", "iqn"),
)

iscsi_lun_table = Table(
    "iscsi_lun",
    metadata,
    *identity_columns("LUN"),
    uuid_column(
        "iscsi_target_uuid",
        ForeignKey("iscsi_target.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the target",
    ),
    Column("wwid", String(255), nullable=False, index=True, comment="world-wide identifier"),
    Column("vendor", String(255), nullable=False, index=True, comment="vendor"),
    Column("model", String(255), nullable=False, index=True, comment="model"),
    Column("wwn", String(255), nullable=False, index=True, comment="world-wide name"),
    Column("serial", String(255), nullable=False, index=True, comment="serial number"),
    Column("hctl", String(64), nullable=False, index=True, comment="SCSI address on one of the hosts"),
    Column("type", String(16), nullable=False, index=True, comment="mpath or disk"),
    Column("path", String(512), nullable=False, index=True, comment="name in /dev/disk/by-path"),
    Column("size", BigInteger, nullable=False, index=True, comment="bytes"),
    Column("multipath_device_uuid", String(255), index=True, comment="name of its map in /dev/mapper"),
    private("number", Integer, nullable=False),
    private("unit_serial", String(255)),
    *date_columns(),
    UniqueConstraint("iscsi_target_uuid", "number"),
)

cluster_ref_table = Table(
    "iscsi_server_cluster_ref",
    metadata,
    *identity_columns("reference"),
    Column("id", BigInteger, index=True, comment="number of the reference"),
    _server_uuid(),
    uuid_column(
        "cluster_uuid",
        ForeignKey("cluster.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the cluster",
    ),
    *date_columns(),
    UniqueConstraint("iscsi_server_uuid", "cluster_uuid"),
)

host_ref_table = Table(
    "iscsi_server_host_ref",
    metadata,
    *identity_columns("reference"),
    _server_uuid(),
    uuid_column(
        "host_uuid",
        ForeignKey("host.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the host",
    ),
    Column("status", String(32), nullable=False, index=True, comment="Connected, Degraded or Disconnected"),
    Column("reason", Text, comment="what the host says is wrong"),
    Column("paths", Integer, nullable=False, index=True, comment="paths to LUNs that the host has"),
    Column("failed_paths", Integer, nullable=False, index=True, comment="how many of them carry nothing"),
    private("report", Document, nullable=False),
    *date_columns(),
    UniqueConstraint("iscsi_server_uuid", "host_uuid"),
)
"""`report` is what the host said last. A row stays until the host has logged out."""

ISCSI_SERVER = Resource("IscsiServer", iscsi_server_table)
ISCSI_TARGET = Resource(
    "IscsiTarget",
    iscsi_target_table,
    {"iscsiServer": Relation(lambda: ISCSI_SERVER, "iscsiServerUuid", "uuid")},
)
ISCSI_LUN = Resource(
    "IscsiLun",
    iscsi_lun_table,
    {"iscsiTarget": Relation(lambda: ISCSI_TARGET, "iscsiTargetUuid", "uuid")},
)
CLUSTER_REF = Resource(
    "IscsiServerClusterRef",
    cluster_ref_table,
    {
        "iscsiServer": Relation(lambda: ISCSI_SERVER, "iscsiServerUuid", "uuid"),
        "cluster": Relation(lambda: CLUSTER, "clusterUuid", "uuid"),
    },
)
HOST_REF = Resource(
    "IscsiServerHostRef",
    host_ref_table,
    {
        "iscsiServer": Relation(lambda: ISCSI_SERVER, "iscsiServerUuid", "uuid"),
        "host": Relation(lambda: HOST, "hostUuid", "uuid"),
    },
)
_targets = Relation(lambda: ISCSI_TARGET, "uuid", "iscsiServerUuid")
_luns = Relation(lambda: ISCSI_LUN, "uuid", "iscsiTargetUuid")
_clusters = Relation(lambda: CLUSTER_REF, "uuid", "iscsiServerUuid")
_hosts = Relation(lambda: HOST_REF, "uuid", "iscsiServerUuid")
ISCSI_SERVER.relations.update(iscsiTargets=_targets, iscsiClusterRefs=_clusters, iscsiHostRefs=_hosts)
ISCSI_SERVER.lists.update(iscsiTargets=_targets, iscsiClusterRefs=_clusters, iscsiHostRefs=_hosts)
ISCSI_TARGET.relations["iscsiLuns"] = _luns
ISCSI_TARGET.lists["iscsiLuns"] = _luns
CLUSTER.relations["iscsiServerRef"] = Relation(lambda: CLUSTER_REF, "uuid", "clusterUuid")
HOST.relations["iscsiServerRef"] = Relation(lambda: HOST_REF, "uuid", "hostUuid")
part_of(ISCSI_SERVER, ISCSI_TARGET, "iscsi_server_uuid")
part_of(ISCSI_SERVER, HOST_REF, "iscsi_server_uuid")
part_of(HOST, HOST_REF, "host_uuid")


def load_server(connection: Connection, uuid: str) -> Row[Any] | None:
    """Return a server's row, None when there is none."""
    where = iscsi_server_table.c.uuid == uuid
    return connection.execute(select(iscsi_server_table).where(where)).first()


def change_server(connection: Connection, uuid: str, **values: Any) -> None:
    """Write columns of a server; nothing happens when it is gone."""
    where = iscsi_server_table.c.uuid == uuid
    connection.execute(update(iscsi_server_table).where(where).values(**values, last_op_date=now_s()))


def attached_clusters(connection: Connection, uuid: str) -> list[str]:
    """Return the uuids of the clusters that a server is attached to."""
    refs = cluster_ref_table.c
    found = select(refs.cluster_uuid).where(refs.iscsi_server_uuid == uuid).order_by(refs.seq)
    return list(connection.execute(found).scalars())


def servers_of_cluster(connection: Connection, cluster_uuid: str) -> list[str]:
    """Return the uuids of the servers that are attached to a cluster."""
    refs = cluster_ref_table.c
    found = select(refs.iscsi_server_uuid).where(refs.cluster_uuid == cluster_uuid).order_by(refs.seq)
    return list(connection.execute(found).scalars())


def connected_hosts(connection: Connection, cluster_uuids: list[str]) -> list[str]:
    """Return the uuids of the connected hosts of some clusters."""
    hosts = host_table.c
    wanted = hosts.cluster_uuid.in_(cluster_uuids) & (hosts.status == "Connected")
    query = select(hosts.uuid).where(wanted, hosts.agent_port.is_not(None)).order_by(hosts.seq)
    return list(connection.execute(query).scalars())
