"""What LVM, sanlock and lsblk say, as data; texts as those programs print them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import HardpointError
from kvmagent.protocol_shared_block import SharedBlockGroup, bare_wwid
from kvmagent.shared_block.candidates import Surroundings, contents, readable_disks, shared_disks
from kvmagent.shared_block.config import by_id, check_wwid, lvm_conf, lvmlockd_drop_in, sanlock_drop_in
from kvmagent.shared_block.reports import (
    Group,
    PhysicalVolume,
    groups,
    leader_owner,
    peers,
    sanlock_status,
)

STATUS = """daemon 5c1c.kvm1
    our_host_name=5c1c.kvm1
p -1 helper
p 812 lvmlockd
    flags=0
s lvm_g1:2:/dev/mapper/g1-lvmlock:0
    list=spaces
    space_id=1
    io_timeout=10
    space_dead=0
    killing_pids=0
    acquire_last_success=90
    renewal_last_success=120
s lvm_g2:3:/dev/mapper/g2-lvmlock:0 ADD
    list=add
r lvm_g1:VGLK:/dev/mapper/g1-lvmlock:67108864:4 p 812
"""
HOSTS = """1 timestamp 5
    last_check=100
    last_live=90
    io_timeout=10
    owner_id=1
    owner_generation=2
    owner_name=aaaa.kvm1
