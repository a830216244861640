"""Which running VM wants which USB devices: what the agent has to remember over its own restart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agentkit.errors import HardpointError
from agentkit.files import write_durably
from kvmagent.protocol_vms import VmUsbDevice

WANTS_FILE = "usb.json"

_Wants = dict[str, list[VmUsbDevice]]


class Wants:
    """The devices of each VM by its uuid, on disk before a change of them returns."""

    def __init__(self, state_dir: Path) -> None:
        """Read what was wanted. Raises HardpointError (SYS.1000) when it cannot be understood."""
        self._file = state_dir / WANTS_FILE
        self._writing = asyncio.Lock()
        self._wants = self._read()

    def vms(self) -> list[str]:
        """Return the uuids of the VMs that want devices."""
        return list(self._wants)

    def of(self, vm_uuid: str) -> list[VmUsbDevice]:
        """Return what a VM wants."""
        return list(self._wants.get(vm_uuid, ()))

    async def put(self, vm_uuid: str, devices: Sequence[VmUsbDevice]) -> None:
        """Keep what a VM wants from now on; nothing: the VM is forgotten."""
        if list(devices) == self.of(vm_uuid):
            return
        if devices:
            self._wants[vm_uuid] = list(devices)
        else:
            del self._wants[vm_uuid]
        async with self._writing:
            await asyncio.to_thread(write_durably, self._file, msgspec.json.encode(self._wants))

    def _read(self) -> _Wants:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Wants)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise HardpointError(
                "SYS.1000",
                "Internal error",
                f"{self._file} does not say which VMs want which USB devices: {error}",
                remedy="remove the file: VMs keep their USB devices until those are unplugged",
            ) from error
