from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from kvmagent import record as recording
from kvmagent.inventory import take_inventory
from kvmagent.record import record, unpack

MAC = "3c:fd:fe:12:34:56"
SERIAL = "S4EUNX0N123456"


@pytest.fixture
def host(machine):
    """A machine with things that identify it."""
    nic = "pci0000:00/0000:00:02.0"
    config = bytearray(4096)
    config[0x100:0x10C] = (0x0003 | 1 << 16).to_bytes(4, "little") + bytes.fromhex("0102030405060708")
    machine.pci(nic, "8086:1572:8086:0001", "020000", config=bytes(config))
    machine.write(f"/sys/devices/{nic}/net/eth0/address", f"{MAC}\n")
    machine.write(f"/sys/devices/{nic}/net/eth0/addr_assign_type", "0\n")
    machine.link("/sys/class/net/eth0", f"../../devices/{nic}/net/eth0")
    machine.pci("pci0000:00/0000:00:03.0", "144d:a808:144d:a801", "010802")
    machine.write("/sys/devices/pci0000:00/0000:00:03.0/nvme/nvme0/serial", f"{SERIAL}\n")
    machine.disk(
        "pci0000:00/0000:00:03.0/nvme/nvme0/nvme0n1", 2**30, dev="259:0\n", wwid=f"nvme.144d-{SERIAL}\n"
    )
    machine.write("/proc/cmdline", "root=/dev/nvme0n1 intel_iommu=on password=hunter2\n")
    machine.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    machine.write("/etc/hostname", "payroll-db\n")
    machine.write(
        "/proc/self/mountinfo",
        "1 0 259:0 / / rw - ext4 /dev/nvme0n1 rw\n2 1 0:9 / /private rw - tmpfs tmpfs rw\n",
    )
    machine.write("/proc/self/net/if_inet6", "fe800000000000003efdfefffe123456 02 40 20 80     eth0\n")
    machine.link("/proc/net", "self/net")
    machine.write("/sys/class/iommu/dmar0")
    return machine


def text_of(file: Path) -> str:
    with tarfile.open(file) as archive:
        members = [member for member in archive if member.isreg()]
        parts = [archive.extractfile(member).read().decode("latin-1") for member in members]
        return "\n".join([*archive.getnames(), *parts])


def test_a_recording_with_identity_gives_the_same_inventory(host, tmp_path: Path) -> None:
    record(tmp_path / "host.tar.xz", host.root, keep_identity=True)
    unpack(tmp_path / "host.tar.xz", tmp_path / "copy")
    assert take_inventory(tmp_path / "copy") == take_inventory(host.root)


@pytest.mark.parametrize("name", ["four-socket-2013", "eight-accelerators", "virtio-guest"])
def test_a_recording_of_a_recording_is_the_same_machine(recorded, tmp_path: Path, name: str) -> None:
    size = record(tmp_path / "again.tar.xz", recorded(name), keep_identity=True)
    unpack(tmp_path / "again.tar.xz", tmp_path / "copy")
    assert take_inventory(tmp_path / "copy") == take_inventory(recorded(name))
    assert size < 50_000


def test_the_running_machine_can_be_recorded(tmp_path: Path) -> None:
    record(tmp_path / "here.tar.xz", "/", keep_identity=True)
    unpack(tmp_path / "here.tar.xz", tmp_path / "copy")
    here, copy = take_inventory("/"), take_inventory(tmp_path / "copy")
    assert copy.pci == here.pci
    assert copy.block == here.block
    assert copy.facts.distribution_name == here.facts.distribution_name


def test_what_identifies_the_machine_is_replaced(host, tmp_path: Path) -> None:
    file = tmp_path / "host.tar.xz"
    record(file, host.root)
    content = text_of(file)
    secrets = [MAC, SERIAL, "0123456789abcdef", "payroll-db", "hunter2", "/private", "fffe123456"]
    assert [secret for secret in secrets if secret in content] == []
    assert bytes.fromhex("0102030405060708").decode("latin-1") not in content
    assert "intel_iommu=on" in content


