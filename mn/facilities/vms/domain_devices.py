"""The devices of hosts that a VM has: what its host is told of them, and where they tie it to."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Connection, Row, Table, select, update

from agentkit.errors import Blame, HardpointError
from agentkit.turns import Turns
from agentkit.wire import Command
from kvmagent.protocol import Evidence
from kvmagent.protocol_vms import VmUsbDevice
from mn.db.schema import new_uuid, now_s
from mn.facilities.cascade import when_deleted
from mn.facilities.pci.claims import free_pci, lost_pci
from mn.facilities.pci.tables import pci_table
from mn.facilities.tags.rules import check_truth, register, tag_value
from mn.facilities.usb.tables import USB_DEVICE, usb_table
from mn.facilities.vms.tables import VM
from mn.fleet.client import Endpoint
from mn.query.resource import Relation
from mn.rest.services import Services

log = logging.getLogger(__name__)

REDIRECT_TAG = "usbRedirect::{enable}"
DEVICE_TABLES: dict[str, Table] = {"PCI device": pci_table, "USB device": usb_table}
"""The kinds of devices that a VM can have, each with its rows: `vm_instance_uuid` says whose one is."""

plugging = Turns()
"""Held of a VM while its host plugs devices: whose they are is so still when it is looked up under it."""

register(VM.name, REDIRECT_TAG, "whether it takes USB devices of who is at its screen", check_truth)
USB_DEVICE.relations["vmInstance"] = Relation(lambda: VM, "vmInstanceUuid", "uuid")


def load_usb(connection: Connection, vm_uuid: str) -> list[VmUsbDevice]:
    """Return the USB devices that a VM has, as its host is told of them."""
    table = usb_table.c
    query = select(table.uuid, table.identity).where(table.vm_instance_uuid == vm_uuid).order_by(table.seq)
    return [
        VmUsbDevice(device_uuid=row.uuid, identity=[Evidence(kind=k, value=v) for k, v in row.identity])
        for row in connection.execute(query)
    ]


def load_redirect(connection: Connection, vm_uuid: str) -> bool:
    """Say whether a VM is to take USB devices of who is at its screen from its next start on."""
    return tag_value(connection, VM.name, vm_uuid, REDIRECT_TAG) == "true"


def devices_of(connection: Connection, vm_uuid: str) -> list[tuple[str, Row[Any]]]:
    """Return the devices that a VM has, each with what it is called in words."""
    return [
        (f"{kind} {row.name} ({row.uuid})", row)
        for kind, table in DEVICE_TABLES.items()
        for row in connection.execute(select(table).where(table.c.vm_instance_uuid == vm_uuid))
    ]


def hindered_by_devices(connection: Connection, vm_uuid: str, host: Row[Any]) -> str | None:
    """Say why a host cannot have a VM with its devices, None when it can."""
    for words, row in devices_of(connection, vm_uuid):
        if row.host_uuid != host.uuid:
            return f"{words} of the VM is on host {row.host_uuid}"
    return lost_pci(connection, vm_uuid)


def check_movable(connection: Connection, vm: Row[Any]) -> None:
    """Raise HardpointError (SYS.1006) for a running VM that has devices of its host."""
    held = [words for words, _ in devices_of(connection, vm.uuid)]
    if held:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"VM {vm.name} ({vm.uuid}) cannot be moved while it runs: it has {', '.join(held)} of its host",
            remedy="detach its devices first, or stop it",
            blame=Blame.CALLER,
        )


def release_devices(connection: Connection, vm_uuid: str) -> None:
    """Write that a VM has no devices any more: it goes, they stay."""
    free_pci(connection, vm_uuid)
    table = usb_table
    mine = table.c.vm_instance_uuid == vm_uuid
    connection.execute(update(table).where(mine).values(vm_instance_uuid=None, last_op_date=now_s()))


when_deleted(VM, release_devices)


async def put_right(
    services: Services, endpoint: Endpoint, command: Command[Any], done: str, extra: dict[str, Any]
) -> None:
    """Have a host that is back give a VM a device or take it; `done` is logged, or why it could not be."""
    extra, task = {"host": endpoint.host_uuid, **extra}, new_uuid()
    try:
        await services.fleet.call(endpoint, command, task)
    except HardpointError as error:
        log.warning("devices of a VM not put right", extra={**extra, "reason": error.details})
        return
    services.fleet.acknowledge(endpoint, task)
    log.info(done, extra=extra)
