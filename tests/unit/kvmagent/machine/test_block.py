import pytest

from kvmagent.machine.block import controllers_of, read_block, transport_of, unit_serial
from kvmagent.machine.mounts import parse_mountinfo, parse_mounts, read_mounts, read_swaps
from kvmagent.machine.tree import Tree
from kvmagent.protocol import BlockDevice

GIB = 2**30
ATA = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda"


def blocks(tree: Tree) -> dict[str, BlockDevice]:
    return {device.name: device for device in read_block(tree, read_mounts(tree), read_swaps(tree))}


def test_the_recorded_server_has_its_disk_with_mounted_partitions(recorded) -> None:
    found = blocks(Tree(recorded("four-socket-2013")))
    assert list(found) == ["sda", "sda1", "sda2", "sda3", "sda4", "sda5", "sda6", "sr0"]
    assert (found["sda"].vendor, found["sda"].model, found["sda"].pci_address) == (
        "DELL",
        "PERC H700",
        "0000:01:00.0",
    )
    assert (found["sda1"].parent, found["sda1"].mounts) == ("sda", ["/"])


def test_a_disk_is_known_by_wwid_and_serial_and_its_partitions_too(machine) -> None:
    page = b"\x00\x80\x00\x0cWD-WCC4N0001"
    machine.disk(
        ATA,
        8 * GIB,
        dev="8:0\n",
        device__wwid="naa.50014ee2\n",
        device__model="WDC WD40EFRX    \n",
        device__vendor="ATA     \n",
        device__vpd_pg80=page,
        queue__rotational="1\n",
    )
    machine.disk(f"{ATA}/sda1", GIB, dev="8:1\n", partition="1\n", ro="0\n")
    found = blocks(Tree(machine.root))
    disk, part = found["sda"], found["sda1"]
    assert (disk.wwid, disk.serial, disk.vendor, disk.model) == (
        "naa.50014ee2",
        "WD-WCC4N0001",
        "ATA",
        "WDC WD40EFRX",
    )
    assert (disk.size_bytes, disk.transport, disk.rotational) == (8 * GIB, "sata", True)
    assert [item.value for item in disk.identity] == ["naa.50014ee2", "WDC WD40EFRX:WD-WCC4N0001"]
    assert (part.parent, part.wwid, part.size_bytes) == ("sda", None, GIB)
    assert part.identity[0].value == "naa.50014ee2-part1"


def test_mounts_are_matched_by_number_by_source_and_by_mapper_name(machine) -> None:
    machine.disk(ATA, 8 * GIB, dev="8:0\n", holders__dm0="")
    machine.disk(f"{ATA}/sda1", GIB, dev="8:1\n", partition="1\n")
    machine.disk(f"{ATA}/sda2", GIB, dev="8:2\n", partition="2\n")
    machine.disk("virtual/block/dm-0", GIB, dev="253:0\n", dm__name="vg-swap\n")
    machine.write(
        "/proc/self/mountinfo",
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        "23 22 0:40 /@home /my\\040home rw - btrfs /dev/sda2 rw,subvol=/@home\n"
        "garbage\n",
    )
    machine.write("/proc/swaps", "Filename Type Size Used Priority\n/dev/mapper/vg-swap partition 1 0 -2\n")
    found = blocks(Tree(machine.root))
    assert found["sda1"].mounts == ["/"]
    assert found["sda2"].mounts == ["/my home"]
    assert found["dm-0"].mounts == ["[swap]"]
    assert found["sda"].holders == ["dm0"]


def test_a_mounted_partition_that_sysfs_lacks_counts_for_its_disk(machine) -> None:
    machine.disk(ATA, 8 * GIB)
    machine.write("/proc/mounts", "/dev/sda1 / ext3 rw 0 0\n")
    assert blocks(Tree(machine.root))["sda"].mounts == ["/"]


def test_empty_loop_and_ram_devices_are_left_out_and_used_ones_kept(machine) -> None:
    machine.disk("virtual/block/loop0", 0)
    machine.disk("virtual/block/loop1", GIB, loop__backing_file="/srv/image\n")
    machine.disk("virtual/block/loop2", GIB)
    machine.disk("virtual/block/ram0", 0)
    machine.disk("virtual/block/zram0", 0)
    machine.disk("virtual/block/md127", GIB)
    found = blocks(Tree(machine.root))
    assert list(found) == ["loop1", "md127"]
    assert found["loop1"].transport == "loop"


def test_a_multipath_nvme_disk_is_reached_through_all_its_controllers(machine) -> None:
    subsystem = "virtual/nvme-subsystem/nvme-subsys0"
    machine.disk(f"{subsystem}/nvme0n1", GIB, wwid="eui.0025385b\n")
    for number, address in enumerate(("0000:00:02.0", "0000:00:03.0")):
        machine.write(f"/sys/devices/pci0000:00/{address}/nvme/nvme{number}/serial", "S4EU")
        machine.link(
            f"/sys/devices/{subsystem}/nvme{number}", f"../../../pci0000:00/{address}/nvme/nvme{number}"
        )
    machine.disk("pci0000:00/0000:00:02.0/nvme/nvme0/nvme0c0n1", GIB, hidden="1\n")
    tree = Tree(machine.root)
    assert controllers_of(tree, "nvme0n1") == ["0000:00:02.0", "0000:00:03.0"]
    found = blocks(tree)
    assert list(found) == ["nvme0n1"]
    assert (found["nvme0n1"].transport, found["nvme0n1"].pci_address) == ("nvme", "0000:00:02.0")


@pytest.mark.parametrize(
    ("name", "path", "transport"),
    [
        ("nvme0n1", "/sys/devices/pci0000:00/0000:00:02.0/nvme/nvme0/nvme0n1", "nvme"),
        ("sda", f"/sys/devices/{ATA}", "sata"),
        ("sdb", "/sys/devices/pci0/0000:00:14.0/usb1/1-4/1-4:1.0/host6/target6:0:0/6:0:0:0/block/sdb", "usb"),
        ("sdc", "/sys/devices/platform/host7/session1/target7:0:0/7:0:0:0/block/sdc", "iscsi"),
        ("sdd", "/sys/devices/pci0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sdd", "sas"),
        ("sde", "/sys/devices/pci0/host1/rport-1:0-1/target1:0:0/1:0:0:0/block/sde", "fc"),
        ("vda", "/sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda", "virtio"),
        ("dm-3", "/sys/devices/virtual/block/dm-3", "dm"),
        ("xyz", "/sys/devices/xyz", "unknown"),
    ],
)
def test_the_transport_is_read_from_the_device_path(name: str, path: str, transport: str) -> None:
    assert transport_of(name, path) == transport


def test_a_broken_serial_page_is_no_serial() -> None:
    assert unit_serial(None) is None
    assert unit_serial(b"\x00\x80\x00") is None
    assert unit_serial(b"\x00\x80\x00\x04\xff\xfe\x01\x02") is None
    assert unit_serial(b"\x00\x80\xff\xffABC") == "ABC"


def test_both_mount_tables_are_understood() -> None:
    (first,) = parse_mountinfo(
        ["36 35 98:0 /r /mnt\\134x rw master:1 - nfs4 srv:/ex\\303\\251 rw,addr=192.0.2.7"]
    )
    assert (first.source, first.point, first.kind, first.number) == ("srv:/exé", "/mnt\\x", "nfs4", "98:0")
    (second,) = parse_mounts(["/dev/sda1 / ext3 rw 0 0", "broken"])
    assert (second.source, second.point, second.number) == ("/dev/sda1", "/", None)
