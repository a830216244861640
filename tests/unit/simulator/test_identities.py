"""Simulated hosts of one recording are the same hardware, each with identities of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmagent.protocol import Inventory
from simulator.identities import Size, distinct
from simulator.machines import Machines

NAMES = ["eight-accelerators", "four-socket-2013", "virtio-guest"]
ONE, OTHER = "1" * 32, "2" * 32


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Machines:
    return Machines(tmp_path_factory.mktemp("machines"))


def _evidence(inventory: Inventory, kinds: set[str]) -> set[str]:
    devices = [*inventory.pci, *inventory.usb, *inventory.block]
    return {item.value for device in devices for item in device.identity if item.kind in kinds}


@pytest.mark.parametrize("name", NAMES)
def test_no_serial_number_or_address_is_shared_with_another_host_or_the_recording(
    machines: Machines, name: str
) -> None:
    recorded = machines.inventory(name)
    one, other = (distinct(recorded, uuid, Size()) for uuid in (ONE, OTHER))
    for kinds in ({"serial", "wwid", "mac"},):
        shown = [_evidence(inventory, kinds) for inventory in (recorded, one, other)]
        assert len(set.union(*shown)) == sum(map(len, shown))
    macs = [{nic.mac for nic in i.network if nic.mac and nic.mac.strip("0:")} for i in (recorded, one, other)]
    assert len(set.union(*macs)) == sum(map(len, macs)) > 0
    assert len({recorded.hash, one.hash, other.hash}) == 3
    assert one.facts.machine_id != other.facts.machine_id


@pytest.mark.parametrize("name", NAMES)
def test_a_host_is_the_same_each_time_and_has_the_recorded_hardware(machines: Machines, name: str) -> None:
    recorded = machines.inventory(name)
    one = distinct(recorded, ONE, Size())
    assert distinct(recorded, ONE, Size()) == one
    assert [(f.address, f.vendor_id, f.device_id) for f in one.pci] == [
        (f.address, f.vendor_id, f.device_id) for f in recorded.pci
    ]
    assert _evidence(one, {"path", "port"}) == _evidence(recorded, {"path", "port"})
    assert [len(nic.mac or "") for nic in one.network] == [len(nic.mac or "") for nic in recorded.network]


def test_the_identities_of_a_disk_and_its_evidence_agree(machines: Machines) -> None:
    recorded = machines.inventory("virtio-guest")
    recorded_serial = recorded.block[0].serial
    (disk,) = distinct(recorded, ONE, Size()).block
    if recorded_serial:
        assert disk.serial != recorded_serial
    serials = [item.value for item in disk.identity if item.kind == "serial"]
    assert serials == [f":{disk.serial}"]


def test_a_host_may_have_more_than_was_recorded(machines: Machines) -> None:
    one = distinct(machines.inventory("virtio-guest"), ONE, Size(memory_bytes=2**42, cpus=512))
    assert (one.facts.memory_bytes, one.facts.cpu_num) == (2**42, 512)


def test_a_recording_of_the_state_folder_is_found_beside_those_that_are_shipped(tmp_path: Path) -> None:
    shipped = Machines(tmp_path)
    assert set(NAMES) <= set(shipped.names())
    source = Path(__file__).parents[2] / "machines" / "virtio-guest.tar.xz"
    (tmp_path / "mine.tar.xz").write_bytes(source.read_bytes())
    assert Machines(tmp_path).inventory("mine") == shipped.inventory("virtio-guest")
