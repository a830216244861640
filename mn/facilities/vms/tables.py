"""The rows of VMs and their NICs."""

from __future__ import annotations

from enum import StrEnum
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
    select,
    update,
)

from agentkit.errors import Blame, HardpointError
from mn.db.schema import (
    Instant,
    date_columns,
    identity_columns,
    metadata,
    named_columns,
    now_s,
    private,
    uuid_column,
)
from mn.facilities.cascade import child_of, part_of
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import find
from mn.facilities.hosts.tables import HOST
from mn.facilities.instance_offerings import INSTANCE_OFFERING
from mn.facilities.networks.tables import L3_NETWORK
from mn.facilities.pci.tables import PCI_DEVICE
from mn.facilities.usb.tables import USB_DEVICE
from mn.facilities.zones import ZONE
from mn.query.resource import Relation, Resource


class State(StrEnum):
    """States of a VM."""

    CREATED = "Created"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    REBOOTING = "Rebooting"
    MIGRATING = "Migrating"
    DESTROYED = "Destroyed"
    EXPUNGING = "Expunging"
    PAUSED = "Paused"
    UNKNOWN = "Unknown"


ON_HOST = (
    State.STARTING,
    State.RUNNING,
    State.STOPPING,
    State.REBOOTING,
    State.MIGRATING,
    State.PAUSED,
    State.UNKNOWN,
)
"""States in which a VM takes of its host's capacity."""
UNDER_WAY = (State.STARTING, State.STOPPING, State.REBOOTING, State.MIGRATING, State.EXPUNGING)
"""States that a job is about to change."""

vm_table = Table(
    "vm_instance",
    metadata,
    *named_columns("VM"),
    uuid_column("zone_uuid", ForeignKey("zone.uuid"), nullable=False, index=True, comment="UUID of its zone"),
    uuid_column("cluster_uuid", index=True, comment="UUID of the cluster that it runs or last ran in"),
    uuid_column("image_uuid", index=True, comment="UUID of the image that its root volume was made of"),
    uuid_column("host_uuid", index=True, comment="UUID of the host that it is on"),
    uuid_column("last_host_uuid", index=True, comment="UUID of the host that it was on before"),
    uuid_column("instance_offering_uuid", index=True, comment="UUID of the offering that it was made of"),
    uuid_column("root_volume_uuid", index=True, comment="UUID of its root volume"),
    Column("platform", String(32), comment="Linux, Windows, Other, Paravirtualization or WindowsVirtio"),
    uuid_column("default_l3_network_uuid", index=True, comment="UUID of the L3 network of its default route"),
    Column("type", String(32), nullable=False, index=True, comment="UserVm or ApplianceVm"),
    Column("hypervisor_type", String(32), index=True, comment="KVM or Simulator"),
    Column("memory_size", BigInteger, nullable=False, index=True, comment="bytes of memory"),
    Column("cpu_num", Integer, nullable=False, index=True, comment="virtual CPUs"),
    Column("cpu_speed", BigInteger, nullable=False, comment="always 0: kept for clients that know it"),
    Column("allocator_strategy", String(64), nullable=False, comment="how its host is chosen"),
    Column("state", String(32), nullable=False, index=True, comment="its state"),
    private("turn", BigInteger, nullable=False),
    private("console_password", Text, nullable=False),
    private("destination_host_uuid", String(32), index=True),
    private("destroyed_at", Instant),
    *date_columns(),
)
"""`turn` grows with each change of state or host: what was seen before one is not written after it.

`destination_host_uuid` is set while a VM is Migrating, or Unknown as nobody saw the end of its move: it takes
of the capacity of both hosts.
"""

