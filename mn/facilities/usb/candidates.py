"""Which USB devices a VM can have, and why not the others (manual 4.3.13.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Row, select

from kvmagent.protocol_usb import USB_DEVICES_MOST
from mn.facilities.hosts.tables import host_table
from mn.facilities.usb.tables import USB_DEVICE, usb_table
from mn.facilities.vms.domain_devices import devices_of, load_usb
from mn.facilities.vms.tables import State, vm_in
from mn.query.plan import load_one
from mn.rest.operation import Get, Reply
from mn.rest.services import Call
from mn.rest.types import Ref

STATES = (State.RUNNING, State.PAUSED, State.STOPPED, State.CREATED)
"""States of a VM that can be given a device."""
AttachType = Literal["PassThrough"]


class Taker(msgspec.Struct, frozen=True):
    """A VM that is to have a device: `host_uuid` is where it runs or last ran, or where its devices are.

    None: it has never run; then any host of its zone will do, or of its cluster.
    """

    uuid: str
    host_uuid: str | None
    why_there: str
    zone_uuid: str
    cluster_uuid: str | None
    usb_devices: int


class Refused(msgspec.Struct, frozen=True):
    """A device that is no candidate."""

    uuid: Annotated[str, Meta(description="UUID of the device")]
    name: Annotated[str, Meta(description="its name")]
    reasons: Annotated[list[str], Meta(description="everything that hinders the VM from having it")]


class Candidates(msgspec.Struct, frozen=True):
    """The inventories of devices that a VM can have, and those that it cannot."""

    inventories: list[str]
    refused: list[Refused]


class GetUsbDeviceCandidatesForAttachingVm(
    Get,
    path="/vm-instances/{vmInstanceUuid}/candidate-usb-devices",
    returns={
        "inventories": Annotated[list[dict[str, Any]], Meta(description="USB devices")],
        "refused": Annotated[
            list[Refused], Meta(description="with explain: the other devices, each with why it is none")
        ],
    },
):
    """List the USB devices that a VM can be given (manual 4.3.13.3); with `explain` the others, too."""

    vm_instance_uuid: Ref
    attach_type: AttachType = "PassThrough"
    explain: Annotated[bool, Meta(description="true: say why other devices are no candidates")] = False

    async def answer(self, call: Call) -> Reply:
        """Look at the devices of all hosts that the VM could be on."""
        found = await call.services.db.read(load_candidates, self.vm_instance_uuid, self.explain)
        reply: dict[str, Any] = {"inventories": [msgspec.Raw(row.encode()) for row in found.inventories]}
        return {**reply, "refused": found.refused} if self.explain else reply


def load_candidates(connection: Connection, vm_uuid: str, explain: bool) -> Candidates:
    """Return which devices a VM can have; with `explain` all that are near it are looked at.

    Raises HardpointError: SYS.1003, SYS.1006 for a VM in another state.
    """
    uuids, refused = sort_devices(connection, vm_uuid, everywhere=explain)
    return Candidates([load_one(connection, USB_DEVICE, uuid) or "" for uuid in uuids], refused)


def sort_devices(
    connection: Connection, vm_uuid: str, *, everywhere: bool
) -> tuple[list[str], list[Refused]]:
    """Return the uuids of the devices that a VM can have, and those that it cannot, of its host or of all."""
    taker = load_taker(connection, vm_uuid)
    uuids, refused = [], []
    for row in _device_rows(connection, taker, everywhere=everywhere):
        reasons = reasons_against(taker, row)
        if reasons:
            refused.append(Refused(row.uuid, row.name, reasons))
        else:
            uuids.append(row.uuid)
    return uuids, refused


def load_taker(connection: Connection, vm_uuid: str) -> Taker:
    """Return a VM as what is to have a device. Raises HardpointError: SYS.1003, SYS.1006 for its state."""
    vm = vm_in(connection, vm_uuid, *STATES)
    held = devices_of(connection, vm_uuid)
    host, why = vm.host_uuid, "the VM runs"
    if host is None and held:
        host, why = held[0][1].host_uuid, f"{held[0][0]} of the VM is"
    elif host is None:
        host, why = vm.last_host_uuid, "the VM last ran"
    usb_devices = len(load_usb(connection, vm_uuid))
    return Taker(vm_uuid, host, why, vm.zone_uuid, vm.cluster_uuid, usb_devices)


def load_device(connection: Connection, uuid: str) -> Row[Any] | None:
    """Return a device's row with the state of its host, None when there is none."""
    return connection.execute(_with_host().where(usb_table.c.uuid == uuid)).first()


def reasons_against(taker: Taker, device: Row[Any]) -> list[str]:
    """Return why a VM cannot have a device; none: it can."""
    return list(_reasons(taker, device))


def _reasons(taker: Taker, device: Row[Any]) -> Iterable[str]:
    if device.state != "Enabled":
        yield f"it is {device.state}"
    if device.vm_instance_uuid == taker.uuid:
        yield "it is attached to this VM already"
    elif device.vm_instance_uuid is not None:
        yield f"it is attached to VM {device.vm_instance_uuid}"
    if device.address is None:
        yield "it is not plugged in"
    if device.boot_critical is not None:
        yield f"its host would lose {device.boot_critical}"
    if taker.host_uuid is not None and device.host_uuid != taker.host_uuid:
        yield f"it is on host {device.host_name} ({device.host_uuid}), {taker.why_there} on {taker.host_uuid}"
    elif device.host_status != "Connected":
        yield f"its host {device.host_name} ({device.host_uuid}) is {device.host_status}"
    if taker.host_uuid is None and device.zone_uuid != taker.zone_uuid:
        yield "it is in another zone than the VM"
    elif taker.host_uuid is None and taker.cluster_uuid not in (None, device.cluster_uuid):
        yield "it is in another cluster than the VM"
    if taker.usb_devices >= USB_DEVICES_MOST:
        yield f"the VM has {taker.usb_devices} USB devices already, which is as many as it can have"


def _with_host() -> Any:
    hosts = host_table.c
    of_host = (hosts.name.label("host_name"), hosts.status.label("host_status"))
    return select(usb_table, *of_host, hosts.zone_uuid, hosts.cluster_uuid).join(
        host_table, hosts.uuid == usb_table.c.host_uuid
    )


def _device_rows(connection: Connection, taker: Taker, *, everywhere: bool) -> list[Row[Any]]:
    """Return the devices of the VM's host; `everywhere`: of its cluster, or of its zone while it has none."""
    hosts = host_table.c
    near = hosts.zone_uuid == taker.zone_uuid
    if taker.host_uuid is not None and not everywhere:
        near = hosts.uuid == taker.host_uuid
    elif taker.cluster_uuid is not None:
        near &= (hosts.cluster_uuid == taker.cluster_uuid) | (hosts.uuid == taker.host_uuid)
    return list(connection.execute(_with_host().where(near).order_by(usb_table.c.seq)))
