"""A VM of a real libvirtd with its disk on a real Ceph cluster, opened by a key that the host was given."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from agentkit.errors import HardpointError
from agentkit.runner import ProcessRunner
from cephagent.parsing import capabilities
from kvmagent.ceph.backend import CephBackend
from kvmagent.protocol_ceph import CephCluster, CephMon, RbdDisk
from kvmagent.protocol_storage import InitStorage, StorageKind, StorageSpec
from kvmagent.protocol_vms import DiskFormat, VmDisk, VmDomain
from kvmagent.vms.domain_xml import Machine, dashed
from kvmagent.vms.keeper import LibvirtVms
from kvmagent.vms.libvirt import Libvirt
from kvmagent.vms.rbd_keys import RbdKeys
from tests.ceph.cluster import MIB, Cluster
from tests.ceph.test_host_images import new_uuid
from tests.helpers import wait_until
from tests.libvirtd import IDLE, POWER_OFF, Libvirtd, boot_sector, libvirtd, one_libvirtd

__all__ = ["libvirtd", "one_libvirtd"]


@dataclass
class Host:
    """A host with a Ceph storage, and VMs."""

    vms: LibvirtVms
    keys: RbdKeys
    ceph: CephBackend
    storage: StorageSpec
    pool: str

    def disk(self, image: str, place: int) -> VmDisk:
        assert self.storage.ceph is not None
        rbd = RbdDisk(
            storage_uuid=self.storage.uuid, mons=self.storage.ceph.mons, user=self.storage.ceph.user
        )
        path = f"{self.pool}/{image}"
        return VmDisk(volume_uuid=image, path=path, format=DiskFormat.RAW, device_id=place, rbd=rbd)


@pytest.fixture
async def host(
    cluster: Cluster,
    make_pool: Callable[[], str],
    libvirtd: Libvirtd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Host]:
    if not list(Path("/usr/lib").glob("*/qemu/block-rbd.so")):
        pytest.skip("QEMU cannot open RBD images here (scripts/bootstrap ceph)")
    monkeypatch.setenv("PATH", cluster.programs.path())
    pool, user = make_pool(), f"hosts-{new_uuid()}"
    given = cluster.ceph("auth", "get-or-create", f"client.{user}", *capabilities([pool], []))
    spec = CephCluster(
        fsid=cluster.fsid,
        mons=[CephMon(address=mon.address, port=mon.port + 1) for mon in cluster.monitors],
        user=user,
        root_pool=pool,
        data_pool=pool,
        cache_pool=pool,
    )
    storage = StorageSpec(uuid=new_uuid(), kind=StorageKind.CEPH, url="not used", ceph=spec)
    ceph = CephBackend(ProcessRunner(), tmp_path / "ceph")
    await ceph.open(InitStorage(storage=storage, first=True, key=given[0]["key"]), known=False)
    libvirt = Libvirt(libvirtd.uri, lambda _: None)
    vms = LibvirtVms(libvirt, lambda: Machine(kvm=False, console_address="127.0.0.1"))
    keys = RbdKeys(libvirt, ceph.key)
    ceph.forget = keys.forget
    yield Host(vms, keys, ceph, storage, pool)
    cluster.ceph("auth", "rm", f"client.{user}")


def put(cluster: Cluster, pool: str, folder: Path, code: bytes) -> str:
    """Make an image with a boot sector; return its name."""
    image = new_uuid()
    file = folder / image
    file.write_bytes(boot_sector(code).ljust(MIB, b"\0"))
    cluster.run("rbd", "import", "--no-progress", str(file), f"{pool}/{image}")
    return image


def domain(*disks: VmDisk) -> VmDomain:
    return VmDomain(
        uuid=new_uuid(),
        name="on Ceph",
        cpus=1,
        memory_bytes=32 * MIB,
        disks=list(disks),
        nics=[],
        console_password="secret12",
    )


async def test_a_vm_boots_from_an_rbd_image_and_its_key_goes_with_the_storage(
    host: Host, cluster: Cluster, libvirtd: Libvirtd, tmp_path: Path
) -> None:
    booted = domain(host.disk(put(cluster, host.pool, tmp_path, POWER_OFF), 0))
    with pytest.raises(HardpointError, match="was not started"):  # libvirt knows no key yet
        await host.vms.start(booted)
    for _ in range(2):
        await host.keys.give(booted.disks)
    assert libvirtd.virsh("secret-list").stdout.split()[:1] == [dashed(host.storage.uuid)]
    try:
        await host.vms.start(booted)
    except HardpointError as error:
        assert "has ended at once" in error.details  # noqa: PT017 - it may be that fast
    gone = asyncio.to_thread(wait_until, lambda: not libvirtd.processes(), "the guest to power off", 60)
    await gone

    vm = domain(host.disk(put(cluster, host.pool, tmp_path, IDLE), 0))
    more = host.disk(put(cluster, host.pool, tmp_path, b""), 1)
    await host.vms.start(vm)
    assert (await host.vms.attach(vm.uuid, more)).disks == sorted([vm.disks[0].volume_uuid, more.volume_uuid])
    (pid,) = libvirtd.processes()
    key = await host.ceph.key(host.storage.uuid, host.storage.ceph.user)
    assert key not in Path(f"/proc/{pid}/cmdline").read_text()
    assert key not in (await host.vms.xml(vm.uuid) or "")
    assert [
        row["address"] != ""
        for row in cluster.rbd("status", f"{host.pool}/{more.path.split('/')[1]}")["watchers"]
    ]
    await host.vms.stop(vm.uuid, 0)
    for _ in range(2):
        await host.ceph.close(host.storage)
    assert libvirtd.virsh("secret-list").stdout.strip() == ""
    with pytest.raises(HardpointError, match="has no key"):
        await host.keys.give([msgspec.structs.replace(more)])
    assert os.listdir(tmp_path / "ceph") == []  # noqa: PTH208
