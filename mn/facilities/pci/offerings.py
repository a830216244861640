"""PCI device offerings (manual 4.3.11.8 to 4.3.11.11): kinds of devices that have a name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import ColumnElement, Connection

from agentkit.errors import Blame, HardpointError
from mn.facilities.cascade import delete_row, when_deleted
from mn.facilities.common import DeletionMode, add, find, inventory
from mn.facilities.pci.instance_refs import forget_wishes
from mn.facilities.pci.matching import ANY, GENERIC, Ids, load_ids, match_devices
from mn.facilities.pci.offering_tables import PCI_OFFERING, PCI_REF
from mn.facilities.pci.tables import pci_table
from mn.rest.operation import Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Uuid

HexId = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{4}$(?!\n)", description="an id of 4 hex digits, 10de")]
SubsystemId = Annotated[
    str, Meta(pattern=r"^[0-9a-fA-F]{4}$(?!\n)", description="an id of 4 hex digits; 0000 is any")
]


class CreatePciDeviceOffering(Create, path="/pci-device/pci-device-offerings", reply=PCI_OFFERING):
    """Create a PCI device offering; devices with its ids are matched at once and from now on
    (manual 4.3.11.8).

    Without a `type` it has that of the devices that it matches, Generic at first.
    """

    vendor_id: HexId
    device_id: HexId
    subvendor_id: SubsystemId | None = None
    subdevice_id: SubsystemId | None = None
    name: Name | None = None
    description: Description | None = None
    type: Literal["GPU_Video", "GPU_Audio", "Generic"] | None = None

    async def run(self, job: Job) -> Reply:
        """Insert the row and the references."""
        uuid = self.resource_uuid or job.uuid_for("PCI device offering")
        await job.transact(insert_offering, uuid, self)
        return await inventory(job.services, PCI_OFFERING, uuid)


class DeletePciDeviceOffering(Delete, path="/pci-device/pci-device-offerings/{uuid}"):
    """Delete a PCI device offering and its references; VMs keep their devices (manual 4.3.11.9)."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    async def run(self, job: Job) -> Reply:
        """Delete the rows; an offering that is gone is no fault."""
        await job.transact(delete_row, PCI_OFFERING.name, self.uuid)
        return {}


class QueryPciDeviceOffering(
    Query,
    path=("/pci-device/pci-device-offerings", "/pci-device/pci-device-offerings/{uuid}"),
    reply=PCI_OFFERING,
):
    """Query PCI device offerings (manual 4.3.11.10)."""


class QueryPciDevicePciDeviceOffering(
    Query,
    path=(
        "/pci-devices/pci-devices/pci-device-offerings",
        "/pci-devices/pci-devices/pci-device-offerings/{uuid}",
    ),
    also_at=(
        "/pci-device/pci-devices/pci-device-offerings",
        "/pci-device/pci-devices/pci-device-offerings/{uuid}",
    ),
    reply=PCI_REF,
):
    """Query which PCI devices match which offerings (manual 4.3.11.11)."""


def insert_offering(connection: Connection, uuid: str, wanted: CreatePciDeviceOffering) -> None:
    """Insert an offering and match the devices that there are.

    Raises HardpointError (SYS.1007) when another offering has the same ids.
    """
    ids = Ids(
        wanted.vendor_id.lower(),
        wanted.device_id.lower(),
        wanted.subvendor_id and wanted.subvendor_id.lower(),
        wanted.subdevice_id and wanted.subdevice_id.lower(),
    )
    for other, theirs in load_ids(connection).items():
        if theirs.meant() == ids.meant() and other != uuid:
            raise _there(connection, other, ids)
    values: dict[str, Any] = {
        "uuid": uuid,
        "name": wanted.name or f"{ids.vendor}:{ids.device}",
        "description": wanted.description,
        "type": wanted.type or GENERIC,
        "given_type": wanted.type,
        "vendor_id": ids.vendor,
        "device_id": ids.device,
        "subvendor_id": ids.subvendor,
        "subdevice_id": ids.subdevice,
        "attached_instance_offerings": [],
        "matched_pci_devices": [],
    }
    add(connection, PCI_OFFERING, values, wanted)
    match_devices(connection, _same_kind(ids))


def _same_kind(ids: Ids) -> ColumnElement[bool]:
    return (pci_table.c.vendor_id == ids.vendor) & (pci_table.c.device_id == ids.device)


def _forget_offering(connection: Connection, uuid: str) -> None:
    """Let go of what an offering that goes has: the references to devices and of instance offerings."""
    offerings = load_ids(connection)
    ids = offerings.pop(uuid, None)
    if ids is not None:
        match_devices(connection, _same_kind(ids), offerings)
        forget_wishes(connection, uuid)


def _there(connection: Connection, other: str, ids: Ids) -> HardpointError:
    shown = ":".join(i or ANY for i in (ids.vendor, ids.device, ids.subvendor, ids.subdevice))
    name = find(connection, PCI_OFFERING, other).name
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"PCI device offering {name} ({other}) has the ids {shown} already",
        remedy="use that one, or delete it first",
        blame=Blame.CALLER,
    )


when_deleted(PCI_OFFERING, _forget_offering)
