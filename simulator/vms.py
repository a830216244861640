"""The VMs of a simulated host: they run in its folder's `vms.json` and nowhere else; how they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from agentkit.errors import HardpointError
from kvmagent.protocol_vms import AdmitVmReply, MigrateVm, VmDisk, VmDomain, VmPciDevice, VmSeen, VmState
from kvmagent.vms.usb_ports import Given

VMS_FILE = "vms.json"
FIRST_CONSOLE_PORT = 5900
SPICE_PORTS = 20_000
"""A VM's SPICE screen is so far from its other one."""


class SimulatedVms:
    """VMs that do what they are told at once; they outlive the agent, as real ones do.

    `tell` is called with the uuid of each VM that has changed.
    """

    def __init__(self, home: Path, tell: Callable[[str], object]) -> None:
        self._file = home / VMS_FILE
        self._tell = tell

    async def start(self, domain: VmDomain, usb: Sequence[Given] = ()) -> VmSeen:
        """Start a VM with USB devices, or find it running."""
        vms = self._read()
        if domain.uuid not in vms:
            ports = {vm.console_port for vm in vms.values()}
            port = next(p for p in range(FIRST_CONSOLE_PORT, 65_536 - SPICE_PORTS) if p not in ports)
            vms[domain.uuid] = VmSeen(
                uuid=domain.uuid,
                state=VmState.RUNNING,
                cpus=domain.cpus,
                memory_bytes=domain.memory_bytes,
                console_address="127.0.0.1",
                console_port=port,
                disks=sorted(disk.volume_uuid for disk in domain.disks),
                devices=sorted([*(d.device_uuid for d in domain.pci), *(given.device_uuid for given in usb)]),
                usb_redirect=domain.usb_redirect,
                spice_port=port + SPICE_PORTS if domain.usb_redirect else None,
            )
            self._write(vms, domain.uuid)
        return vms[domain.uuid]

    async def stop(self, uuid: str, patience_s: float) -> bool:
        """End a VM, which obeys its power button."""
        vms = self._read()
        if vms.pop(uuid, None) is not None:
            self._write(vms, uuid)
            return patience_s == 0
        return False

    async def get(self, uuid: str) -> VmSeen | None:
        """Return a VM."""
        return self._read().get(uuid)

    async def list(self) -> list[VmSeen]:
        """Return all VMs."""
        return list(self._read().values())

    async def attach(self, uuid: str, disk: VmDisk) -> VmSeen:
        """Give a VM a disk."""
        vms = self._running(uuid)
        vms[uuid].disks = sorted({*vms[uuid].disks, disk.volume_uuid})
        self._write(vms, uuid)
        return vms[uuid]

    async def detach(self, uuid: str, volume_uuid: str, patience_s: float) -> VmSeen | None:
        """Take a disk from a VM."""
        vms = self._read()
        vm = vms.get(uuid)
        if vm is not None and volume_uuid in vm.disks:
            vm.disks.remove(volume_uuid)
            self._write(vms, uuid)
        return vm

    async def plug_pci(self, uuid: str, device: VmPciDevice) -> VmSeen:
        """Give a VM a PCI function."""
        return self.give(uuid, device.device_uuid)

    async def unplug_pci(self, uuid: str, device_uuid: str, patience_s: float) -> VmSeen | None:
        """Take a PCI function from a VM."""
        return self.take(uuid, device_uuid)

    def give(self, uuid: str, device_uuid: str) -> VmSeen:
        """Give a VM a device of the host."""
        vms = self._running(uuid)
        vms[uuid].devices = sorted({*vms[uuid].devices, device_uuid})
        self._write(vms, uuid)
        return vms[uuid]

    def take(self, uuid: str, device_uuid: str) -> VmSeen | None:
        """Take a device from a VM."""
        vms = self._read()
        vm = vms.get(uuid)
        if vm is not None and device_uuid in vm.devices:
            vm.devices.remove(device_uuid)
            self._write(vms, uuid)
        return vm

    def _running(self, uuid: str) -> dict[str, VmSeen]:
        """Return all VMs, of which one runs."""
        vms = self._read()
        if uuid not in vms:
            details = f"VM {uuid} does not run on this simulated host"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy="start it first")
        return vms

    def take_over(self, vm: VmSeen) -> None:
        """Have a VM that ran on another host."""
        self._write({**self._read(), vm.uuid: vm}, vm.uuid)

    def _read(self) -> dict[str, VmSeen]:
        if not self._file.exists():
            return {}
        return {vm.uuid: vm for vm in msgspec.json.decode(self._file.read_bytes(), type=list[VmSeen])}

    def _write(self, vms: dict[str, VmSeen], changed: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(list(vms.values())))
        new.rename(self._file)
        self._tell(changed)


class SimulatedMoves:
    """VMs move at once, between the hosts of one simulator; nothing comes in at the port that is told."""

    _admitted: ClassVar[dict[str, tuple[str, SimulatedVms]]] = {}

    def __init__(self, vms: SimulatedVms) -> None:
        self._vms = vms

    async def admit(self, admission_uuid: str, token: str) -> AdmitVmReply:
        """Let a VM come that is sent with a token."""
        self._admitted[admission_uuid] = (token, self._vms)
        return AdmitVmReply(port=1, path=f"/{admission_uuid}", console_address="127.0.0.1")

    async def dismiss(self, admission_uuid: str) -> None:
        """End an admission."""
        self._admitted.pop(admission_uuid, None)

    async def send(self, command: MigrateVm) -> VmSeen | None:
        """Move a VM; it stays when it is not let in."""
        vm = await self._vms.get(command.uuid)
        if vm is not None:
            token, there = self._admitted.get(command.url.rpartition("/")[2], ("", None))
            if there is None or token != command.token:
                details = f"VM {command.uuid} was not moved to another host: it is not let in"
                raise HardpointError("SYS.1006", "Operation failed", details, remedy="move it again")
            there.take_over(vm)
            await self._vms.stop(command.uuid, 0)
        return await self._vms.get(command.uuid)

    async def abort(self, uuid: str) -> None:
        """Nothing takes so long that it could be given up."""
