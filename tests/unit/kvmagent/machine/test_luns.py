from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmagent.machine.luns import Disk, ScsiDisk, disk_of, read_disk, read_maps, read_scsi_disks, wwid_of
from kvmagent.machine.tree import Tree

GIB = 2**30
WWID = "360014050000000111114222833344444"
ISCSI = "platform/host{host}/session{session}/target{host}:0:0/{host}:0:0:{lun}/block/{name}"


def lun(machine, name: str, *, host: int = 2, session: int = 1, lun: int = 0, state: str = "running") -> None:
    path = ISCSI.format(host=host, session=session, lun=lun, name=name)
    disk = f"sys/devices/{path}"
    number = f"8:{16 * (ord(name[-1]) - ord('a'))}"
    machine.disk(path, 4 * GIB, dev=f"{number}\n")
    device = disk.rpartition("/block/")[0]
    machine.link(f"{disk}/device", "../../../" + device.rpartition("/")[2])
    machine.write(f"{device}/wwid", f"naa.{WWID[1:]}\n")
    machine.write(f"{device}/vendor", "LIO-ORG \n")
    machine.write(f"{device}/model", "lun0            \n")
    machine.write(f"{device}/state", f"{state}\n")
    machine.write(f"{device}/vpd_pg80", b"\x00\x80\x00\x0400AB")
    by_path = f"ip-10.0.0.{host}:3260-iscsi-iqn.2026-01.org.example:san-lun-{lun}"
    machine.write(f"run/udev/data/b{number}", f"S:disk/by-id/scsi-{WWID}\nS:disk/by-path/{by_path}\nE:A=b\n")


def multipath(machine, *paths: str) -> None:
    machine.disk("virtual/block/dm-3", 4 * GIB, dev="254:3\n", dm__uuid=f"mpath-{WWID}\n", dm__name=WWID)
    for path in paths:
        machine.write(f"sys/devices/virtual/block/dm-3/slaves/{path}")
        machine.write(f"sys/class/block/{path}/holders/dm-3")


def test_a_lun_shows_what_it_is_and_where_it_comes_from(machine) -> None:
    lun(machine, "sdb")
    (disk,) = read_scsi_disks(Tree(machine.root))
    assert (disk.name, disk.hctl, disk.lun, disk.session) == ("sdb", "2:0:0:0", 0, 1)
    assert (disk.wwid, disk.wwn, disk.serial) == (WWID, "0x6001405000000011", WWID[1:])
    assert (disk.vendor, disk.model, disk.unit_serial) == ("LIO-ORG", "lun0", "00AB")
    assert (disk.size_bytes, disk.state, disk.map) == (4 * GIB, "running", None)
    assert disk.by_path == "ip-10.0.0.2:3260-iscsi-iqn.2026-01.org.example:san-lun-0"


def test_a_single_path_is_used_by_its_identifier(machine) -> None:
    lun(machine, "sdb")
    disk = read_disk(Tree(machine.root), WWID)
    assert disk is not None
    assert (disk.path, disk.multipath, disk.size_bytes) == (f"/dev/disk/by-id/scsi-{WWID}", False, 4 * GIB)


def test_two_paths_are_used_by_their_map(machine) -> None:
    lun(machine, "sdb")
    lun(machine, "sdc", host=3, session=2, state="transport-offline")
    multipath(machine, "sdb", "sdc")
    tree = Tree(machine.root)
    disk = read_disk(tree, WWID)
    assert disk is not None
    assert (disk.path, disk.name, disk.multipath) == (f"/dev/mapper/{WWID}", "dm-3", True)
    assert ([path.map for path in disk.paths], disk.usable_paths) == (["dm-3", "dm-3"], 1)
    assert [one.paths for one in read_maps(tree)] == [("sdb", "sdc")]


def test_a_map_without_paths_is_still_what_there_is(machine) -> None:
    multipath(machine)
    disk = read_disk(Tree(machine.root), WWID)
    assert disk is not None
    assert (disk.multipath, disk.paths) == (True, ())


def test_what_is_not_there_has_no_file(machine) -> None:
    assert read_disk(Tree(machine.root), WWID) is None


@pytest.mark.parametrize("name", ["eight-accelerators", "four-socket-2013", "q35-iommu-guest"])
def test_recorded_machines_have_no_maps(recorded, name: str) -> None:
    tree = Tree(recorded(name))
    assert read_maps(tree) == []
    assert all(disk.session is None for disk in read_scsi_disks(tree))


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("naa.6001405000000011", "36001405000000011"),
        ("eui.0025385b71b00001", "20025385b71b00001"),
        ("t10.ATA     QEMU HARDDISK   QM1", "1ATA_QEMU_HARDDISK_QM1"),
        ("nvme.1b36-11", "nvme.1b36-11"),
        (None, None),
    ],
)
def test_wwids_are_written_as_multipath_does(said: str | None, written: str | None) -> None:
    assert wwid_of(said) == written


@given(st.permutations(["sdb", "sdc", "sdd"]))
def test_which_file_is_used_does_not_depend_on_the_order_of_disks(names: list[str]) -> None:
    made = [_path(name) for name in names]
    found = disk_of(WWID, made, [])
    assert isinstance(found, Disk)
    assert found.path == f"/dev/disk/by-id/scsi-{WWID}"


def _path(name: str) -> ScsiDisk:
    return ScsiDisk(name, "2:0:0:0", 0, WWID, None, "", "", None, None, GIB, "running", 1, None, None)
