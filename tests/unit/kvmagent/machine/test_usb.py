import pytest

from kvmagent.machine.tree import Tree
from kvmagent.machine.usb import read_usb, usb_paths, usb_port_of, usb_version

CONTROLLER = "pci0000:00/0000:00:14.0"


@pytest.fixture
def controller(machine):
    machine.pci(CONTROLLER, "8086:a36d:8086:7270", "0c0330")
    for bus, version in (("1", "2.00"), ("2", "3.10")):
        hub = {"busnum": bus, "devnum": "1", "idVendor": "1d6b", "idProduct": f"000{int(bus) + 1}"}
        machine.usb(f"{CONTROLLER}/usb{bus}", **hub, bDeviceClass="09", version=f" {version}", speed="480")
    return machine


def stick(**changes: str) -> dict[str, str]:
    common = {"busnum": "1", "devnum": "5", "idVendor": "0781", "idProduct": "5581", "bDeviceClass": "00"}
    return {**common, "version": " 2.10", "speed": "480", **changes}


def test_the_recorded_server_has_nine_devices_of_which_one_is_no_hub(recorded) -> None:
    tree = Tree(recorded("four-socket-2013"))
    assert len(usb_paths(tree)) == 9
    (device,) = read_usb(tree)
    assert (device.bus_num, device.dev_num, device.port_path) == ("005", "002", "5-2")
    assert (device.i_manufacturer, device.i_product) == ("Avocent", "USB Composite Device-0")
    assert (device.usb_version, device.speed_mbit) == ("1.1", 12.0)
    assert [item.kind for item in device.identity] == ["serial", "port"]


def test_a_device_with_all_its_strings_is_shown_with_them(controller) -> None:
    strings = {"manufacturer": "SanDisk", "product": "Ultra", "serial": "4C5300"}
    controller.usb(f"{CONTROLLER}/usb1/1-4/1-4.2", **stick(**strings))
    (device,) = read_usb(Tree(controller.root))
    assert (device.i_manufacturer, device.i_product, device.i_serial) == ("SanDisk", "Ultra", "4C5300")
    assert device.port_path == "1-4.2"
    assert [(item.kind, item.value) for item in device.identity] == [
        ("serial", "0781:5581:4C5300"),
        ("port", "0781:5581@root0/14.0-8086:a36d/usb2/4.2"),
    ]


def test_missing_strings_are_empty_and_the_port_identifies(controller) -> None:
    controller.usb(f"{CONTROLLER}/usb1/1-1", **stick())
    (device,) = read_usb(Tree(controller.root))
    assert (device.i_manufacturer, device.i_product, device.i_serial) == ("", "", "")
    assert [item.kind for item in device.identity] == ["port"]


def test_a_serial_number_that_two_sticks_share_is_no_evidence(controller) -> None:
    controller.usb(f"{CONTROLLER}/usb1/1-1", **stick(serial="1234"))
    controller.usb(f"{CONTROLLER}/usb1/1-2", **stick(serial="1234", devnum="6"))
    assert [[item.kind for item in device.identity] for device in read_usb(Tree(controller.root))] == [
        ["port"],
        ["port"],
    ]


def test_equal_ports_of_a_controllers_two_root_hubs_are_told_apart(controller) -> None:
    controller.usb(f"{CONTROLLER}/usb1/1-1", **stick())
    controller.usb(f"{CONTROLLER}/usb2/2-1", **stick(busnum="2"))
    first, second = read_usb(Tree(controller.root))
    assert first.identity != second.identity
    assert first.identity


def test_the_port_does_not_depend_on_the_bus_number(controller, tmp_path) -> None:
    controller.usb(f"{CONTROLLER}/usb1/1-1", **stick())
    other = type(controller)(tmp_path / "next-boot")
    other.pci(CONTROLLER, "8086:a36d:8086:7270", "0c0330")
    other.usb(f"{CONTROLLER}/usb7", busnum="7", devnum="1", bDeviceClass="09", version="2.00")
    other.usb(f"{CONTROLLER}/usb7/7-1", **stick(busnum="7"))
    (before,), (after,) = read_usb(Tree(controller.root)), read_usb(Tree(other.root))
    assert before.identity == after.identity


def test_a_device_without_numbers_or_ids_is_left_out(controller) -> None:
    controller.usb(f"{CONTROLLER}/usb1/1-1", idVendor="0781", idProduct="5581", bDeviceClass="00")
    assert read_usb(Tree(controller.root)) == []


@pytest.mark.parametrize(
    ("attribute", "speed", "version"),
    [
        ("2.00", 480.0, "2.0"),
        (" 2.10", 480.0, "2.1"),
        ("2.01", 480.0, "2.01"),
        ("3.20", 10000.0, "3.2"),
        ("3.00", None, "3.0"),
        ("2.00", 12.0, "1.1"),
        ("1.10", 1.5, "1.1"),
        (None, None, ""),
    ],
)
def test_the_version_is_trimmed_and_slow_devices_are_1_1(attribute, speed, version) -> None:
    assert usb_version(attribute, speed) == version


def test_what_is_on_a_usb_device_is_told_by_the_port_in_its_path() -> None:
    disk = "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/host6/target6:0:0/6:0:0:0/block/sda"
    assert usb_port_of(disk) == "1-1.2"
    assert usb_port_of("/sys/devices/pci0000:00/0000:00:14.0/usb2/2-3/2-3:2.1/net/eth1") == "2-3"
    assert usb_port_of("/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/block/sda") is None
    assert usb_port_of(None) is None
