"""Ports of a VM for the host's USB devices."""

from xml.etree import ElementTree as ET

import pytest

from agentkit.errors import HardpointError
from kvmagent.protocol_usb import USB_DEVICES_MOST
from kvmagent.protocol_vms import VmDomain, VmState
from kvmagent.vms.domain_xml import Machine, attached_device, domain_xml, moved, seen
from kvmagent.vms.usb_ports import Attached, Given, Place, attached_usb, free_place, version_of, with_usb
from tests.unit.kvmagent.usb_sharing.sticks import stick

UUID = "0123456789ab4cde8f0123456789abcd"
KVM = Machine(kvm=True, console_address="192.0.2.1")


def new_domain(*, usb_redirect: bool = False) -> str:
    domain = VmDomain(
        uuid=UUID,
        name="vm",
        cpus=1,
        memory_bytes=2**30,
        disks=[],
        nics=[],
        console_password="secret12",
        usb_redirect=usb_redirect,
    )
    return domain_xml(domain, KVM, lambda _: "file")


def device_uuid(number: int) -> str:
    return f"{number:032x}"


@pytest.mark.parametrize("version", ["1.1", "2.0", "3.0", "3.1", ""])
def test_a_device_of_any_version_gets_a_port_beside_the_pointer(version: str) -> None:
    assert free_place(new_domain(), stick(version=version)) == Place(0, 2)


@pytest.mark.parametrize(
    ("text", "version"), [("1.1", 1), ("2.0", 2), ("2.1", 2), ("3.2", 3), ("4.0", 3), ("", 2), ("x", 2)]
)
def test_a_version_is_the_major_one(text: str, version: int) -> None:
    assert version_of(stick(version=text)) == version


def test_devices_of_a_new_domain_have_their_source_their_name_and_ports_of_their_own() -> None:
    given = [Given("a" * 32, stick("A1")), Given("b" * 32, stick("B2", dev_num="012"))]
    xml = with_usb(new_domain(), given)
    first, second = ET.fromstring(xml).findall("devices/hostdev")
    assert (first.get("mode"), first.get("type"), first.get("managed")) == ("subsystem", "usb", "yes")
    assert first.find("source/vendor").get("id") == "0x0781"
    assert first.find("source/product").get("id") == "0x5581"
    assert first.find("source/address").attrib == {"bus": "1", "device": "5"}
    assert first.find("alias").get("name") == f"ua-{'a' * 32}"
    assert [item.find("address").get("port") for item in (first, second)] == ["2", "3"]
    assert attached_usb(xml) == {"a" * 32: Attached("001", "005"), "b" * 32: Attached("001", "012")}
    assert attached_device(xml, "b" * 32) is not None
    assert seen(xml, VmState.RUNNING).devices == ["a" * 32, "b" * 32]


def test_a_domain_without_devices_stays_as_it_is() -> None:
    xml = new_domain()
    assert with_usb(xml, []) == xml
    assert attached_usb(xml) == {}


def test_when_all_ports_are_taken_it_is_told_who_has_them() -> None:
    full = [Given(device_uuid(n), stick()) for n in range(USB_DEVICES_MOST)]
    xml = with_usb(new_domain(), full)
    with pytest.raises(HardpointError) as caught:
        free_place(xml, stick(version="3.0"))
    assert caught.value.code == "SYS.1006"
    assert f"{device_uuid(0)} at 0:2" in caught.value.details
    assert "input at 0:1" in caught.value.details
    with pytest.raises(HardpointError, match="are taken"):
        with_usb(new_domain(), [*full, Given("f" * 32, stick())])


def test_a_vm_without_a_controller_for_the_version_has_to_be_started_again() -> None:
    old = "<domain><devices><controller type='usb' index='0' model='ich9-ehci1'/></devices></domain>"
    assert free_place(old, stick(version="2.0")) == Place(0, 1)
    with pytest.raises(HardpointError, match=r"no USB controller .*USB 3.0") as caught:
        free_place(old, stick(version="3.0"))
    assert "start it again" in caught.value.remedy
    with pytest.raises(HardpointError, match="no USB controller"):
        free_place("<domain/>", stick())


def test_a_vm_of_an_older_version_has_the_ports_that_its_controller_has() -> None:
    tablet = "<input type='tablet'><alias name='input0'/><address type='usb' bus='0' port='1'/></input>"
    old = f"<domain><devices><controller type='usb' index='0' model='qemu-xhci'/>{tablet}</devices></domain>"
    for port in (2, 3, 4):
        assert free_place(old, stick()) == Place(0, port)
        old = with_usb(old, [Given(device_uuid(port), stick())])
    with pytest.raises(HardpointError, match="input0 at 0:1"):
        free_place(old, stick())


def test_a_port_of_a_hub_is_not_given_to_another_device() -> None:
    hub = "<hub type='usb'><address type='usb' bus='0' port='1.2'/></hub>"
    xml = f"<domain><devices><controller type='usb' index='0' model='qemu-xhci'/>{hub}</devices></domain>"
    assert free_place(xml, stick()) == Place(0, 2)


def test_devices_of_the_person_at_the_screen_come_by_spice_and_take_no_port_of_the_hosts() -> None:
    plain, xml = new_domain(), new_domain(usb_redirect=True)
    assert "spice" not in plain
    root = ET.fromstring(xml)
    graphics = {g.get("type"): (g.get("listen"), g.get("passwd")) for g in root.iterfind("devices/graphics")}
    assert graphics == dict.fromkeys(("vnc", "spice"), ("192.0.2.1", "secret12"))
    ways = root.findall("devices/redirdev[@type='spicevmc']")
    assert [(w.find("address").get("bus"), w.find("address").get("port")) for w in ways] == [
        ("1", str(port)) for port in range(1, 5)
    ]
    assert root.find("devices/channel/target").get("name") == "com.redhat.spice.0"
    assert free_place(xml, stick()) == Place(0, 2)
    assert seen(xml, VmState.RUNNING).usb_redirect
    assert not seen(plain, VmState.RUNNING).usb_redirect
    there = ET.fromstring(moved(xml, "192.0.2.2", {}))
    assert {g.get("listen") for g in there.iterfind("devices/graphics")} == {"192.0.2.2"}
