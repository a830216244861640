"""Gives PCI functions to VMs and back to the host: nothing is left on vfio-pci that nobody has."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agentkit.errors import Blame, HardpointError
from agentkit.threads import in_thread
from kvmagent.passthrough import journal
from kvmagent.passthrough.journal import Claim, Device, Kept, Virtual
from kvmagent.passthrough.plan import VFIO, Machine, Plan, Step, plan
from kvmagent.protocol import Evidence, Inventory
from kvmagent.protocol_devices import PciPlan, PciReason
from kvmagent.protocol_vms import VmPciDevice, VmSeen

log = logging.getLogger(__name__)

AGAIN_S = 5.0


class Drivers(Protocol):
    """What changes the drivers of functions; see `kernel.Kernel`. What is not awaited may block."""

    async def load(self) -> None:
        """Have vfio-pci at hand. Raises HardpointError."""

    def exists(self, address: str) -> bool:
        """Say whether there is such a function."""

    def change(self, step: Step) -> None:
        """Give a function another driver."""

    def set_virtual_functions(self, address: str, number: int) -> None:
        """Have so many virtual functions."""


Read = Callable[[Inventory, Mapping[str, str]], Machine]
"""Makes of an inventory, and of the VMs that have functions, what the planner has to know. May block."""


class PciKeeper:
    """The functions of one machine. `take` reads its inventory, `get` says what a VM has."""

    def __init__(
        self,
        state_dir: Path,
        drivers: Drivers,
        take: Callable[[], Awaitable[Inventory]],
        read: Read,
        get: Callable[[str], Awaitable[VmSeen | None]],
    ) -> None:
        self._state_dir = state_dir
        self._drivers = drivers
        self._take = take
        self._read = read
        self._get = get
        self._kept: Kept | None = None
        self._changing = asyncio.Lock()
        self._turns: dict[str, asyncio.Lock] = {}
        self._stirred = asyncio.Event()

    async def prepare(self) -> None:
        """Have what is wanted from each boot on: virtual functions first, then what vfio-pci has.

        What cannot be had is logged: the host is of more use without it than not at all.
        """
        async with self._changing:
            kept = self._load()
            for virtual in kept.virtual:
                await self._prepare(virtual.device, lambda at, n=virtual.number: self._set_virtual(at, n))  # type: ignore[misc]
            for claim in kept.bound:
                await self._prepare(claim.device, lambda at: self._bind([Step(at, None, VFIO)]))
        self.stir()

    async def _prepare(self, device: Device, work: Callable[[str], Awaitable[None]]) -> None:
        try:
            found = journal.find((await self._take()).pci, device)
            if found is None:
                log.warning("PCI device is not here", extra=_named(device))
            else:
                await work(found.address)
        except HardpointError as error:
            log.error("PCI device is not as it is wanted", extra=_named(device) | {"reason": error.details})  # noqa: TRY400

    def stir(self) -> None:
        """Look soon whether VMs still have what they were given."""
        self._stirred.set()

    async def run(self) -> None:
        """Give back what VMs have left, until cancelled."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            for vm_uuid in {claim.vm_uuid for claim in self._load().claims}:
                try:
                    async with self._turn(vm_uuid):
                        await self._settle(vm_uuid)
                except HardpointError as error:
                    log.warning("VM's devices not settled", extra={"vm": vm_uuid, "reason": error.details})
                    asyncio.get_running_loop().call_later(AGAIN_S, self.stir)

    async def plans(
        self, vm_uuid: str | None, addresses: Sequence[str] | None, *, without_reset: bool
    ) -> list[PciPlan]:
        """Say what it takes to give functions to a VM, each by itself when none are named."""
        inventory = await self._take()
        machine = await self._machine(inventory)
        wanted = [list(addresses)] if addresses is not None else [[at] for at in machine.functions]
        return [
            _told(", ".join(some), plan(machine, some, vm_uuid, without_reset=without_reset))
            for some in wanted
        ]

    @contextlib.asynccontextmanager
    async def given(self, vm_uuid: str, devices: Sequence[VmPciDevice]) -> AsyncIterator[list[VmPciDevice]]:
        """Have devices ready for a VM, at the addresses that they have now.

        What the VM does not have in the end goes back to the host. Raises HardpointError (SYS.1006) when one
        cannot be given, with the reasons.
        """
        if not devices:
            yield []
            return
        async with self._turn(vm_uuid):
            try:
                yield await self._claim(vm_uuid, devices)
            except BaseException:
                self.stir()
                with contextlib.suppress(HardpointError):
                    await self._settle(vm_uuid)
                raise

    @contextlib.asynccontextmanager
    async def taken(self, vm_uuid: str) -> AsyncIterator[None]:
        """Give back what a VM has no longer once this is over."""
        async with self._turn(vm_uuid):
            try:
                yield
            finally:
                if any(claim.vm_uuid == vm_uuid for claim in self._load().claims):
                    await self._settle(vm_uuid)

    async def bind(self, device: VmPciDevice, *, vfio: bool) -> str | None:
        """Have a device, and what only goes with it, on vfio-pci from each boot on, or no longer."""
        wanted = _device(device)
        async with self._changing:
            inventory = await self._take()
            function = journal.find(inventory.pci, wanted)
            if vfio:
                address = self._here(inventory, wanted)
                machine = await self._machine(inventory)
                group = plan(machine, [address], None).group
                planned = plan(machine, group, None, without_reset=device.without_reset)
                _check(planned, f"PCI device {address}")
                kept = self._load()
                others = [claim for claim in kept.bound if claim.device.device_uuid != wanted.device_uuid]
                mine = [
                    Claim(
                        vm_uuid="",
                        device=_of(inventory, at, wanted.device_uuid),
                        driver=machine.functions[at].driver,
                    )
                    for at in group
                ]
                self._save(Kept(claims=kept.claims, bound=[*others, *mine], virtual=kept.virtual))
                try:
                    await self._bind(planned.steps)
                except HardpointError:
                    await self._unbind(wanted.device_uuid)
                    raise
                return VFIO
            await self._unbind(wanted.device_uuid)
            return function.driver if function is not None else None

    async def _unbind(self, device_uuid: str) -> None:
        kept, inventory = self._load(), await self._take()
        left = [claim for claim in kept.bound if claim.device.device_uuid != device_uuid]
        taken = {claim.device.address for claim in kept.claims}
        mine = [c for c in kept.bound if c not in left and c.device.address not in taken]
        await self._give_back(inventory, mine)
        self._save(Kept(claims=kept.claims, bound=left, virtual=kept.virtual))

    async def set_virtual_functions(self, device: VmPciDevice, number: int) -> int:
        """Have so many virtual functions of a device. Raises HardpointError (SYS.1006, SYS.1007)."""
        wanted = _device(device)
        async with self._changing:
            inventory = await self._take()
            address = self._here(inventory, wanted)
            function = next(f for f in inventory.pci if f.address == address)
            most = function.max_virtual_functions or 0
            if not 0 <= number <= most:
                named = f"PCI device {function.name} at {address}"
                details = f"{named} can have 0 to {most} virtual functions, not {number}"
                remedy = "give another number" if most else "choose a device that shows maxVirtualFunctions"
                raise HardpointError(
                    "SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER
                )
            kept = self._load()
            held = {claim.device.address: claim.vm_uuid for claim in kept.claims}
            for other in inventory.pci:
                if other.physical_function == address and other.address in held:
                    details = (
                        f"VM {held[other.address]} has the virtual function {other.address} of {address}"
                    )
                    raise _refused(details, "detach it first")
            before = function.virtual_functions or 0
            await self._set_virtual(address, number)
            others = [v for v in kept.virtual if v.device.device_uuid != wanted.device_uuid]
            mine = (
                [Virtual(device=_of(inventory, address, wanted.device_uuid), number=number)] if number else []
            )
            try:
                self._save(Kept(claims=kept.claims, bound=kept.bound, virtual=[*others, *mine]))
            except OSError as error:
                await self._set_virtual(address, before)
                details = f"the number of virtual functions of {address} was not kept: {error.strerror}"
                raise _refused(details, "make room on the host's disk") from error
            await self._take()
            return number

    async def _set_virtual(self, address: str, number: int) -> None:
        await in_thread(lambda: self._drivers.set_virtual_functions(address, number), "virtual functions")

    async def _claim(self, vm_uuid: str, devices: Sequence[VmPciDevice]) -> list[VmPciDevice]:
        async with self._changing:
            inventory = await self._take()
            wanted = {device.device_uuid: _device(device) for device in devices}
            addresses = {uuid: self._here(inventory, device) for uuid, device in wanted.items()}
            machine = await self._machine(inventory)
            bold = any(device.without_reset for device in devices)
            planned = plan(machine, list(addresses.values()), vm_uuid, without_reset=bold)
            _check(planned, f"VM {vm_uuid} was not given {', '.join(addresses.values())}")
            kept = self._load()
            known = {claim.device.device_uuid for claim in kept.claims if claim.vm_uuid == vm_uuid}
            claims = [
                Claim(vm_uuid=vm_uuid, device=_of(inventory, at, uuid), driver=machine.functions[at].driver)
                for uuid, at in addresses.items()
                if uuid not in known
            ]
            # Written before anything is touched, so that whoever comes after a crash knows what to give back.
            self._save(Kept(claims=[*kept.claims, *claims], bound=kept.bound, virtual=kept.virtual))
            await self._bind(planned.steps)
        return [
            VmPciDevice(device_uuid=uuid, address=at, identity=wanted[uuid].identity)
            for uuid, at in addresses.items()
        ]

    async def _bind(self, steps: Sequence[Step]) -> None:
        if steps:
            await self._drivers.load()
        for step in steps:
            await in_thread(lambda step=step: self._drivers.change(step), "bind to vfio-pci")  # type: ignore[misc]

    async def _settle(self, vm_uuid: str) -> None:
        """Give back what a VM was to have and has not."""
        vm = await self._get(vm_uuid)
        has = set(vm.devices) if vm is not None else set()
        async with self._changing:
            kept = self._load()
            over = [c for c in kept.claims if c.vm_uuid == vm_uuid and c.device.device_uuid not in has]
            if not over:
                return
            await self._give_back(await self._take(), over)
            left = [claim for claim in kept.claims if claim not in over]
            self._save(Kept(claims=left, bound=kept.bound, virtual=kept.virtual))
        await self._take()

    async def _give_back(self, inventory: Inventory, claims: Sequence[Claim]) -> None:
        for claim in reversed(claims):
            function = journal.find(inventory.pci, claim.device)
            if function is None:
                log.info("PCI device is gone, it is not given back", extra=_named(claim.device))
                continue
            step = Step(function.address, VFIO, claim.driver)
            await in_thread(lambda step=step: self._drivers.change(step), "give back to the host")  # type: ignore[misc]
            log.info("PCI device given back", extra=_named(claim.device) | {"driver": claim.driver})

    async def _machine(self, inventory: Inventory) -> Machine:
        holders = {
            function.address: claim.vm_uuid
            for claim in self._load().claims
            if (function := journal.find(inventory.pci, claim.device)) is not None
        }
        return await in_thread(lambda: self._read(inventory, holders), "read PCI functions")

    def _here(self, inventory: Inventory, device: Device) -> str:
        found = journal.find(inventory.pci, device)
        if found is not None:
            return found.address
        details = f"PCI device {device.device_uuid} ({_words(device.identity)}) is not on the host"
        other = next((f for f in inventory.pci if f.address == device.address), None)
        if other is not None:
            details += (
                f"; at {device.address}, where it was, is {other.vendor_id}:{other.device_id} {other.name} "
                f"({_words(other.identity)})"
            )
        raise _refused(details, "plug it in again, or give its VM another device (RebindPciDevice)")

    def _turn(self, vm_uuid: str) -> asyncio.Lock:
        return self._turns.setdefault(vm_uuid, asyncio.Lock())

    def _load(self) -> Kept:
        if self._kept is None:
            self._kept = journal.load(self._state_dir)
        return self._kept

    def _save(self, kept: Kept) -> None:
        if kept != self._kept:
            journal.save(self._state_dir, kept)
            self._kept = kept


