"""USB devices and a real libvirtd. Its host has no USB: what libvirt would refuse is kept beside it.

A double stands in for the connection only where a hostdev is concerned: its XML is added to that of the VM,
which is libvirt's own with all addresses that libvirt has given.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree as ET

import msgspec
import pytest

from kvmagent.inventory import take_inventory
from kvmagent.protocol import Inventory, UsbDevice
from kvmagent.protocol_vms import VmDomain, VmUsbDevice
from kvmagent.usb_sharing.keeper import UsbKeeper
from kvmagent.usb_sharing.wants import Wants
from kvmagent.vms.domain_xml import Machine, own_alias
from kvmagent.vms.keeper import LibvirtVms
from kvmagent.vms.library import LibvirtError, Session
from kvmagent.vms.libvirt import Libvirt
from kvmagent.vms.usb_ports import Attached, attached_usb
from tests.libvirtd import IDLE, Libvirtd, libvirtd, one_libvirtd, small_domain
from tests.observer import eventually
from tests.unit.kvmagent.usb_sharing.sticks import stick

__all__ = ["libvirtd", "one_libvirtd"]

T = TypeVar("T")
A, B = "a" * 32, "b" * 32


class UsbSession:
    """A connection whose host seems to have USB devices."""

    hostdevs: dict[str, list[str]]

    def __init__(self, session: Session, hostdevs: dict[str, list[str]]) -> None:
        self._session = session
        self._hostdevs = hostdevs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def create(self, xml: str) -> None:
        root = ET.fromstring(xml)
        devices = root.find("devices")
        hostdevs = devices.findall("hostdev")
        for hostdev in hostdevs:
            devices.remove(hostdev)
        self._session.create(ET.tostring(root, encoding="unicode"))
        self._hostdevs[root.findtext("uuid")] = [ET.tostring(item, encoding="unicode") for item in hostdevs]

    def xml(self, uuid: str) -> str:
        root = ET.fromstring(self._session.xml(uuid))
        root.find("devices").extend([ET.fromstring(item) for item in self._hostdevs.get(uuid, ())])
        return ET.tostring(root, encoding="unicode")

    def attach(self, uuid: str, device_xml: str) -> None:
        self._session.state(uuid)
        self._hostdevs.setdefault(uuid, []).append(device_xml)

    def detach(self, uuid: str, device_xml: str) -> None:
        name = own_alias(ET.fromstring(device_xml))
        mine = self._hostdevs[uuid]
        mine[:] = [item for item in mine if own_alias(ET.fromstring(item)) != name]


class UsbLibvirt(Libvirt):
    """libvirt on such a host."""

    def __init__(self, uri: str, tell: Callable[[str | None], object]) -> None:
        super().__init__(uri, tell)
        self.hostdevs: dict[str, list[str]] = {}

    async def call(self, work: Callable[[Session], T], limit_s: float | None = 60.0) -> T:
        return await super().call(lambda session: work(UsbSession(session, self.hostdevs)), limit_s)


class Agent:
    """What an agent has, from one start of it to its end."""

    def __init__(self, uri: str, state: Path, usb: list[UsbDevice], empty: Inventory) -> None:
        self._usb = usb
        self._empty = empty
        self.libvirt = UsbLibvirt(uri, lambda _uuid: self.usb.stir())
        self.vms = LibvirtVms(self.libvirt, lambda: Machine(kvm=False, console_address="127.0.0.1"))
        self.usb = UsbKeeper(self.vms, self, self.take, Wants(state))

    async def take(self) -> Inventory:
        return msgspec.structs.replace(self._empty, usb=list(self._usb))

    async def take_devices(self) -> Inventory:
        return await self.take()

    async def has(self, uuid: str) -> dict[str, Attached]:
        return attached_usb(await self.vms.xml(uuid) or "<domain/>")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (self.libvirt.run(), self.usb.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@pytest.fixture
def plugged() -> list[UsbDevice]:
    """The USB devices that the host seems to have."""
    return []


@pytest.fixture
def agent(libvirtd: Libvirtd, tmp_path: Path, plugged: list[UsbDevice]) -> Callable[[], Agent]:
    (tmp_path / "machine").mkdir()
    empty = take_inventory(tmp_path / "machine")
    return lambda: Agent(libvirtd.uri, tmp_path, plugged, empty)


def domain(tmp_path: Path, *usb: VmUsbDevice) -> VmDomain:
    wanted = msgspec.convert(small_domain(tmp_path, IDLE), VmDomain)
    return msgspec.structs.replace(wanted, usb=list(usb))


def want(uuid: str, device: UsbDevice) -> VmUsbDevice:
    return VmUsbDevice(device_uuid=uuid, identity=device.identity)


async def started(agent: Agent, vm: VmDomain) -> None:
    async with agent.usb.starting(vm) as usb:
        await agent.vms.start(vm, usb)


async def until_has(agent: Agent, uuid: str, devices: dict[str, Attached]) -> None:
    async with asyncio.timeout(30):
        while await agent.has(uuid) != devices:
            await asyncio.sleep(0.05)


async def test_a_device_gets_a_port_beside_those_that_libvirt_has_given(
    agent: Callable[[], Agent], plugged: list[UsbDevice], tmp_path: Path
) -> None:
    now, vm = agent(), domain(tmp_path, want(A, stick("A1")))
    plugged += [stick("A1"), stick("B2", port="2", dev_num="006", version="3.0")]
    async with now.running():
        await started(now, vm)
        seen = await now.usb.attach(vm.uuid, want(B, plugged[1]))
        assert seen is not None
        assert seen.devices == [A, B]
        root = ET.fromstring(await now.vms.xml(vm.uuid) or "")
        addresses = [item.find("address") for tag in ("input", "hostdev") for item in root.iter(tag)]
        ports = [(item.get("bus"), item.get("port")) for item in addresses if item is not None]
        assert ports == [("0", "1"), ("0", "2"), ("0", "3")]
        assert [c.get("ports") for c in root.iterfind("devices/controller[@type='usb']")] == ["15"]


async def test_a_replugged_device_is_back_in_its_vm_and_stays_out_after_detaching(
    agent: Callable[[], Agent], plugged: list[UsbDevice], tmp_path: Path
) -> None:
    now, vm = agent(), domain(tmp_path)
    plugged.append(stick("A1"))
    async with now.running():
        await started(now, vm)
        await now.usb.attach(vm.uuid, want(A, stick("A1")))
        plugged[:] = [stick("A1", port="3", dev_num="007")]
        now.usb.stir()
        await until_has(now, vm.uuid, {A: Attached("001", "007")})
        await now.usb.detach(vm.uuid, A, 5)
        assert await now.has(vm.uuid) == {}
        plugged[:] = [stick("A1", dev_num="008")]
        now.usb.stir()
        await asyncio.sleep(0.2)
        assert await now.has(vm.uuid) == {}


async def test_the_next_agent_sees_to_vms_that_run_and_forgets_those_that_ended(
    agent: Callable[[], Agent], plugged: list[UsbDevice], tmp_path: Path, libvirtd: Libvirtd
) -> None:
    first, kept, ended = agent(), domain(tmp_path), domain(tmp_path)
    plugged += [stick("A1"), stick("B2", port="2", dev_num="006")]
    async with first.running():
        for vm, uuid, device in ((kept, A, plugged[0]), (ended, B, plugged[1])):
            await started(first, vm)
            await first.usb.attach(vm.uuid, want(uuid, device))
    libvirtd.virsh("destroy", ended.uuid)
    plugged[:] = [stick("A1", dev_num="009")]
    second = agent()
    second.libvirt.hostdevs = first.libvirt.hostdevs
    async with second.running():
        await until_has(second, kept.uuid, {A: Attached("001", "009")})
        await eventually(lambda: Wants(tmp_path).vms() == [kept.uuid])
        libvirtd.virsh("destroy", kept.uuid)
        await eventually(lambda: Wants(tmp_path).vms() == [])


async def test_libvirt_says_why_a_device_that_it_has_not_is_not_given(
    libvirtd: Libvirtd, plugged: list[UsbDevice], tmp_path: Path, agent: Callable[[], Agent]
) -> None:
    now, vm = agent(), domain(tmp_path)
    plugged.append(stick("A1"))
    now.libvirt = now.vms._libvirt = Libvirt(libvirtd.uri, lambda _uuid: None)
    async with now.running():
        await started(now, vm)
        with pytest.raises(Exception, match="was not attached to VM") as told:
            await now.usb.attach(vm.uuid, want(A, stick("A1")))
        assert isinstance(told.value.__cause__, LibvirtError)
        assert Wants(tmp_path).vms() == []
