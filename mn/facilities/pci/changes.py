"""UpdatePciDevice and DeletePciDevice (manual 4.3.11.2, 4.3.11.3): what is kept of a device, and its end."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import Connection, null, update

from agentkit.errors import Blame, HardpointError
from mn.db.schema import now_s
from mn.facilities.cascade import delete_row
from mn.facilities.common import DeletionMode, change, find, inventory
from mn.facilities.pci.meta_data import parse_meta_data
from mn.facilities.pci.tables import PCI_DEVICE, pci_table
from mn.rest.operation import Action, Delete, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, Uuid

MetaData = Annotated[
    str, Meta(max_length=2048, description="key1:value1;key2:value2, up to 2048 characters; empty clears it")
]


class UpdatePciDevice(Action, path="/pci-device/pci-devices/{uuid}/actions", reply=PCI_DEVICE):
    """Change a PCI device's name, description, state or metadata (manual 4.3.11.2).

    A Disabled device is no candidate for VMs.
    """

    uuid: Ref
    name: Name | None = None
    description: Description | None = None
    state: Literal["Enabled", "Disabled"] | None = None
    meta_data: MetaData | None = None

    def check(self) -> None:
        """Refuse metadata that is not of the documented form."""
        parse_meta_data(self.meta_data or "")

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_device, self)
        return await inventory(job.services, PCI_DEVICE, self.uuid)


class DeletePciDevice(Delete, path="/pci-device/pci-devices/{uuid}"):
    """Forget a PCI device that its host has no more (manual 4.3.11.3); only Inactive ones can be deleted."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    async def run(self, job: Job) -> Reply:
        """Delete the row; a device that is gone is no fault."""
        await job.transact(delete_device, self.uuid)
        return {}


def update_device(connection: Connection, wanted: UpdatePciDevice) -> None:
    """Write what is given.

    Raises HardpointError: SYS.1003 for no such device, SYS.1006 when it is to be disabled and a VM has it.
    """
    row = find(connection, PCI_DEVICE, wanted.uuid)
    if wanted.state == "Disabled" and row.status == "Attached":
        raise _refused(
            f"PCI device {row.name} ({row.uuid}) cannot be disabled: VM {row.vm_instance_uuid} has it",
            "detach it first (DetachPciDeviceFromVm)",
        )
    values: dict[str, Any] = {
        "name": wanted.name,
        "description": wanted.description,
        "state": wanted.state,
    }
    if wanted.meta_data is not None:
        document = parse_meta_data(wanted.meta_data)
        if document is None and row.meta_data is not None:
            mine = pci_table.c.uuid == wanted.uuid
            connection.execute(update(pci_table).where(mine).values(meta_data=null(), last_op_date=now_s()))
        values["meta_data"] = document
    change(connection, PCI_DEVICE, wanted.uuid, values)


def delete_device(connection: Connection, uuid: str) -> None:
    """Delete the row of a device that is gone, with its references and the history of its addresses.

    Raises HardpointError (SYS.1006) for a device that its host shows or a VM has.
    """
    row = connection.execute(pci_table.select().where(pci_table.c.uuid == uuid)).first()
    if row is None:
        return
    if row.vm_instance_uuid is not None:
        raise _refused(
            f"PCI device {row.name} ({uuid}) cannot be deleted: VM {row.vm_instance_uuid} has it",
            "detach it first (DetachPciDeviceFromVm)",
        )
    if row.status != "Inactive":
        raise _refused(
            f"PCI device {row.name} ({uuid}) is {row.status}: only one that is Inactive can be deleted",
            "take the device out of its host; to keep it from VMs, disable it (UpdatePciDevice)",
        )
    delete_row(connection, PCI_DEVICE.name, uuid)


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
