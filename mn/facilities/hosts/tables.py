"""The host's row, its resource, and the units of work on it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
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
    func,
    select,
    update,
)

from kvmagent.protocol import HostFacts
from mn.db.schema import Document, date_columns, metadata, named_columns, now_s, private, uuid_column
from mn.facilities.clusters import CLUSTER
from mn.facilities.hosts.tags import tags_of
from mn.facilities.tags.rules import write_inherent
from mn.facilities.zones import ZONE
from mn.fleet.client import Endpoint
from mn.query.resource import Relation, Resource

host_table = Table(
    "host",
    metadata,
    *named_columns("host"),
    uuid_column("zone_uuid", ForeignKey("zone.uuid"), nullable=False, index=True, comment="UUID of its zone"),
    uuid_column(
        "cluster_uuid", ForeignKey("cluster.uuid"), nullable=False, index=True, comment="UUID of its cluster"
    ),
    Column(
        "management_ip", String(255), nullable=False, unique=True, comment="address or name it is managed by"
    ),
    Column("hypervisor_type", String(32), nullable=False, index=True, comment="KVM"),
    Column(
        "state",
        String(32),
        nullable=False,
        index=True,
        comment="Enabled, Disabled, PreMaintenance, Maintenance",
    ),
    Column("status", String(32), nullable=False, index=True, comment="Connecting, Connected or Disconnected"),
    Column("total_cpu_capacity", BigInteger, index=True, comment="virtual CPUs it may carry"),
    Column("available_cpu_capacity", BigInteger, index=True, comment="virtual CPUs that are free"),
    Column("cpu_sockets", Integer, index=True, comment="CPU sockets"),
    Column("total_memory_capacity", BigInteger, index=True, comment="bytes of memory"),
    Column("available_memory_capacity", BigInteger, index=True, comment="bytes of memory that are free"),
    Column("cpu_num", Integer, index=True, comment="CPUs (hardware threads)"),
    Column("username", String(255), nullable=False, comment="SSH user"),
    private("password", Text, nullable=False),
    Column("ssh_port", Integer, nullable=False, comment="SSH port"),
    private("ssh_host_key", Text),
    private("agent_address", String(255)),
    private("agent_port", Integer),
    private("inventory_hash", String(64)),
    private("facts", Document),
    private("login", String(16), nullable=False, server_default="Unverified"),
    private("reconnect_attempts", Integer, nullable=False, server_default="0"),
    private("reconnect_through", BigInteger),
    private("reconnect_error", Text),
    *date_columns(),
)

"""`login` is a `Login`. `reconnect_attempts` are those made by themselves since the host was lost. Jobs up to
the number `reconnect_through` share the outcome of the last reconnect, `reconnect_error` or its success.
"""

address_table = Table(
    "host_address",
    metadata,
    Column("address", String(255), primary_key=True),
    uuid_column("host_uuid", ForeignKey("host.uuid", ondelete="CASCADE"), nullable=False, index=True),
)
"""What each host is managed by: its management address as it was given, and what that resolves to."""

HOST = Resource(
    "Host",
    host_table,
    {
        "zone": Relation(lambda: ZONE, "zoneUuid", "uuid"),
        "cluster": Relation(lambda: CLUSTER, "clusterUuid", "uuid"),
    },
)
ZONE.relations["host"] = Relation(lambda: HOST, "uuid", "zoneUuid")
CLUSTER.relations["host"] = Relation(lambda: HOST, "uuid", "clusterUuid")

_UUIDS_MAX = 500
"""Names in one statement: databases have a limit of a few thousand parameters."""
SEALED_FOR = "password of a host"


class Login(StrEnum):
    """What is known of a host's address, user and password."""

    VERIFIED = "Verified"
    UNVERIFIED = "Unverified"
    """They were changed and have not been used since."""
    REFUSED = "Refused"
    """The host refuses them: it is not logged in to again by itself."""


def change_host(connection: Connection, uuid: str, **values: Any) -> None:
    """Write columns of a host; nothing happens when it is gone."""
    where = host_table.c.uuid == uuid
    connection.execute(update(host_table).where(where).values(**values, last_op_date=now_s()))


def set_statuses(connection: Connection, statuses: Mapping[str, str]) -> None:
    """Write statuses by host uuid, where they are other ones; found hosts begin anew to count reconnects."""
    for status in sorted(set(statuses.values())):
        uuids = [uuid for uuid, wanted in statuses.items() if wanted == status]
        for begin in range(0, len(uuids), _UUIDS_MAX):
            some = uuids[begin : begin + _UUIDS_MAX]
            where = host_table.c.uuid.in_(some) & (host_table.c.status != status)
            values: dict[str, Any] = {"status": status, "last_op_date": now_s()}
            if status == "Connected":
                values["reconnect_attempts"] = 0
            connection.execute(update(host_table).where(where).values(**values))


def expect_hosts(connection: Connection) -> None:
    """Note that a node which has just started does not know yet whether its connected hosts still are."""
    where = (host_table.c.status == "Connected") & host_table.c.agent_port.is_not(None)
    connection.execute(update(host_table).where(where).values(status="Connecting"))


def save_endpoint(connection: Connection, uuid: str, endpoint: Endpoint) -> None:
    """Write where a host's agent listens."""
    change_host(connection, uuid, agent_address=endpoint.address, agent_port=endpoint.port)


def save_facts(
    connection: Connection, uuid: str, facts: HostFacts, inventory_hash: str, cpu_over_provisioning: float
) -> None:
    """Write what a host is and its capacity; what VMs take of it stays taken."""
    cpus, memory, columns = int(facts.cpu_num * cpu_over_provisioning), facts.memory_bytes, host_table.c
    taken_cpus = columns.total_cpu_capacity - columns.available_cpu_capacity
    taken_memory = columns.total_memory_capacity - columns.available_memory_capacity
    change_host(
        connection,
        uuid,
        cpu_num=facts.cpu_num,
        cpu_sockets=facts.cpu_sockets,
        total_cpu_capacity=cpus,
        available_cpu_capacity=cpus - func.coalesce(taken_cpus, 0),
        total_memory_capacity=memory,
        available_memory_capacity=memory - func.coalesce(taken_memory, 0),
        inventory_hash=inventory_hash,
        facts=msgspec.to_builtins(facts),
    )
    write_inherent(connection, HOST, uuid, tags_of(facts))


def load_deployed(connection: Connection) -> list[Row[Any]]:
    """Return the hosts whose agent has been connected before."""
    return list(connection.execute(select(host_table).where(host_table.c.agent_port.is_not(None))))


def load_host(connection: Connection, uuid: str) -> Row[Any] | None:
    """Return a host's row, None when there is no such host."""
    return connection.execute(select(host_table).where(host_table.c.uuid == uuid)).first()
