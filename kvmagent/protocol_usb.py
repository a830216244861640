"""Commands of the KVM agent about USB devices of the host that VMs have; `mn` imports this module as well.

A running VM keeps a device until it is detached or the VM stops: unplugged and plugged in again, also at
another port when its serial number tells it, the device is given back to the VM by the agent.
"""

from __future__ import annotations

from agentkit.wire import Command
from kvmagent.protocol_vms import VmReport, VmUsbDevice

USB_PORTS = 15
"""Ports of a VM's USB controller, each for a device of any version: as many as there can be."""
USB_DEVICES_MOST = USB_PORTS - 1
"""Devices of the host that a VM can have: one port is its pointer's."""


class AttachVmUsb(Command[VmReport], tag="attachVmUsb"):
    """Give a running VM a USB device, wherever it is plugged in; one that it has already is left as it is.

    Fails (SYS.1006) for a device that is not there, that the host itself needs, or that no port of the VM
    can take.
    """

    uuid: str
    device: VmUsbDevice


class DetachVmUsb(Command[VmReport], tag="detachVmUsb"):
    """Take a USB device from a VM for good; one that it has not, or whose VM does not run, is gone already.

    Fails (SYS.1001) when the VM does not let go of it within `patience_s`.
    """

    uuid: str
    device_uuid: str
    patience_s: float
