"""Domain XML from what a VM is made of, and back from what libvirt says."""

from xml.etree import ElementTree as ET

import msgspec
import pytest

from agentkit.errors import HardpointError
from kvmagent.protocol_ceph import CephMon, RbdDisk
from kvmagent.protocol_vms import DiskFormat, VmDisk, VmDomain, VmNic, VmPciDevice, VmState
from kvmagent.vms.domain_xml import (
    BLOCK_DEVICE,
    DISKS_MAX,
    FILE,
    Machine,
    attached_device,
    attached_disk,
    dashed,
    disk_xml,
    domain_xml,
    kind_of_mode,
    secret_xml,
    seen,
)

UUID = "0123456789ab4cde8f0123456789abcd"
ROOT, DATA, NIC = "a" * 32, "b" * 32, "c" * 32
KVM = Machine(kvm=True, console_address="192.0.2.1")


def is_file(_path: str) -> str:
    return FILE


def volume(uuid: str, place: int, path: str = "/storage/root.qcow2") -> VmDisk:
    return VmDisk(volume_uuid=uuid, path=path, format=DiskFormat.QCOW2, device_id=place)


def vm(**changes: object) -> VmDomain:
    domain = VmDomain(
        uuid=UUID,
        name='a "VM" <&>',
        cpus=3,
        memory_bytes=2**30,
        disks=[volume(ROOT, 0), volume(DATA, 2)],
        nics=[VmNic(nic_uuid=NIC, bridge="br_eth0", mac="fa:16:3e:00:00:01", name="vnic1.0")],
        console_password="secret12",
    )
    return msgspec.structs.replace(domain, **changes)


def parsed(domain: VmDomain, machine: Machine = KVM) -> ET.Element:
    return ET.fromstring(domain_xml(domain, machine, is_file))


def test_a_vm_has_what_it_is_made_of():
    root = parsed(vm())
    assert root.get("type") == "kvm"
    assert (root.findtext("name"), root.findtext("uuid"), root.findtext("title")) == (
        UUID,
        dashed(UUID),
        'a "VM" <&>',
    )
    assert root.findtext("vcpu") == "3"
    assert root.find("os/type").get("machine") == "q35"
    disks = {d.findtext("serial"): d.find("target").get("dev") for d in root.iterfind("devices/disk")}
    assert disks == {ROOT: "vda", DATA: "vdc"}
    nic = root.find("devices/interface")
    assert nic.find("mac").get("address") == "fa:16:3e:00:00:01"
    assert (nic.find("source").get("bridge"), nic.find("target").get("dev")) == ("br_eth0", "vnic1.0")
    assert root.find("devices/graphics").get("listen") == "192.0.2.1"
    assert root.find("devices/graphics").get("passwd") == "secret12"


def test_only_the_first_disk_is_booted_from():
    boots = [disk.find("boot") is not None for disk in parsed(vm()).iterfind("devices/disk")]
    assert boots == [True, False]


def test_without_kvm_a_vm_is_emulated_and_asks_for_no_host_cpu():
    root = parsed(vm(), Machine(kvm=False, console_address="127.0.0.1"))
    assert root.get("type") == "qemu"
    assert root.find("cpu") is None


def test_a_block_device_is_attached_as_one():
    disk = ET.fromstring(disk_xml(volume(DATA, 1, "/dev/vg/lv"), lambda _path: BLOCK_DEVICE))
    assert disk.get("type") == "block"
    assert disk.find("source").get("dev") == "/dev/vg/lv"


def test_block_devices_are_told_by_their_mode():
    assert [kind_of_mode(mode) for mode in (0o060660, 0o100644)] == [BLOCK_DEVICE, FILE]


def test_what_was_written_is_read_back():
    found = seen(domain_xml(vm(), KVM, is_file), VmState.RUNNING)
    assert (found.uuid, found.state, found.cpus, found.memory_bytes) == (UUID, VmState.RUNNING, 3, 2**30)
    assert found.disks == [ROOT, DATA]
    assert found.console_port is None, "libvirt has not given it a port yet"


def test_libvirts_own_units_and_ports_are_understood():
    root = parsed(vm())
    memory = root.find("memory")
    memory.text, memory.attrib["unit"] = "2048", "KiB"
    root.find("devices/graphics").set("port", "5901")
    found = seen(ET.tostring(root, encoding="unicode"), VmState.PAUSED)
    assert found.memory_bytes == 2 * 2**20
    assert (found.console_address, found.console_port) == ("192.0.2.1", 5901)


def test_a_domain_of_somebody_else_is_not_seen():
    assert seen("<domain><name>other</name><vcpu>1</vcpu></domain>", VmState.RUNNING) is None


def test_an_attached_disk_is_found_by_its_volume():
    xml = domain_xml(vm(), KVM, is_file)
    assert ET.fromstring(attached_disk(xml, DATA)).find("target").get("dev") == "vdc"
    assert attached_disk(xml, "d" * 32) is None


@pytest.mark.parametrize("places", [(0, 0), (0, DISKS_MAX), (0, -1)])
def test_impossible_places_of_disks_are_refused(places):
    disks = [volume(ROOT, places[0]), volume(DATA, places[1])]
    with pytest.raises(HardpointError) as refused:
        domain_xml(vm(disks=disks), KVM, is_file)
    assert refused.value.code == "SYS.1007"
    assert str(places[1]) in refused.value.details


def test_a_vm_has_the_hosts_devices_that_it_was_given():
    card = VmPciDevice(device_uuid="d" * 32, address="0000:3b:00.1", identity=[])
    root = parsed(vm(pci=[card]))
    device = root.find("devices/hostdev")
    assert device.attrib == {"mode": "subsystem", "type": "pci", "managed": "no"}
    assert device.find("source/address").attrib == {
        "domain": "0x0000",
        "bus": "0x3b",
        "slot": "0x00",
        "function": "0x1",
    }
    xml = domain_xml(vm(pci=[card]), KVM, is_file)
    assert seen(xml, VmState.RUNNING).devices == ["d" * 32]
    assert "ua-dddd" in attached_device(xml, "d" * 32)
    assert attached_device(xml, "e" * 32) is None
    models = [c.get("model") for c in root.iterfind("devices/controller[@type='pci']")]
    assert models.count("pcie-to-pci-bridge") == 1, "devices that are no PCI Express ones need it"


def test_a_disk_on_ceph_is_opened_by_a_key_that_libvirt_has():
    mons = [CephMon(address="192.0.2.1", port=6789), CephMon(address="2001:db8::1", port=3300)]
    disk = VmDisk(
        volume_uuid=ROOT,
        path="pool/image",
        format=DiskFormat.RAW,
        device_id=0,
        rbd=RbdDisk(storage_uuid=DATA, mons=mons, user="hosts"),
    )
    root = ET.fromstring(disk_xml(disk, is_file))
    assert root.get("type") == "network"
    source = root.find("source")
    assert source.attrib == {"protocol": "rbd", "name": "pool/image"}
    assert [host.attrib for host in source.iterfind("host")] == [
        {"name": "192.0.2.1", "port": "6789"},
        {"name": "2001:db8::1", "port": "3300"},
    ]
    assert source.find("auth").attrib == {"username": "hosts"}
    assert source.find("auth/secret").attrib == {"type": "ceph", "uuid": dashed(DATA)}
    assert root.find("driver").get("type") == "raw"
    secret = ET.fromstring(secret_xml(DATA))
    assert secret.attrib == {"ephemeral": "yes", "private": "yes"}
    assert (secret.findtext("uuid"), secret.findtext("usage/name")) == (dashed(DATA), f"hardpoint {DATA}")
