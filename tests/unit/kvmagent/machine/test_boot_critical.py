from kvmagent.machine.boot_critical import Wiring, boot_critical, critical_usb
from kvmagent.machine.mounts import Mount
from kvmagent.protocol import BlockDevice, NetworkInterface

DISK = "0000:01:00.0"
NIC = "0000:02:00.0"
NO_BRIDGES = Wiring(bridges={})


def disk(name: str, **changes) -> BlockDevice:
    fields = {
        "parent": None,
        "transport": "sata",
        "size_bytes": 1,
        "wwid": None,
        "vendor": None,
        "model": None,
        "serial": None,
        "rotational": False,
        "read_only": False,
        "removable": False,
        "pci_address": DISK,
        "mounts": [],
        "holders": [],
        "identity": [],
    }
    return BlockDevice(name=name, **(fields | changes))


def nic(name: str, **changes) -> NetworkInterface:
    fields = {
        "kind": "physical",
        "mac": None,
        "mtu": 1500,
        "state": "up",
        "speed_mbit": None,
        "driver": None,
        "pci_address": NIC,
        "master": None,
        "addresses": [],
        "default_route": False,
    }
    return NetworkInterface(name=name, **(fields | changes))


def test_a_disk_that_nothing_is_mounted_from_may_go() -> None:
    assert boot_critical([disk("sda"), disk("sda1", parent="sda")], [nic("eth0")], [], NO_BRIDGES) == {}


def test_the_disk_of_the_root_file_system_is_critical() -> None:
    devices = [disk("sda"), disk("sda1", parent="sda", mounts=["/", "/boot"])]
    assert boot_critical(devices, [], [], NO_BRIDGES) == {
        DISK: "root file system on /dev/sda1; file system /boot on /dev/sda1"
    }


def test_a_root_on_lvm_on_raid_is_traced_to_all_its_disks() -> None:
    devices = [
        disk("sda", pci_address="0000:01:00.0"),
        disk("sda1", parent="sda", holders=["md0"], pci_address="0000:01:00.0"),
        disk("sdb", pci_address="0000:03:00.0"),
        disk("sdb1", parent="sdb", holders=["md0"], pci_address="0000:03:00.0"),
        disk("md0", holders=["dm-0"], pci_address=None),
        disk("dm-0", mounts=["/"], pci_address=None),
    ]
    reason = "root file system on /dev/dm-0"
    assert boot_critical(devices, [], [], NO_BRIDGES) == {"0000:01:00.0": reason, "0000:03:00.0": reason}


def test_swap_is_critical() -> None:
    assert boot_critical([disk("sda", mounts=["[swap]"])], [], [], NO_BRIDGES) == {DISK: "swap on /dev/sda"}


def test_every_controller_of_a_multipath_disk_is_critical() -> None:
    wiring = Wiring(bridges={}, controllers={"nvme0n1": ["0000:05:00.0", "0000:06:00.0"]})
    found = boot_critical([disk("nvme0n1", mounts=["/"])], [], [], wiring)
    assert sorted(found) == ["0000:05:00.0", "0000:06:00.0"]


def test_many_mounts_are_counted_and_not_told() -> None:
    points = [f"/srv/{number}" for number in range(9)]
    found = boot_critical([disk("sda", mounts=["/", *points])], [], [], NO_BRIDGES)
    assert found[DISK].startswith("root file system on /dev/sda; ")
    assert found[DISK].endswith("; and 7 more")


def test_the_nics_below_the_bridge_of_the_default_route_are_critical() -> None:
    network = [
        nic("br0", kind="bridge", pci_address=None, default_route=True),
        nic("bond0", kind="bond", pci_address=None, master="br0"),
        nic("eth0", master="bond0"),
        nic("eth1", pci_address="0000:02:00.1", master="bond0"),
        nic("eth2", pci_address="0000:02:00.2"),
    ]
    reason = "default route through br0"
    assert boot_critical([], network, [], NO_BRIDGES) == {NIC: reason, "0000:02:00.1": reason}


def test_a_vlan_is_traced_to_the_nic_that_it_stands_on() -> None:
    network = [nic("eth0"), nic("eth0.7", kind="vlan", pci_address=None, addresses=["192.0.2.5/24"])]
    wiring = Wiring(bridges={}, lowers={"eth0.7": ["eth0"]})
    assert boot_critical([], network, [], wiring, management_address="192.0.2.5") == {
        NIC: "management address 192.0.2.5 on eth0.7"
    }


def test_the_way_to_a_mounted_nfs_server_is_critical() -> None:
    mount = Mount("nas:/export", "/vm", "nfs4", "0:50", "rw,vers=4.2,addr=198.51.100.9")
    network = [
        nic("eth1", addresses=["198.51.100.3/24"]),
        nic("lo", pci_address=None, addresses=["127.0.0.1/8"]),
    ]
    assert boot_critical([], network, [mount], NO_BRIDGES) == {
        NIC: "storage network to 198.51.100.9 through eth1"
    }


def test_a_bridge_above_a_critical_function_says_below_what() -> None:
    wiring = Wiring(bridges={DISK: ["0000:00:1c.0"], NIC: ["0000:00:1d.0"]})
    assert boot_critical([disk("sda", mounts=["/"])], [nic("eth0")], [], wiring) == {
        DISK: "root file system on /dev/sda",
        "0000:00:1c.0": f"bridge above {DISK}: root file system on /dev/sda",
    }


def test_a_bridge_above_several_names_the_worst() -> None:
    wiring = Wiring(bridges={DISK: ["0000:00:1c.0"], NIC: ["0000:00:1c.0"]})
    network = [nic("eth0", default_route=True)]
    found = boot_critical([disk("sda", mounts=["/"])], network, [], wiring)
    assert found["0000:00:1c.0"] == f"bridge above {DISK}: root file system on /dev/sda"


def test_a_usb_disk_and_a_usb_interface_that_the_host_lives_on_are_critical_at_their_ports() -> None:
    devices = [
        disk("sda"),
        disk("sda1", parent="sda", mounts=["/"]),
        disk("sdb", mounts=["[swap]"]),
        disk("sdc"),
    ]
    network = [nic("eth1", addresses=["192.0.2.5/24"], master="br0"), nic("br0", default_route=True)]
    wiring = Wiring(bridges={}, usb={"sda": "1-1.2", "sdb": "2-1", "sdc": "2-2", "eth1": "1-4"})
    assert critical_usb(devices, network, [], wiring, management_address="192.0.2.5") == {
        "1-1.2": "root file system on /dev/sda1",
        "2-1": "swap on /dev/sdb",
        "1-4": "management address 192.0.2.5 on eth1; default route through br0",
    }


def test_without_usb_disks_and_interfaces_no_port_is_critical() -> None:
    assert critical_usb([disk("sda", mounts=["/"])], [nic("eth0")], [], NO_BRIDGES) == {}
