"""UpdateUsbDevice (manual 4.3.13.5): what the administrator keeps of a device."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection

from agentkit.errors import Blame, HardpointError
from mn.facilities.common import change, find, inventory
from mn.facilities.usb.tables import USB_DEVICE
from mn.rest.operation import Action, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref


class UpdateUsbDevice(Action, path="/usb-device/usb-devices/{uuid}/actions", reply=USB_DEVICE):
    """Change a USB device's name, description or state (manual 4.3.13.5).

    A Disabled device is no candidate for VMs.
    """

    uuid: Ref
    name: Name | None = None
    description: Description | None = None
    state: Literal["Enabled", "Disabled"] | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_device, self)
        return await inventory(job.services, USB_DEVICE, self.uuid)


def update_device(connection: Connection, wanted: UpdateUsbDevice) -> None:
    """Write what is given.

    Raises HardpointError: SYS.1003 for no such device, SYS.1006 when it is to be disabled and a VM has it.
    """
    row = find(connection, USB_DEVICE, wanted.uuid)
    if wanted.state == "Disabled" and row.vm_instance_uuid is not None:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"USB device {row.name} ({row.uuid}) cannot be disabled: VM {row.vm_instance_uuid} has it",
            remedy="detach it first (DetachUsbDeviceFromVm)",
            blame=Blame.CALLER,
        )
    values = {"name": wanted.name, "description": wanted.description, "state": wanted.state}
    change(connection, USB_DEVICE, wanted.uuid, values)
