"""Images into a Ceph pool beside `qemu-img convert`, and clones of them beside plain `rbd clone` (root)."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from bench.common import Table, load_note, scratch
from bench.images import HEADS, make_disk, row, timed
from tests.ceph.cluster import MIB, Cluster
from tests.ceph.programs import programs
from tests.node import Node

SIZE_MB = 1024
NETWORK = 79
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
            "PATH": cluster.programs.path(),
        }
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
        "of a qcow2 image AddImage brings the file to the cluster, converts it there, and reads the result",
        load_note(before),
    ]
    return result


def _measure(result: Table, cluster: Cluster, node: Node, directory: Path, megabytes: int) -> None:
    admin, pool = node.rest().logged_in(), cluster.make_pool("bench")
    (monitor,) = cluster.monitors
    url = f"root:unused@{monitor.address}/?monPort={monitor.port + 1}"
    store = admin.create("/backup-storage/ceph", name="ceph", monUrls=[url], poolName=pool)["uuid"]
    raw = directory / "disk.raw"
    make_disk(raw, megabytes)
    for disk_format in ("raw", "qcow2"):
        file = raw.with_suffix(f".{disk_format}")
        if disk_format != "raw":
            _run(["qemu-img", "convert", "-O", disk_format, str(raw), str(file)])
        target = f"rbd:{pool}/{disk_format}:conf={cluster.configuration}:id=admin"
        argv = ["convert", "-f", disk_format, "-O", "raw", str(file), target]
        floor = timed(lambda argv=argv: cluster.run("qemu-img", *argv, timeout_s=3600))
        wanted = {"name": disk_format, "url": f"file://{file}", "format": disk_format}
        took = timed(lambda wanted=wanted: admin.create("/images", backupStorageUuids=[store], **wanted))
        row(result, f"floor: qemu-img convert from {disk_format}", floor, megabytes, floor)
        row(result, f"AddImage from a {disk_format} file", took, megabytes, floor)
    _clones(result, cluster, pool, admin.query("/images", "name=raw")[0]["uuid"])


def _clones(result: Table, cluster: Cluster, pool: str, image: str) -> None:
    """Say how long a clone of an imported image takes, whatever is in it."""
    begin = time.monotonic()
    for number in range(ROUNDS):
        cluster.run("rbd", "clone", f"{pool}/{image}@{image}", f"{pool}/clone-{number}")
    took = (time.monotonic() - begin) / ROUNDS
    result.rows.append(["rbd clone of the image", f"{took:.2f}", "-", "-"])


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True)
