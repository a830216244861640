"""A VM whose disk's storage is full, under a real libvirtd: it waits, and goes on when there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from kvmagent.protocol_vms import VmDomain, VmState
from kvmagent.shared_block.vms_on import vms_on
from kvmagent.vms.domain_xml import Machine
from kvmagent.vms.keeper import LibvirtVms
from kvmagent.vms.libvirt import Libvirt
from tests.helpers import wait_until
from tests.libvirtd import Libvirtd, boot_sector, libvirtd, one_libvirtd, small_domain

__all__ = ["libvirtd", "one_libvirtd"]

WRITE_ALL = (
    bytes.fromhex("31c08ed8be407cb80043b280cd13668106487c40000000ebee").ljust(0x40, b"\0")
    + bytes.fromhex("1000400000000010")
    + (64).to_bytes(8, "little")
)
"""Write 32 KiB by the BIOS, then the next, without end; the request is what follows the code."""
SIZE = 64 * 2**20
WAIT_S = 60


def enter(daemon: Libvirtd, *argv: str) -> None:
    """Run a command among the mounts that VMs see."""
    assert daemon.process is not None
    subprocess.run(["nsenter", "-t", str(daemon.process.pid), "--mount", *argv], check=True)


@pytest.fixture
def domain(tmp_path: Path, libvirtd: Libvirtd) -> VmDomain:
    """A VM that writes to a sparse disk on a file system which holds a sixteenth of it."""
    wanted = msgspec.convert(small_domain(tmp_path, WRITE_ALL), VmDomain)
    path = Path(wanted.disks[0].path)
    enter(libvirtd, "mount", "-t", "tmpfs", "-o", f"size={SIZE // 16}", "none", str(tmp_path))
    assert libvirtd.process is not None
    inside = Path(f"/proc/{libvirtd.process.pid}/root{path}")
    inside.write_bytes(boot_sector(WRITE_ALL))
    os.truncate(inside, SIZE)
    return wanted


async def test_a_vm_stops_at_a_full_disk_and_goes_on_when_there_is_room(
    libvirtd: Libvirtd, domain: VmDomain, tmp_path: Path
) -> None:
    vms = LibvirtVms(Libvirt(libvirtd.uri, lambda _: None), lambda: Machine(False, "127.0.0.1"))
    await vms.start(domain)
    assert await vms_on(vms, str(tmp_path)) == {}, "it is a file"

    def reason() -> str:
        return libvirtd.virsh("domstate", "--reason", domain.uuid).stdout.strip()

    await asyncio.to_thread(wait_until, lambda: reason() == "paused (I/O error)", "the VM to stop", WAIT_S)
    seen = await vms.get(domain.uuid)
    assert seen is not None
    assert seen.state is VmState.PAUSED
    enter(libvirtd, "mount", "-o", f"remount,size={2 * SIZE}", str(tmp_path))
    assert await vms.go_on(domain.uuid) is True
    disk = Path(f"/proc/{libvirtd.processes()[0]}/root{domain.disks[0].path}")
    await asyncio.to_thread(
        wait_until, lambda: disk.stat().st_blocks * 512 > SIZE // 2, "the VM to write on", WAIT_S
    )
    assert reason() == "running (unpaused)"
    libvirtd.virsh("suspend", domain.uuid)
    assert await vms.go_on(domain.uuid) is False, "an operator has paused it"
    assert await vms.go_on("0" * 32) is False, "there is no such VM"
