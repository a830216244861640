"""Which device is the one that a VM is to have."""

import pytest

from agentkit.errors import HardpointError
from kvmagent.protocol import Evidence, UsbDevice
from kvmagent.protocol_vms import VmUsbDevice
from kvmagent.usb_sharing.finding import find_usb, giveable
from tests.unit.kvmagent.usb_sharing.sticks import PORT, stick

UUID = "d" * 32


def wanted(device: UsbDevice) -> VmUsbDevice:
    return VmUsbDevice(device_uuid=UUID, identity=device.identity)


def test_a_device_with_a_serial_number_is_found_at_any_port() -> None:
    before, after = stick("A1", port="1"), stick("A1", port="4", dev_num="009")
    assert find_usb([stick("B2", port="1"), after], before.identity) is after


def test_a_device_without_one_is_found_at_its_port_only() -> None:
    before = stick(port="1")
    assert find_usb([stick(port="2")], before.identity) is None
    again = stick(port="1", dev_num="009")
    assert find_usb([stick(port="2"), again], before.identity) is again


def test_another_serial_number_at_the_same_port_is_another_device() -> None:
    assert find_usb([stick("B2", port="1")], stick("A1", port="1").identity) is None


def test_one_that_has_lost_its_serial_number_is_known_by_its_port() -> None:
    """Two that show the same number lose it both."""
    at_port = stick(port="1")
    assert find_usb([stick(port="2"), at_port], stick("A1", port="1").identity) is at_port


def test_what_is_missing_is_told_with_what_was_looked_for_and_where_it_was() -> None:
    with pytest.raises(HardpointError) as caught:
        giveable([stick("B2", port="1", product="other")], wanted(stick("A1", port="1")))
    assert caught.value.code == "SYS.1006"
    details = caught.value.details
    assert "looked for by serial 0781:5581:A1, then port 0781:5581@" in details
    assert f"last known at port {PORT}/1, where there is 0781:5581 other at port 1-1 now" in details


def test_a_device_that_never_had_evidence_is_told_as_such() -> None:
    with pytest.raises(HardpointError, match="looked for by nothing at all"):
        giveable([], VmUsbDevice(device_uuid=UUID, identity=[]))


def test_what_the_host_lives_on_is_not_given() -> None:
    disk = stick("A1", boot_critical="root file system on /dev/sda1")
    with pytest.raises(HardpointError, match="would lose root file system on /dev/sda1") as caught:
        giveable([disk], wanted(disk))
    assert caught.value.code == "SYS.1006"
    assert giveable([stick("A1")], wanted(disk)).boot_critical is None


def test_equal_values_of_other_kinds_are_no_evidence() -> None:
    identity = [Evidence(kind="port", value="0781:5581:A1")]
    assert find_usb([stick("A1")], identity) is None