def test_stand_ins_keep_the_shape_of_what_they_replace(host, tmp_path: Path) -> None:
    record(tmp_path / "host.tar.xz", host.root)
    unpack(tmp_path / "host.tar.xz", tmp_path / "copy")
    here, copy = take_inventory(host.root), take_inventory(tmp_path / "copy")
    assert [[item.kind for item in function.identity] for function in copy.pci] == [
        ["serial", "mac", "path"],
        ["serial", "path"],
    ]
    assert copy.network[0].mac.startswith("3c:fd:fe:")
    assert copy.network[0].addresses[0].endswith("/64")
    eui = copy.network[0].mac.replace(":", "")[6:]
    assert copy.network[0].addresses[0].replace(":", "").removesuffix("/64").endswith(eui)
    assert len(copy.facts.machine_id) == 32
    assert copy.block[0].wwid.startswith("nvme.")
    assert copy.facts.iommu == here.facts.iommu
    assert [function.boot_critical for function in copy.pci] == [item.boot_critical for item in here.pci]


def test_equal_machines_get_equal_stand_ins(host, tmp_path: Path) -> None:
    record(tmp_path / "one.tar.xz", host.root)
    record(tmp_path / "two.tar.xz", host.root)
    assert (tmp_path / "one.tar.xz").read_bytes() == (tmp_path / "two.tar.xz").read_bytes()


def test_links_are_kept_as_links_and_what_they_lead_out_to_is_not_recorded(host, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    host.link("/sys/devices/pci0000:00/0000:00:02.0/driver_override", "../../../../../outside")
    host.link("/etc/os-release", str(tmp_path / "outside"))
    record(tmp_path / "host.tar.xz", host.root)
    with tarfile.open(tmp_path / "host.tar.xz") as archive:
        assert archive.getmember("sys/bus/pci/devices/0000:00:02.0").issym()
        assert archive.getmember("etc/os-release").issym()
        assert archive.getmember("sys/devices/pci0000:00/0000:00:02.0").isdir()
    assert "outside\n" not in text_of(tmp_path / "host.tar.xz").replace("/outside\n", "")


def test_a_machine_that_is_too_large_is_not_recorded(host, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recording, "TOTAL_LIMIT_BYTES", 1000)
    with pytest.raises(HardpointError, match="more than 1000 bytes"):
        record(tmp_path / "host.tar.xz", host.root)


def archive_of(file: Path, *members: tuple[str, bytes, str]) -> Path:
    with tarfile.open(file, "w:xz") as archive:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"evil"))
    return file


@pytest.mark.parametrize(
    "members",
    [
        [("/etc/evil", tarfile.REGTYPE, "")],
        [("../evil", tarfile.REGTYPE, "")],
        [("sys/../../evil", tarfile.REGTYPE, "")],
        [("evil", tarfile.CHRTYPE, "")],
        [("evil", tarfile.LNKTYPE, "/etc/passwd")],
        [("link", tarfile.SYMTYPE, ".."), ("link/evil", tarfile.REGTYPE, "")],
        [("link", tarfile.SYMTYPE, "../evil"), ("link", tarfile.REGTYPE, "")],
        [("link", tarfile.SYMTYPE, ".."), ("link/x/evil", tarfile.DIRTYPE, "")],
    ],
)
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, members: list) -> None:
    file = archive_of(tmp_path / "evil.tar.xz", *members)
    with pytest.raises(HardpointError) as caught:
        unpack(file, tmp_path / "a/copy")
    assert caught.value.remedy
    assert not list(tmp_path.rglob("**/evil"))


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recording, "UNPACKED_LIMIT_BYTES", 7)
    members = [(name, tarfile.REGTYPE, "") for name in ("a", "b")]
    with pytest.raises(HardpointError, match="larger than a recording may be"):
        unpack(archive_of(tmp_path / "big.tar.xz", *members), tmp_path / "copy")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!"])
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(HardpointError, match="file is no recording"):
        unpack(tmp_path / "file", tmp_path / "copy")


def test_a_truncated_recording_is_named(host, tmp_path: Path) -> None:
    file = tmp_path / "host.tar.xz"
    record(file, host.root)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(HardpointError, match="is no recording"):
        unpack(file, tmp_path / "copy")
