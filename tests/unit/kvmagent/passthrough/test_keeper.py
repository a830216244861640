"""Who keeps PCI functions: given to VMs, taken back, found again after a crash. The kernel is a double."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from kvmagent.machine.facts import no_facts
from kvmagent.passthrough import journal
from kvmagent.passthrough.keeper import PciKeeper
from kvmagent.passthrough.plan import VFIO, Function, Machine, Step
from kvmagent.protocol import Evidence, Inventory, PciFunction
from kvmagent.protocol_vms import VmPciDevice, VmSeen, VmState

VM = "a" * 32
NIC, SPARE = "0000:01:00.0", "0000:02:00.0"


def function(
    address: str, serial: str, driver: str | None = "e1000e", most: int | None = None
) -> PciFunction:
    return PciFunction(
        address=address,
        vendor_id="8086",
        device_id="10d3",
        subvendor_id="0000",
        subdevice_id="0000",
        class_code="020000",
        revision="00",
        type="Generic",
        name=f"card {serial}",
        description="",
        vendor_name="",
        device_name="",
        driver=driver,
        iommu_group=f"/g/{address}",
        numa_node=None,
        boot_critical=None,
        identity=[Evidence(kind="serial", value=serial), Evidence(kind="path", value=f"{address}-8086")],
        virtual_functions=None if most is None else 0,
        max_virtual_functions=most,
    )


def device(address: str, serial: str, uuid: str = "1" * 32) -> VmPciDevice:
    identity = [Evidence(kind="serial", value=serial), Evidence(kind="path", value=f"{address}-8086")]
    return VmPciDevice(device_uuid=uuid, address=address, identity=identity)


class Host:
    """A host whose kernel changes drivers as it is told, or fails at `broken`; its VMs have `devices`."""

    def __init__(self, *functions: PciFunction) -> None:
        self.functions = {item.address: item for item in functions}
        self.vms: dict[str, list[str]] = {}
        self.broken: set[str] = set()
        self.deaf = False

    async def load(self) -> None: ...

    def exists(self, address: str) -> bool:
        return address in self.functions

    def change(self, step: Step) -> None:
        if step.after == VFIO and step.address in self.broken:
            self.functions[step.address].driver = None
            raise HardpointError("SYS.1006", "", f"{step.address} is stuck", remedy="")
        self.functions[step.address].driver = step.after

    def set_virtual_functions(self, address: str, number: int) -> None:
        self.functions[address].virtual_functions = number

    async def take(self) -> Inventory:
        return Inventory(
            facts=no_facts(), pci=list(self.functions.values()), usb=[], block=[], network=[], hash=""
        )

    def read(self, inventory: Inventory, holders: Mapping[str, str]) -> Machine:
        return Machine(
            iommu=True,
            functions={
                f.address: Function(
                    f.address, f.class_code, f.driver, f.iommu_group, holder=holders.get(f.address)
                )
                for f in inventory.pci
            },
        )

    async def get(self, uuid: str) -> VmSeen | None:
        if self.deaf:
            raise HardpointError("SYS.1006", "", "libvirt is away", remedy="")
        if uuid not in self.vms:
            return None
        return VmSeen(
            uuid=uuid,
            state=VmState.RUNNING,
            cpus=1,
            memory_bytes=1,
            console_address=None,
            console_port=None,
            disks=[],
            devices=self.vms[uuid],
        )

    def keeper(self, state: Path) -> PciKeeper:
        return PciKeeper(state, self, self.take, self.read, self.get)

    def drivers(self) -> dict[str, str | None]:
        return {address: item.driver for address, item in self.functions.items()}


async def test_a_vm_gets_a_device_and_the_host_has_it_again_when_the_vm_is_gone(tmp_path: Path) -> None:
    host = Host(function(NIC, "x"), function(SPARE, "y"))
    keeper = host.keeper(tmp_path)
    async with keeper.given(VM, [device(NIC, "x")]) as devices:
        assert [d.address for d in devices] == [NIC]
        host.vms[VM] = ["1" * 32]
    assert host.drivers() == {NIC: VFIO, SPARE: "e1000e"}
    async with keeper.taken(VM):
        del host.vms[VM]
    assert host.drivers() == {NIC: "e1000e", SPARE: "e1000e"}
    assert journal.load(tmp_path).claims == []


async def test_a_device_that_has_moved_is_found_where_it_is(tmp_path: Path) -> None:
    host = Host(function(NIC, "other"), function(SPARE, "x"))
    async with host.keeper(tmp_path).given(VM, [device(NIC, "x")]) as devices:
        assert [d.address for d in devices] == [SPARE]
        host.vms[VM] = ["1" * 32]
    assert host.drivers() == {NIC: "e1000e", SPARE: VFIO}


async def test_another_device_at_its_address_is_not_taken_for_it(tmp_path: Path) -> None:
    host = Host(function(NIC, "other"))
    with pytest.raises(HardpointError) as refused:
        async with host.keeper(tmp_path).given(VM, [device(NIC, "x")]):
            pass
    assert "serial x" in refused.value.details
    assert "is 8086:10d3 card other (serial other" in refused.value.details
    assert host.drivers() == {NIC: "e1000e"}


async def test_a_device_that_cannot_be_bound_takes_the_others_back_with_it(tmp_path: Path) -> None:
    host = Host(function(NIC, "x"), function(SPARE, "y"))
    host.broken = {SPARE}
    with pytest.raises(HardpointError, match="stuck"):
        async with host.keeper(tmp_path).given(VM, [device(NIC, "x"), device(SPARE, "y", "2" * 32)]):
            pass
    assert host.drivers() == {NIC: "e1000e", SPARE: "e1000e"}
    assert journal.load(tmp_path).claims == []


async def test_a_device_that_a_vm_has_is_refused_to_others(tmp_path: Path) -> None:
    host = Host(function(NIC, "x"))
    keeper = host.keeper(tmp_path)
    async with keeper.given(VM, [device(NIC, "x")]):
        host.vms[VM] = ["1" * 32]
    with pytest.raises(HardpointError, match=f"VM {VM} has {NIC}"):
        async with keeper.given("b" * 32, [device(NIC, "x")]):
            pass
    assert host.drivers() == {NIC: VFIO}


async def test_what_a_killed_agent_left_is_given_back_by_the_next(tmp_path: Path) -> None:
    host = Host(function(NIC, "x", driver=None), function(SPARE, "y", driver=VFIO))
    claims = [
        journal.Claim(
            vm_uuid=VM,
            device=journal.Device(device_uuid=uuid * 32, address=at, identity=device(at, serial).identity),
            driver="e1000e",
        )
        for at, serial, uuid in ((NIC, "x", "1"), (SPARE, "y", "2"))
    ]
    journal.save(tmp_path, journal.Kept(claims=claims))
    host.vms[VM] = ["2" * 32]
    keeper = host.keeper(tmp_path)
    await keeper.prepare()
    async with keeper.taken(VM):
        pass
    assert host.drivers() == {NIC: "e1000e", SPARE: VFIO}
    assert [claim.device.address for claim in journal.load(tmp_path).claims] == [SPARE]


async def test_nothing_is_given_back_while_it_is_not_known_what_vms_have(tmp_path: Path) -> None:
    host = Host(function(NIC, "x"))
    keeper = host.keeper(tmp_path)
    async with keeper.given(VM, [device(NIC, "x")]):
        host.vms[VM] = ["1" * 32]
    host.deaf = True
    with pytest.raises(HardpointError, match="libvirt is away"):
        async with keeper.taken(VM):
            pass
    assert host.drivers() == {NIC: VFIO}


async def test_what_is_to_be_on_vfio_is_so_after_each_boot_wherever_it_is(tmp_path: Path) -> None:
    host = Host(function(NIC, "x"))
    assert await host.keeper(tmp_path).bind(device(NIC, "x"), vfio=True) == VFIO
    booted = Host(function(NIC, "other"), function(SPARE, "x"))
    keeper = booted.keeper(tmp_path)
    await keeper.prepare()
    assert booted.drivers() == {NIC: "e1000e", SPARE: VFIO}
    async with keeper.given(VM, [device(SPARE, "x")]):
        booted.vms[VM] = ["1" * 32]
    async with keeper.taken(VM):
        del booted.vms[VM]
    assert booted.drivers()[SPARE] == VFIO
    assert await keeper.bind(device(SPARE, "x"), vfio=False) == "e1000e"
    assert booted.drivers() == {NIC: "e1000e", SPARE: "e1000e"}


async def test_virtual_functions_are_there_again_after_a_boot(tmp_path: Path) -> None:
    host = Host(function(NIC, "x", most=4))
    keeper = host.keeper(tmp_path)
    assert await keeper.set_virtual_functions(device(NIC, "x"), 2) == 2
    with pytest.raises(HardpointError, match="0 to 4 virtual functions, not 5"):
        await keeper.set_virtual_functions(device(NIC, "x"), 5)
    booted = Host(function(SPARE, "x", most=4))
    await booted.keeper(tmp_path).prepare()
    assert booted.functions[SPARE].virtual_functions == 2


async def test_plans_tell_what_would_be_done_and_what_stands_against_it(tmp_path: Path) -> None:
    host = Host(function(NIC, "x"), function(SPARE, "y", driver=None))
    (nic, spare) = await host.keeper(tmp_path).plans(None, None, without_reset=False)
    assert (nic.steps, spare.steps) == (
        [f"{NIC} leaves e1000e and goes to vfio-pci"],
        [f"{SPARE} goes to vfio-pci"],
    )
    (gone,) = await host.keeper(tmp_path).plans(None, ["0000:07:00.0"], without_reset=False)
    assert [reason.code for reason in gone.reasons] == ["gone"]
