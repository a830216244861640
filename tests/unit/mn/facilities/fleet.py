"""A small fleet in a database of a test: its rows, each with what its table demands."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, StaticPool, Table, create_engine, event, insert

from kvmagent.protocol_vms import VmSeen, VmState
from mn import facilities
from mn.db.functions import register_functions
from mn.db.schema import metadata
from mn.facilities.clusters import cluster_table
from mn.facilities.hosts.tables import host_table
from mn.facilities.pci.tables import pci_table
from mn.facilities.primary_storage.tables import NFS, primary_storage_table
from mn.facilities.usb.tables import usb_table
from mn.facilities.vms.tables import vm_table
from mn.facilities.volumes.tables import volume_table
from mn.facilities.zones import zone_table

ZONE, CLUSTER, HOST, VM, STORAGE = "1" * 32, "2" * 32, "a" * 32, "e" * 32, "5" * 32
DATES = {"create_date": 1, "last_op_date": 1}


def new_connection() -> Connection:
    """Return a connection to an empty database in memory that has a zone, a cluster and a connected host."""
    facilities.load()
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", lambda db, _: db.execute("PRAGMA foreign_keys=ON"))
    event.listen(engine, "connect", lambda db, _: register_functions(db))
    metadata.create_all(engine)
    connection = engine.connect()
    fill(connection)
    return connection


def fill(connection: Connection) -> None:
    """Insert the zone, the cluster and the host."""
    zone = {"uuid": ZONE, "name": "z", "state": "Enabled", "type": "zstack", **DATES}
    put(connection, zone_table, **zone)
    put(connection, cluster_table, **{**zone, "uuid": CLUSTER, "hypervisor_type": "KVM", "zone_uuid": ZONE})
    put_host(connection, HOST)


def put(connection: Connection, table: Table, **values: Any) -> None:
    """Insert a row."""
    connection.execute(insert(table), {**DATES, **values} if "create_date" in table.c else values)


def put_host(connection: Connection, uuid: str, **changed: Any) -> None:
    """Insert a host, named after its uuid."""
    values = {
        "uuid": uuid,
        "name": f"host-{uuid[:4]}",
        "zone_uuid": ZONE,
        "cluster_uuid": CLUSTER,
        "management_ip": f"host-{uuid}.example",
        "hypervisor_type": "KVM",
        "state": "Enabled",
        "status": "Connected",
        "username": "root",
        "password": "sealed",
        "ssh_port": 22,
        "agent_address": "192.0.2.1",
        "agent_port": 7070,
    }
    put(connection, host_table, **{**values, **changed})


def put_vm(connection: Connection, uuid: str = VM, **changed: Any) -> None:
    """Insert a running VM."""
    values = {
        "uuid": uuid,
        "name": "vm",
        "zone_uuid": ZONE,
        "cluster_uuid": CLUSTER,
        "host_uuid": HOST,
        "type": "UserVm",
        "memory_size": 1,
        "cpu_num": 1,
        "cpu_speed": 0,
        "allocator_strategy": "DefaultHostAllocatorStrategy",
        "state": "Running",
        "turn": 1,
        "console_password": "sealed",
    }
    put(connection, vm_table, **{**values, **changed})


def put_pci(connection: Connection, uuid: str, **changed: Any) -> None:
    """Insert a PCI device of the host, a free graphics card."""
    values = {
        "uuid": uuid,
        "name": "GPU",
        "host_uuid": HOST,
        "vendor_id": "10de",
        "device_id": "1b38",
        "subvendor_id": "10de",
        "subdevice_id": "11d9",
        "type": "GPU_3D_Controller",
        "state": "Enabled",
        "status": "Active",
        "address": "0000:01:00.0",
        "pci_device_address": "0000:01:00.0",
        "identity": [],
    }
    put(connection, pci_table, **{**values, **changed})


def put_usb(connection: Connection, uuid: str, **changed: Any) -> None:
    """Insert a USB device of the host, a free stick."""
    values = {
        "uuid": uuid,
        "name": "stick",
        "host_uuid": HOST,
        "state": "Enabled",
        "bus_num": "001",
        "dev_num": "002",
        "id_vendor": "0781",
        "id_product": "5581",
        "i_manufacturer": "SanDisk",
        "i_product": "Ultra",
        "i_serial": "AB12",
        "usb_version": "3.0",
        "address": "1-2",
        "identity": [],
    }
    put(connection, usb_table, **{**values, **changed})


def put_storage(connection: Connection, **changed: Any) -> None:
    """Insert a primary storage, which is attached to no cluster."""
    values = {
        "uuid": STORAGE,
        "name": "nfs",
        "zone_uuid": ZONE,
        "url": "192.0.2.7:/export",
        "type": NFS,
        "state": "Enabled",
        "status": "Connected",
        "mount_path": "/mnt",
        "attached_cluster_uuids": [],
        "initialised": True,
    }
    put(connection, primary_storage_table, **{**values, **changed})


def put_volume(connection: Connection, uuid: str, **changed: Any) -> None:
    """Insert a data volume on the storage, the VM's first one."""
    values = {
        "uuid": uuid,
        "name": "volume",
        "primary_storage_uuid": STORAGE,
        "vm_instance_uuid": VM,
        "type": "Data",
        "format": "qcow2",
        "size": 2**20,
        "device_id": 1,
        "state": "Enabled",
        "status": "Ready",
        "is_shareable": False,
        "path": f"dataVolumes/vol-{uuid}/{uuid}.qcow2",
    }
    put(connection, volume_table, **{**values, **changed})


def seen_vm(uuid: str, *devices: str) -> VmSeen:
    """Return a running VM as its host shows it, with its devices."""
    return VmSeen(
        uuid=uuid,
        state=VmState.RUNNING,
        cpus=1,
        memory_bytes=1,
        console_address=None,
        console_port=None,
        disks=[],
        devices=list(devices),
    )
