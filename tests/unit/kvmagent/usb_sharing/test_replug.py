"""What a VM gets and loses when devices come and go."""

from kvmagent.protocol_vms import VmUsbDevice
from kvmagent.usb_sharing.replug import Replug, replug
from kvmagent.vms.usb_ports import Attached, Given
from tests.unit.kvmagent.usb_sharing.sticks import stick

A, B = "a" * 32, "b" * 32
WANT_A = VmUsbDevice(device_uuid=A, identity=stick("A1").identity)
WANT_B = VmUsbDevice(device_uuid=B, identity=stick("B2", port="2").identity)
AT_5 = Attached("001", "005")


def test_a_device_that_is_where_it_was_is_left_alone() -> None:
    assert replug({A: AT_5}, [WANT_A], [stick("A1")]) == Replug([], [], [])


def test_one_that_is_gone_is_taken_from_the_vm() -> None:
    assert replug({A: AT_5}, [WANT_A], []) == Replug([A], [], [])


def test_one_that_was_plugged_in_again_is_taken_and_given() -> None:
    again = stick("A1", port="3", dev_num="006")
    assert replug({A: AT_5}, [WANT_A], [again]) == Replug([A], [Given(A, again)], [])


def test_one_that_has_come_is_given() -> None:
    there = stick("A1")
    assert replug({}, [WANT_A, WANT_B], [there]) == Replug([], [Given(A, there)], [])


def test_one_that_the_host_needs_now_is_kept() -> None:
    mounted = stick("A1", dev_num="006", boot_critical="file system /mnt on /dev/sda")
    assert replug({A: AT_5}, [WANT_A], [mounted]) == Replug([A], [], [Given(A, mounted)])


def test_a_device_is_given_once() -> None:
    there = stick(port="1")
    twins = [VmUsbDevice(device_uuid=uuid, identity=there.identity) for uuid in (A, B)]
    assert replug({}, twins, [there]).given == [Given(A, there)]
    assert replug({A: AT_5}, twins, [there]) == Replug([], [], [])


def test_what_a_vm_has_and_nobody_knows_of_is_left_alone() -> None:
    assert replug({B: AT_5}, [], [stick("A1")]) == Replug([], [], [])
