"""Images into a Ceph pool beside `qemu-img convert`, and clones of them beside plain `rbd clone` (root)."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from bench.common import Table, load_note, median, scratch
from bench.images import HEADS, make_disk, row, timed
from tests.ceph.cluster import MIB, Cluster
from tests.ceph.programs import programs
from tests.integration.hosts.conftest import make_machine
from tests.node import Node, Rest

SIZE_MB = 1024
NETWORK = 79
HOST = "127.0.4.1"
DATA = {"mediaType": "DataVolumeTemplate"}
ROUNDS = 5


def table(megabytes: int = SIZE_MB) -> Table:
    """Import an image by AddImage, raw and qcow2; have the same bytes brought to the same pool plainly."""
    before = os.getloadavg()[0]
    result = Table(f"an image of {megabytes} MB into a Ceph pool", HEADS)
    with scratch() as directory:
        size = max(10 * 1024, 8 * megabytes) * MIB
        cluster = Cluster(directory / "ceph", programs(), osd_bytes=size, network=NETWORK)
        environment = {
            "HARDPOINT_LOCAL_AGENT_CEPH": str(cluster.configuration),
            "HARDPOINT_LOCAL_AGENT_ROOT": str(directory / "machine"),
            "PATH": cluster.programs.path(),
        }
        make_machine(directory / "machine")
        node = Node(directory / "state", environment)
        try:
            cluster.start()
            node.start()
            _measure(result, cluster, node, directory, megabytes)
        finally:
            if node.url:
                node.stop()
            cluster.stop()
    result.notes = [
        "one OSD on a sparse file, one copy of each object, everything on this machine",
        "AddImage makes the SHA-256 of the content, a protected snapshot and a description; floors make none",
        "a volume of the image is a clone of the cached one; the first has that cloned from the image",
        "of a qcow2 image AddImage brings the file to the cluster, converts it there, and reads the result",
        load_note(before),
    ]
    return result


def _measure(result: Table, cluster: Cluster, node: Node, directory: Path, megabytes: int) -> None:
    admin, pool = node.rest().logged_in(), cluster.make_pool("bench")
    (monitor,) = cluster.monitors
    urls = [f"root:unused@{monitor.address}/?monPort={monitor.port + 1}"]
    store = admin.create("/backup-storage/ceph", name="ceph", monUrls=urls, poolName=pool)["uuid"]
    storage = _add_storage(admin, urls, store)
    raw = directory / "disk.raw"
    make_disk(raw, megabytes)
    for disk_format in ("raw", "qcow2"):
        file = raw.with_suffix(f".{disk_format}")
        if disk_format != "raw":
            _run(["qemu-img", "convert", "-O", disk_format, str(raw), str(file)])
        target = f"rbd:{pool}/{disk_format}:conf={cluster.configuration}:id=admin"
        argv = ["convert", "-f", disk_format, "-O", "raw", str(file), target]
        floor = timed(lambda argv=argv: cluster.run("qemu-img", *argv, timeout_s=3600))
        wanted = {"name": disk_format, "url": f"file://{file}", "format": disk_format, **DATA}
        took = timed(lambda wanted=wanted: admin.create("/images", backupStorageUuids=[store], **wanted))
        row(result, f"floor: qemu-img convert from {disk_format}", floor, megabytes, floor)
        row(result, f"AddImage from a {disk_format} file", took, megabytes, floor)
    (image,) = admin.query("/images", "name=raw")
    _clones(result, cluster, admin, f"pri-c-{storage}/{image['uuid']}@{image['uuid']}", storage)


def _add_storage(admin: Rest, urls: list[str], store: str) -> str:
    """Add a host with a Ceph storage; return the storage's uuid."""
    kept = {"updateGlobalConfig": {"value": "0"}}
    admin.run("PUT", "/global-configurations/primaryStorage/reservedCapacity/actions", kept)
    zone = admin.create("/zones", name="zone")["uuid"]
    cluster = admin.create("/clusters", name="c", zoneUuid=zone, hypervisorType="KVM")["uuid"]
    login = {"managementIp": HOST, "username": "root", "password": "unused"}
    admin.create("/hosts/kvm", name="h", clusterUuid=cluster, **login)
    storage = str(admin.create("/primary-storage/ceph", name="p", monUrls=urls, zoneUuid=zone)["uuid"])
    for path in (f"/clusters/{cluster}/primary-storage/{storage}", f"/zones/{zone}/backup-storage/{store}"):
        answer = admin.run("POST", path, {})
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer}")
    return storage


def _clones(result: Table, cluster: Cluster, admin: Rest, cached: str, storage: str) -> None:
    """Say how long a volume of an imported image takes, and a plain clone of the cached image."""
    path = f"/volumes/data/from/data-volume-templates/{cached.rpartition('@')[2]}"

    took: list[float] = []
    for _ in range(ROUNDS + 1):
        begin = time.monotonic()
        volume = admin.create(path, name="v", primaryStorageUuid=storage)["uuid"]
        took.append(time.monotonic() - begin)
        admin.run("DELETE", f"/volumes/{volume}", None)  # its room is needed
        admin.run("PUT", f"/volumes/{volume}/actions", {"expungeDataVolume": {}})
    first, ours = took[0], median(took[1:])
    plain = [f"{cached.partition('/')[0]}/plain-{number}" for number in range(ROUNDS)]
    floor = median(timed(lambda name=name: cluster.run("rbd", "clone", cached, name)) for name in plain)
    result.rows.append(["floor: rbd clone of the cached image", f"{floor:.2f}", "-", "1.00"])
    result.rows.append(["a volume of the image, the first", f"{first:.2f}", "-", f"{first / floor:.2f}"])
    result.rows.append(["a volume of the image, later ones", f"{ours:.2f}", "-", f"{ours / floor:.2f}"])


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True)