2 timestamp 0
"""
LEADER = """magic 0x6152010
version 0x20001
lver 3
space_name lvm_g1
resource_name lv
owner_id 2
owner_generation 1
timestamp 500
"""
WWID = "6001405000000011111422283334444ab"[:32]


def test_sanlock_says_which_lockspaces_it_has() -> None:
    spaces = sanlock_status(STATUS).lockspaces
    assert set(spaces) == {"lvm_g1", "lvm_g2"}
    assert (spaces["lvm_g1"].host_id, spaces["lvm_g1"].renewed_at, spaces["lvm_g1"].adding) == (2, 120, False)
    assert spaces["lvm_g2"].adding


def test_sanlock_says_which_hosts_there_are_and_who_has_a_lease() -> None:
    found = peers(HOSTS)
    assert (found[1].owner, found[1].last_live, found[2].last_live) == ("aaaa.kvm1", 90, 0)
    assert leader_owner(LEADER) == (2, 1)
    assert leader_owner(LEADER.replace("timestamp 500", "timestamp 0")) is None
    assert leader_owner("") is None


@given(st.text())
def test_no_text_of_sanlock_is_a_fault(text: str) -> None:
    sanlock_status(text)
    peers(text)
    leader_owner(text)


def test_lvm_reports_groups_and_what_it_does_not_is_refused() -> None:
    rows = [{"vg_name": "g", "vg_size": "4194304", "vg_free": "0", "vg_tags": "a,b"}]
    text = json.dumps({"report": [{"vg": rows}]}).encode()
    assert groups(text) == [Group("g", 4194304, 0, "", ["a", "b"])]
    for bad in (b"", b"[]", b"{}", b'{"report": 1}'):
        with pytest.raises(HardpointError, match="LVM reports"):
            groups(bad)


@pytest.mark.parametrize(
    "wwid",
    [f"3{WWID}", f"wwn-0x{WWID}", f"0x{WWID}", f"naa.{WWID}", f"scsi-3{WWID}", f"dm-uuid-mpath-3{WWID}"],
)
def test_all_spellings_of_a_wwid_are_one_disk(wwid: str) -> None:
    assert bare_wwid(wwid) == WWID
    assert {f"wwn-0x{WWID}", f"dm-uuid-mpath-3{WWID}"} <= set(by_id(wwid))


@pytest.mark.parametrize("wwid", ["", "a/b", "../sda", "a b", 'a"b'])
def test_a_wwid_leads_out_of_no_folder(wwid: str) -> None:
    with pytest.raises(HardpointError):
        check_wwid(wwid)


def test_lvm_sees_the_luns_of_the_group_only() -> None:
    text = lvm_conf(["/dev/disk/by-id/wwn-0x6001+405"])
    assert '[ "a|^/dev/disk/by-id/wwn-0x6001.405$|", "r|.*|" ]' in text
    assert '[ "r|.*|" ]' in lvm_conf([])


def test_the_watchdog_is_on_unless_it_is_switched_off() -> None:
    group = SharedBlockGroup(disks=[], host_id=1, io_timeout_s=20)
    assert "sanlock daemon -w 1" in sanlock_drop_in(group)
    assert "--adopt 1 --sanlock-timeout 20" in lvmlockd_drop_in(group)
    off = SharedBlockGroup(disks=[], host_id=1, watchdog=False)
    assert "sanlock daemon -w 0" in sanlock_drop_in(off)


def disk(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "path": f"/dev/{name}", "size": 1024, "type": "disk", "wwn": f"0x{name}", **more}


def test_each_disk_that_is_no_candidate_says_why() -> None:
    part = {"name": "sdb1", "path": "/dev/sdb1", "type": "part", "mountpoint": "/"}
    path = {"name": "mpatha", "path": "/dev/mapper/mpatha", "size": 2048, "type": "mpath"}
    tree = [
        disk("sda"),
        disk("sdb", children=[part]),
        disk("sdc", fstype="xfs"),
        disk("sdd", fstype="mpath_member", children=[path]),
        disk("sde", fstype="mpath_member", children=[path]),
        disk("sdf", fstype="LVM2_member"),
        disk("sdg", fstype="LVM2_member"),
        disk("sdh", fstype="LVM2_member"),
        disk("sdi", pttype="gpt"),
        disk("sdj", rm=True),
        disk("sdk", wwn=None),
        {**disk("sr0"), "type": "rom"},
    ]
    around = Surroundings(
        [PhysicalVolume("/dev/sdf", "theirs", 1, 1), PhysicalVolume("/dev/sdg", "ours", 1, 1)],
        [Group("theirs", 1, 1, "", []), Group("ours", 1, 1, "sanlock", ["hardpoint:group"])],
        {"dm-uuid-mpath-36001": "/dev/mapper/mpatha"},
    )
    found = {d.path: d for d in shared_disks(json.dumps({"blockdevices": tree}).encode(), around)}
    reasons = {path.removeprefix("/dev/"): d.reason for path, d in found.items()}
    assert (reasons["sda"], reasons["mapper/mpatha"]) == (None, None)
    assert found["/dev/mapper/mpatha"].wwid == "36001"
    assert "in use: /" in str(reasons["sdb"])
    assert reasons["sdc"] == "it holds xfs"
    assert "none of Hardpoint's" in str(reasons["sdf"])
    assert "what is left of" in str(reasons["sdg"])
    assert reasons["sdi"] == "it has partitions (gpt)"
    assert reasons["sdj"] == "it is removable"
    assert "no WWID" in str(reasons["sdk"])
    assert "sr0" not in reasons
    assert {path for path, d in found.items() if d.wipeable} == {"/dev/sdg", "/dev/sdh"}


def test_what_is_read_from_a_disk_counts_and_not_what_udev_knew_of_it() -> None:
    names = ("sda", "sdb", "sdc", "sdd")
    tree = [disk("sda", fstype="xfs"), *(disk(name) for name in names[1:]), disk("sde", size=0)]
    lsblk = json.dumps({"blockdevices": tree}).encode()
    assert readable_disks(lsblk) == [f"/dev/{name}" for name in names]
    told = {"signatures": [{"device": "sdb", "offset": "0x438", "type": "ext4", "uuid": None}]}
    read = {
        **contents(json.dumps(told).encode(), ["/dev/sda", "/dev/sdb"]),
        "/dev/sdc": ["PMBR", "gpt"],
        "/dev/sdd": None,
    }
    found = {d.path: d.reason for d in shared_disks(lsblk, Surroundings(contents=read))}
    assert found == {
        "/dev/sda": None,
        "/dev/sdb": "it holds ext4",
        "/dev/sdc": "it has partitions (PMBR)",
        "/dev/sdd": "it cannot be read",
        "/dev/sde": "it has no medium",
    }
    assert contents(b"", ["/dev/mapper/a"]) == {"/dev/mapper/a": []}
    with pytest.raises(HardpointError, match="not known"):
        contents(b"sdb 0x438 ext4", ["/dev/sdb"])
