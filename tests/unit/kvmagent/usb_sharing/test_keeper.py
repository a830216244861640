"""VMs keep their USB devices. The VMs are XML in memory: libvirt refuses devices that its host has not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from agentkit.errors import HardpointError
from kvmagent.inventory import take_inventory
from kvmagent.protocol import Inventory, UsbDevice
from kvmagent.protocol_vms import VmDomain, VmSeen, VmState, VmUsbDevice
from kvmagent.usb_sharing import keeper as keeping
from kvmagent.usb_sharing.keeper import UsbKeeper
from kvmagent.usb_sharing.wants import Wants
from kvmagent.vms.domain_xml import Machine, domain_xml, seen
from kvmagent.vms.usb_ports import Attached, attached_usb, with_usb
from tests.observer import eventually
from tests.unit.kvmagent.usb_sharing.sticks import stick

VM, A, B = "1" * 32, "a" * 32, "b" * 32
MACHINE = Machine(kvm=False, console_address="127.0.0.1")
AT_5, AT_6 = Attached("001", "005"), Attached("001", "006")


def want(uuid: str, device: UsbDevice) -> VmUsbDevice:
    return VmUsbDevice(device_uuid=uuid, identity=device.identity)


def new_domain(*usb: VmUsbDevice) -> VmDomain:
    return VmDomain(
        uuid=VM, name="vm", cpus=1, memory_bytes=2**30, disks=[], nics=[], console_password="", usb=list(usb)
    )


class Guests:
    """VMs that are XML and do what they are told, unless `stuck` says why not."""

    def __init__(self) -> None:
        self.xmls: dict[str, str] = {}
        self.stuck: str | None = None
        self.plugs = 0

    def start(self, *usb: VmUsbDevice) -> None:
        self.xmls[VM] = domain_xml(new_domain(*usb), MACHINE, lambda _: "file")

    def has(self) -> dict[str, Attached]:
        return attached_usb(self.xmls[VM])

    async def get(self, uuid: str) -> VmSeen | None:
        return seen(self.xmls[uuid], VmState.RUNNING) if uuid in self.xmls else None

    async def xml(self, uuid: str) -> str | None:
        return self.xmls.get(uuid)

    async def plug(self, uuid: str, what: str, xml: str) -> None:
        self.refuse(what)
        self.plugs += 1
        self.change(uuid, lambda devices: devices.append(ET.fromstring(xml)))

    async def unplug(
        self, uuid: str, what: str, look_for: Callable[[str], str | None], patience_s: float, remedy: str
    ) -> None:
        self.refuse(what)
        found = look_for(self.xmls[uuid]) if uuid in self.xmls else None
        if found is None:
            return
        alias = ET.fromstring(found).find("alias").get("name")
        self.change(uuid, lambda devices: devices.remove(devices.find(f"hostdev/alias[@name='{alias}']/..")))

    def change(self, uuid: str, change: Callable[[ET.Element], object]) -> None:
        root = ET.fromstring(self.xmls[uuid])
        change(root.find("devices"))
        self.xmls[uuid] = ET.tostring(root, encoding="unicode")

    def refuse(self, what: str) -> None:
        if self.stuck:
            raise HardpointError("SYS.1006", "Operation failed", f"{what}: {self.stuck}")


class Host:
    """The USB devices of a host, whose inventory is always up to date."""

    def __init__(self, empty: Inventory) -> None:
        self.inventory = empty

    def has(self, *devices: UsbDevice) -> None:
        self.inventory.usb = list(devices)

    async def take_devices(self) -> Inventory:
        return await self.take()

    async def take(self) -> Inventory:
        return self.inventory


@pytest.fixture
def guests() -> Guests:
    return Guests()


@pytest.fixture
def host(machine) -> Host:
    return Host(take_inventory(machine.root))


@pytest.fixture
def agent(guests: Guests, host: Host, tmp_path: Path) -> Callable[[], UsbKeeper]:
    """Make the keeper of an agent that has just started."""
    return lambda: UsbKeeper(guests, host, host.take, Wants(tmp_path))


@contextlib.asynccontextmanager
async def running(keeper: UsbKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        task.cancel()


async def test_a_running_vm_gets_a_device_once(agent, guests: Guests, host: Host) -> None:
    keeper, device = agent(), stick("A1")
    host.has(device)
    guests.start()
    for _ in range(2):
        assert (await keeper.attach(VM, want(A, device))).devices == [A]
    assert (guests.has(), guests.plugs) == ({A: AT_5}, 1)


async def test_a_device_is_not_given_to_a_vm_that_does_not_run(agent, host: Host, tmp_path: Path) -> None:
    host.has(stick("A1"))
    with pytest.raises(HardpointError, match="does not run on this host"):
        await agent().attach(VM, want(A, stick("A1")))
    assert Wants(tmp_path).vms() == []


async def test_what_could_not_be_attached_is_not_wanted(agent, guests: Guests, host: Host, tmp_path) -> None:
    host.has(stick("A1"))
    guests.start()
    guests.stuck = "device is busy"
    with pytest.raises(HardpointError, match="device is busy"):
        await agent().attach(VM, want(A, stick("A1")))
    assert Wants(tmp_path).vms() == []


async def test_a_replugged_device_is_given_back_to_its_vm(agent, guests: Guests, host: Host) -> None:
    keeper = agent()
    host.has(stick("A1"))
    guests.start()
    async with running(keeper):
        await keeper.attach(VM, want(A, stick("A1")))
        host.has()
        keeper.stir()
        await eventually(lambda: guests.has() == {})
        host.has(stick("A1", port="4", dev_num="006"))
        keeper.stir()
        await eventually(lambda: guests.has() == {A: AT_6})
        host.has(stick("A1", dev_num="005"))
        keeper.stir()
        await eventually(lambda: guests.has() == {A: AT_5})


async def test_an_agent_that_starts_again_gives_back_what_came_meanwhile(
    agent, guests: Guests, host: Host
) -> None:
    host.has(stick("A1"))
    guests.start()
    await agent().attach(VM, want(A, stick("A1")))
    host.has(stick("A1", dev_num="006"))
    async with running(agent()):
        await eventually(lambda: guests.has() == {A: AT_6})


async def test_a_vm_that_has_stopped_is_forgotten(agent, guests: Guests, host: Host, tmp_path: Path) -> None:
    keeper = agent()
    host.has(stick("A1"))
    guests.start()
    await keeper.attach(VM, want(A, stick("A1")))
    async with running(keeper):
        guests.xmls.clear()
        keeper.stir()
        await eventually(lambda: Wants(tmp_path).vms() == [])
        guests.start()
        keeper.stir()
        await asyncio.sleep(0)
        assert guests.has() == {}


async def test_a_detached_device_stays_with_the_host_when_it_is_replugged(
    agent, guests: Guests, host: Host, tmp_path: Path
) -> None:
    keeper = agent()
    host.has(stick("A1"), stick("B2", port="2", dev_num="006"))
    guests.start()
    await keeper.attach(VM, want(A, stick("A1")))
    await keeper.attach(VM, want(B, stick("B2", port="2")))
    assert (await keeper.detach(VM, A, 1)).devices == [B]
    assert [wanted.device_uuid for wanted in Wants(tmp_path).of(VM)] == [B]
    assert await keeper.detach("0" * 32, A, 1) is None, "its VM does not run"


async def test_a_device_that_a_vm_does_not_let_go_of_is_its_own(
    agent, guests: Guests, host: Host, tmp_path: Path
) -> None:
    keeper = agent()
    host.has(stick("A1"))
    guests.start()
    await keeper.attach(VM, want(A, stick("A1")))
    guests.stuck = "it hangs"
    with pytest.raises(HardpointError, match="it hangs"):
        await keeper.detach(VM, A, 1)
    assert Wants(tmp_path).vms() == [VM]


async def test_what_fails_is_tried_again(
    agent, guests: Guests, host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "RETRY_FIRST_S", 0.01)
    keeper = agent()
    host.has(stick("A1"))
    guests.start()
    await keeper.attach(VM, want(A, stick("A1")))
    async with running(keeper):
        guests.stuck = "libvirt is away"
        host.has(stick("A1", dev_num="006"))
        keeper.stir()
        await eventually(lambda: "not seen to" in caplog.text)
        guests.stuck = None
        await eventually(lambda: guests.has() == {A: AT_6})


async def test_a_vm_starts_with_what_is_there_and_gets_the_rest_when_it_comes(
    agent, guests: Guests, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    keeper, there, later = agent(), stick("A1"), stick("B2", port="2", dev_num="006")
    host.has(there)
    domain = new_domain(want(A, there), want(B, later))
    async with running(keeper):
        async with keeper.starting(domain) as usb:
            assert [given.device_uuid for given in usb] == [A]
            guests.xmls[VM] = with_usb(domain_xml(domain, MACHINE, lambda _: "file"), usb)
        told = [(r.message, r.device) for r in caplog.records if r.levelno == logging.WARNING]
        assert told == [("VM starts without a USB device that is not plugged in", B)]
        host.has(there, later)
        keeper.stir()
        await eventually(lambda: guests.has() == {A: AT_5, B: AT_6})


async def test_a_vm_starts_without_what_the_host_needs(agent, guests: Guests, host: Host, caplog) -> None:
    host.has(stick("A1", boot_critical="swap on /dev/sda"))
    async with agent().starting(new_domain(want(A, stick("A1")))) as usb:
        assert usb == []
    assert "the host needs it now" in caplog.text


async def test_a_vm_that_was_not_started_is_forgotten(agent, host: Host, tmp_path: Path) -> None:
    keeper = agent()
    host.has(stick("A1"))
    async with running(keeper):
        with pytest.raises(HardpointError, match="no memory"):
            async with keeper.starting(new_domain(want(A, stick("A1")))):
                raise HardpointError("SYS.1006", "Operation failed", "no memory")
        await eventually(lambda: Wants(tmp_path).vms() == [])


async def test_a_vm_that_runs_already_gets_what_it_lacks(agent, guests: Guests, host: Host) -> None:
    """The agent was killed between the VM's start and its answer."""
    keeper = agent()
    host.has(stick("A1"))
    guests.start()
    async with running(keeper):
        async with keeper.starting(new_domain(want(A, stick("A1")))) as usb:
            assert list(usb) == []
        await eventually(lambda: guests.has() == {A: AT_5})
