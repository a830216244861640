"""Which USB device of the host is the one that a VM is to have; pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol import Evidence, UsbDevice
from kvmagent.protocol_vms import VmUsbDevice

_PORT = "port"


def find_usb(devices: Sequence[UsbDevice], identity: Sequence[Evidence]) -> UsbDevice | None:
    """Return the device that shows evidence of an identity, the strongest first, None when none does.

    One that agrees in weaker evidence only is another device when both have stronger evidence that differs:
    a stick with another serial number at the same port.
    """
    for rank, item in enumerate(identity):
        stronger = identity[:rank]
        for device in devices:
            if item in device.identity and not any(_differs(device, other) for other in stronger):
                return device
    return None


def giveable(devices: Sequence[UsbDevice], wanted: VmUsbDevice) -> UsbDevice:
    """Return the device that is wanted.

    Raises HardpointError (SYS.1006): it is not there, or the host would lose what it lives on.
    """
    device = find_usb(devices, wanted.identity)
    if device is None:
        raise _refused(_missing(devices, wanted), "plug it in, or detach it and attach the one that is there")
    if device.boot_critical is not None:
        details = (
            f"USB device {wanted.device_uuid} ({described(device)}) is the host's own: "
            f"without it the host would lose {device.boot_critical}"
        )
        raise _refused(details, "unmount it or move what the host has on it, or choose another device")
    return device


def described(device: UsbDevice) -> str:
    """Return a device in words."""
    name = f" {device.i_product}" if device.i_product else ""
    return f"{device.id_vendor}:{device.id_product}{name} at port {device.port_path}"


def _differs(device: UsbDevice, item: Evidence) -> bool:
    return any(shown.kind == item.kind for shown in device.identity) and item not in device.identity


def _missing(devices: Sequence[UsbDevice], wanted: VmUsbDevice) -> str:
    looked = ", then ".join(f"{item.kind} {item.value}" for item in wanted.identity) or "nothing at all"
    text = f"USB device {wanted.device_uuid} is not plugged into this host; it was looked for by {looked}"
    last = next((item.value.partition("@")[2] for item in wanted.identity if item.kind == _PORT), "")
    if not last:
        return text
    there = next((device for device in devices if _is_at(device, last)), None)
    now = f", where there is {described(there)} now" if there is not None else ""
    return f"{text}; it was last known at port {last}{now}"


def _is_at(device: UsbDevice, port: str) -> bool:
    return any(item.kind == _PORT and item.value.partition("@")[2] == port for item in device.identity)


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