nic_table = Table(
    "vm_nic",
    metadata,
    *identity_columns("NIC"),
    uuid_column(
        "vm_instance_uuid",
        ForeignKey("vm_instance.uuid"),
        nullable=False,
        index=True,
        comment="UUID of its VM",
    ),
    uuid_column(
        "l3_network_uuid",
        ForeignKey("l3_network.uuid"),
        nullable=False,
        index=True,
        comment="UUID of its L3 network",
    ),
    Column("ip", String(64), index=True, comment="its address"),
    Column("mac", String(17), nullable=False, unique=True, comment="its MAC address"),
    Column("netmask", String(64), comment="netmask of its network"),
    Column("gateway", String(64), comment="gateway of its network"),
    Column("meta_data", Text, comment="what its creator noted"),
    Column("device_id", Integer, nullable=False, comment="its place among the VM's NICs"),
    *date_columns(),
)

VM_NIC: Resource = Resource(
    "VmNic",
    nic_table,
    {
        "vmInstance": Relation(lambda: VM, "vmInstanceUuid", "uuid"),
        "l3Network": Relation(lambda: L3_NETWORK, "l3NetworkUuid", "uuid"),
    },
)
VM: Resource = Resource(
    "VmInstance",
    vm_table,
    {
        "zone": Relation(lambda: ZONE, "zoneUuid", "uuid"),
        "cluster": Relation(lambda: CLUSTER, "clusterUuid", "uuid"),
        "host": Relation(lambda: HOST, "hostUuid", "uuid"),
        "instanceOffering": Relation(lambda: INSTANCE_OFFERING, "instanceOfferingUuid", "uuid"),
        "vmNics": Relation(lambda: VM_NIC, "uuid", "vmInstanceUuid"),
        "pciDevice": Relation(lambda: PCI_DEVICE, "uuid", "vmInstanceUuid"),
        "usbDevice": Relation(lambda: USB_DEVICE, "uuid", "vmInstanceUuid"),
    },
    lists={"vmNics": Relation(lambda: VM_NIC, "uuid", "vmInstanceUuid")},
)
ZONE.relations["vmInstance"] = Relation(lambda: VM, "uuid", "zoneUuid")
CLUSTER.relations["vmInstance"] = Relation(lambda: VM, "uuid", "clusterUuid")
HOST.relations["vmInstance"] = Relation(lambda: VM, "uuid", "hostUuid")
PCI_DEVICE.relations["vmInstance"] = Relation(lambda: VM, "vmInstanceUuid", "uuid")
USB_DEVICE.relations["vmInstance"] = Relation(lambda: VM, "vmInstanceUuid", "uuid")
INSTANCE_OFFERING.relations["vmInstance"] = Relation(lambda: VM, "uuid", "instanceOfferingUuid")
L3_NETWORK.relations["vmNic"] = Relation(lambda: VM_NIC, "uuid", "l3NetworkUuid")


def load_vm(connection: Connection, uuid: str) -> Row[Any] | None:
    """Return a VM's row, None when there is none."""
    return connection.execute(select(vm_table).where(vm_table.c.uuid == uuid)).first()


def vm_in(connection: Connection, uuid: str, *states: State) -> Row[Any]:
    """Return a VM's row. Raises HardpointError: SYS.1003 for none, SYS.1006 for one in another state."""
    row = find(connection, VM, uuid)
    startable = State.RUNNING in states and row.state in (State.CREATED, State.STOPPED)
    if row.state not in states:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"VM {row.name} ({uuid}) is {row.state}, not {' or '.join(states)}",
            remedy="start it first (StartVmInstance)"
            if startable
            else "wait for what is under way; recover a Destroyed VM, connect a lost host",
            blame=Blame.CALLER,
        )
    return row


def change_vm(connection: Connection, uuid: str, **values: Any) -> None:
    """Write a VM's state or host, in its next turn; nothing happens when it is gone."""
    table = vm_table
    turn = {"turn": table.c.turn + 1, "last_op_date": now_s()}
    connection.execute(update(table).where(table.c.uuid == uuid).values(**values, **turn))


def nics_of(connection: Connection, vm_uuid: str) -> list[Row[Any]]:
    """Return a VM's NICs in their order."""
    table = nic_table
    query = select(table).where(table.c.vm_instance_uuid == vm_uuid).order_by(table.c.device_id)
    return list(connection.execute(query))


part_of(VM, VM_NIC, "vm_instance_uuid")
child_of(L3_NETWORK, VM_NIC, "l3_network_uuid")
