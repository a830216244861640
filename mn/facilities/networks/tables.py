"""The rows of L2 and L3 networks, address ranges and used addresses."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Integer, String, Table, UniqueConstraint

from mn.db.schema import Document, date_columns, identity_columns, metadata, named_columns, uuid_column
from mn.facilities.clusters import CLUSTER
from mn.facilities.zones import ZONE
from mn.query.resource import Relation, Resource

NO_VLAN, VLAN = "L2NoVlanNetwork", "L2VlanNetwork"

l2_network_table = Table(
    "l2_network",
    metadata,
    *named_columns("L2 network"),
    uuid_column("zone_uuid", ForeignKey("zone.uuid"), nullable=False, index=True, comment="UUID of its zone"),
    Column("physical_interface", String(15), nullable=False, index=True, comment="interface of the hosts"),
    Column("type", String(32), nullable=False, index=True, comment=f"{NO_VLAN} or {VLAN}"),
    Column("vlan", Integer, index=True, comment="VLAN tag, 1 to 4094"),
    Column(
        "attached_cluster_uuids",
        Document,
        nullable=False,
        info={"members": True},
        comment="UUIDs of the clusters that it is attached to",
    ),
    *date_columns(),
)

l2_cluster_ref_table = Table(
    "l2_network_cluster_ref",
    metadata,
    *identity_columns("reference"),
    uuid_column(
        "l2_network_uuid",
        ForeignKey("l2_network.uuid"),
        nullable=False,
        index=True,
        comment="UUID of the L2 network",
    ),
    uuid_column(
        "cluster_uuid", ForeignKey("cluster.uuid"), nullable=False, index=True, comment="UUID of the cluster"
    ),
    *date_columns(),
    UniqueConstraint("l2_network_uuid", "cluster_uuid"),
)

l3_network_table = Table(
    "l3_network",
    metadata,
    *named_columns("L3 network"),
    Column("type", String(32), nullable=False, comment="L3BasicNetwork"),
    uuid_column("zone_uuid", ForeignKey("zone.uuid"), nullable=False, index=True, comment="UUID of its zone"),
    uuid_column(
        "l2_network_uuid",
        ForeignKey("l2_network.uuid"),
        nullable=False,
        index=True,
        comment="UUID of the L2 network that it is on",
    ),
    Column("state", String(32), nullable=False, index=True, comment="Enabled or Disabled"),
    Column("dns_domain", String(255), comment="domain of its VMs"),
    Column("system", Boolean, nullable=False, comment="whether it is for the system's own use"),
    Column("category", String(32), nullable=False, index=True, comment="Public, Private or System"),
    *date_columns(),
)

ip_range_table = Table(
    "ip_range",
    metadata,
    *named_columns("IP range"),
    uuid_column(
        "l3_network_uuid",
        ForeignKey("l3_network.uuid"),
        nullable=False,
        index=True,
        comment="UUID of the L3 network",
    ),
    Column("start_ip", String(64), nullable=False, index=True, comment="its first address"),
    Column("end_ip", String(64), nullable=False, index=True, comment="its last address"),
    Column("netmask", String(64), nullable=False, comment="netmask of the network"),
    Column("gateway", String(64), nullable=False, comment="gateway of the network"),
    Column("network_cidr", String(64), nullable=False, index=True, comment="the network that it is part of"),
    *date_columns(),
)

used_ip_table = Table(
    "used_ip",
    metadata,
    uuid_column("vm_nic_uuid", primary_key=True),
    uuid_column("l3_network_uuid", ForeignKey("l3_network.uuid", ondelete="CASCADE"), nullable=False),
    uuid_column("ip_range_uuid", ForeignKey("ip_range.uuid", ondelete="CASCADE"), nullable=False, index=True),
    Column("ip", String(64), nullable=False),
    UniqueConstraint("l3_network_uuid", "ip"),
)
"""Addresses that NICs have; no two of an L3 network have the same."""

L2_NETWORK: Resource = Resource(
    "L2Network",
    l2_network_table,
    {
        "zone": Relation(lambda: ZONE, "zoneUuid", "uuid"),
        "l3Network": Relation(lambda: L3_NETWORK, "uuid", "l2NetworkUuid"),
        "clusterRef": Relation(lambda: L2_CLUSTER_REF, "uuid", "l2NetworkUuid"),
    },
)
L2_VLAN_NETWORK = Resource("L2VlanNetwork", l2_network_table, dict(L2_NETWORK.relations), {"type": VLAN})
L2_CLUSTER_REF: Resource = Resource(
    "L2NetworkClusterRef",
    l2_cluster_ref_table,
    {
        "cluster": Relation(lambda: CLUSTER, "clusterUuid", "uuid"),
        "l2Network": Relation(lambda: L2_NETWORK, "l2NetworkUuid", "uuid"),
    },
)
IP_RANGE: Resource = Resource(
    "IpRange", ip_range_table, {"l3Network": Relation(lambda: L3_NETWORK, "l3NetworkUuid", "uuid")}
)
L3_NETWORK: Resource = Resource(
    "L3Network",
    l3_network_table,
    {
        "zone": Relation(lambda: ZONE, "zoneUuid", "uuid"),
        "l2Network": Relation(lambda: L2_NETWORK, "l2NetworkUuid", "uuid"),
        "ipRanges": Relation(lambda: IP_RANGE, "uuid", "l3NetworkUuid"),
    },
    lists={"ipRanges": Relation(lambda: IP_RANGE, "uuid", "l3NetworkUuid")},
)