def _device(device: VmPciDevice) -> Device:
    return Device(device_uuid=device.device_uuid, address=device.address, identity=device.identity)


def _of(inventory: Inventory, address: str, device_uuid: str) -> Device:
    function = next(f for f in inventory.pci if f.address == address)
    return Device(device_uuid=device_uuid, address=address, identity=function.identity)


def _named(device: Device) -> dict[str, object]:
    return {"device": device.device_uuid, "address": device.address}


def _words(identity: Sequence[Evidence]) -> str:
    return ", ".join(f"{item.kind} {item.value}" for item in identity) or "nothing tells it from others"


def _told(address: str, planned: Plan) -> PciPlan:
    return PciPlan(
        address=address,
        steps=[_step(step) for step in planned.steps],
        reasons=[PciReason(code=r.code, text=r.text, remedy=r.remedy) for r in planned.reasons],
        group=list(planned.group),
    )


def _step(step: Step) -> str:
    left = f"leaves {step.before} and " if step.before else ""
    return f"{step.address} {left}goes to {step.after}"


def _check(planned: Plan, what: str) -> None:
    if planned.reasons:
        texts = "; ".join(reason.text for reason in planned.reasons)
        raise _refused(f"{what}: {texts}", "; ".join(dict.fromkeys(r.remedy for r in planned.reasons)))


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
