"""What brings an image into the cache of a storage."""

import msgspec

from kvmagent.protocol_ceph import CephCluster
from kvmagent.protocol_storage import CreateDisk, FetchFile, StorageKind, StorageSpec
from mn.facilities.ceph.clusters import ClusterPool
from mn.facilities.primary_storage.image_cache import ImageToCache, command_for, origin_of

IMAGE = ImageToCache("a" * 32, "https://store/image", "0", 5, 10, "qcow2")
CEPH = StorageSpec(
    uuid="s",
    kind=StorageKind.CEPH,
    url="",
    ceph=CephCluster(fsid="f", mons=[], user="u", root_pool="r", data_pool="d", cache_pool="c"),
)


def test_an_image_of_the_same_cluster_is_cloned() -> None:
    here = msgspec.structs.replace(IMAGE, origins=[ClusterPool("g", "other"), ClusterPool("f", "images")])
    assert origin_of(here, CEPH) == "images"
    command = command_for(CEPH, "p.raw", "raw", here, "images")
    assert isinstance(command, CreateDisk)
    assert (command.backing, command.backing_format, command.size) == (
        f"backups/images/{'a' * 32}",
        "raw",
        None,
    )


def test_any_other_image_is_fetched() -> None:
    elsewhere = msgspec.structs.replace(IMAGE, origins=[ClusterPool("g", "other")])
    assert origin_of(elsewhere, CEPH) is None
    assert origin_of(elsewhere, StorageSpec(uuid="s", kind=StorageKind.LOCAL, url="/p")) is None
    command = command_for(CEPH, "p.raw", "raw", elsewhere, None)
    assert isinstance(command, FetchFile)
    assert (command.format, command.source_format) == ("raw", "qcow2")
