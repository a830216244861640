"""A device is taken from a VM though its guest does not hear, or is busy, when it is first asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from agentkit.errors import HardpointError
from kvmagent.protocol_vms import VmPciDevice
from kvmagent.vms import keeper
from kvmagent.vms.domain_xml import NAMESPACE, Machine
from kvmagent.vms.keeper import LibvirtVms
from kvmagent.vms.library import NO_DOMAIN, LibvirtError
from kvmagent.vms.libvirt import Libvirt

T = TypeVar("T")
UUID, DEVICE = "a" * 32, "b" * 32


class Guest:
    """A running VM with one device; it gives it away at the request with this number. Doubles a session."""

    def __init__(self, hears: int, refusal: str | None = None) -> None:
        self.has_it, self.asked = True, 0
        self._hears, self._refusal = hears, refusal

    def state(self, _uuid: str) -> int:
        return 1  # running

    def xml(self, uuid: str) -> str:
        device = f"<hostdev><alias name='ua-{DEVICE}'/></hostdev>" if self.has_it else ""
        ours = f"<metadata><u:uuid xmlns:u='{NAMESPACE}'>{uuid}</u:uuid></metadata>"
        return f"<domain>{ours}<devices>{device}</devices><memory unit='KiB'>1</memory></domain>"

    def detach(self, _uuid: str, _device: str) -> None:
        self.asked += 1
        if self.asked >= self._hears:
            self.has_it = False
        elif self._refusal is not None:
            raise LibvirtError(1, self._refusal)

    def attach(self, _uuid: str, _device: str) -> None:
        assert not self.has_it
        self.has_it = True


class FakeLibvirt(Libvirt):
    """libvirt with that VM."""

    def __init__(self, guest: Guest) -> None:
        super().__init__("test:///none", lambda _uuid: None)
        self._guest: Any = guest

    async def call(self, work: Callable[[Any], T], limit_s: float | None = None) -> T:
        del limit_s
        return work(self._guest)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "ASK_AGAIN_S", 0.05)


async def unplug(guest: Guest, patience_s: float = 30.0) -> None:
    vms = LibvirtVms(FakeLibvirt(guest), lambda: Machine(kvm=False, console_address="127.0.0.1"))
    await vms.unplug(
        UUID, "PCI device b", lambda xml: "<hostdev/>" if "hostdev" in xml else None, patience_s, "stop it"
    )


@pytest.mark.parametrize(
    "refusal",
    [
        None,
        "Hot-unplug failed: guest is busy (power indicator blinking)",
        "Device hostdev0 is already in the process of unplug",
    ],
)
async def test_a_guest_that_does_not_hear_or_is_busy_is_asked_again(refusal: str | None) -> None:
    guest = Guest(3, refusal)
    await unplug(guest)
    assert (guest.asked, guest.has_it) == (3, False)


async def test_what_libvirt_refuses_for_another_reason_is_told_at_once() -> None:
    guest = Guest(3, "this device cannot be hot-unplugged")
    with pytest.raises(
        HardpointError, match=r"PCI device b was not detached from VM a+: this device"
    ) as told:
        await unplug(guest)
    assert (told.value.code, guest.asked) == ("SYS.1006", 1)


async def test_a_guest_that_never_lets_go_is_waited_for_as_long_as_said() -> None:
    guest = Guest(10**9)
    with pytest.raises(HardpointError, match=r"has not let go of PCI device b within 0\.2 s") as told:
        await unplug(guest, 0.2)
    assert (told.value.code, guest.has_it) == ("SYS.1001", True)
    assert guest.asked > 1


async def test_a_vm_that_ends_while_it_is_asked_has_let_go() -> None:
    class Ending(Guest):
        """It ends between two questions, once it has been asked and seen with the device."""

        seen_with_it = 0

        def xml(self, uuid: str) -> str:
            self.seen_with_it += self.asked > 0
            if self.seen_with_it > 1:
                raise LibvirtError(NO_DOMAIN, "Domain not found")
            return super().xml(uuid)

    guest = Ending(10**9)
    await unplug(guest)
    assert guest.asked >= 1


async def test_a_device_that_is_given_back_while_the_guest_is_to_let_go_of_it_is_there_in_the_end() -> None:
    guest = Guest(3)
    vms = LibvirtVms(FakeLibvirt(guest), lambda: Machine(kvm=False, console_address="127.0.0.1"))
    leaving = asyncio.create_task(vms.unplug_pci(UUID, DEVICE, 30.0))
    while not guest.asked:
        await asyncio.sleep(0)
    device = VmPciDevice(device_uuid=DEVICE, address="0000:01:00.0", identity=[])
    assert (await vms.plug_pci(UUID, device)).devices == [DEVICE]
    await leaving
    assert (guest.asked, guest.has_it) == (3, True)
