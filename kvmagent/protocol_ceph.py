"""What hosts are told of Ceph storages, and how images are called there; `mn` imports this module as well."""

from __future__ import annotations

import re

import msgspec

from agentkit.wire import Wire

RAW = "raw"
SOURCE = ".source"
"""What an image is converted from has the image's name with this behind it."""
_SUFFIX = r"(?P<suffix>(?:\.source)?(?:\.partial)?)"
_UUID = r"[0-9a-f]{32}"
_VOLUME = re.compile(
    rf"(?:pools/(?P<pool>[^/]+)/)?(?P<kind>rootVolumes|dataVolumes)/vol-(?P<folder>{_UUID})"
    rf"(?:/(?:snapshots/)?(?P<image>{_UUID})\.raw{_SUFFIX})?"
)
_CACHED = re.compile(rf"imagecache/template/(?P<folder>{_UUID})(?:/(?P<image>{_UUID})\.raw{_SUFFIX})?")
_BACKUP = re.compile(rf"backups/(?P<pool>[A-Za-z0-9_.+-]+)/(?P<image>{_UUID})")
OWN_IMAGE = re.compile(rf"{_UUID}(?:\.{_UUID})?(?:\.source)?(?:\.partial)?")
"""Names of images that this module gives."""


class CephMon(Wire):
    """Where a monitor listens."""

    address: str
    port: int

    @property
    def where(self) -> str:
        """Return it as `mon_host` takes it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class CephCluster(Wire):
    """A Ceph storage: its cluster, the client that hosts are there, and its pools.

    New volumes are in `root_pool` and `data_pool` unless their path names another one of `more_pools`.
    """

    fsid: str
    mons: list[CephMon]
    user: str
    root_pool: str
    data_pool: str
    cache_pool: str
    more_pools: list[str] = msgspec.field(default_factory=list)

    @property
    def pools(self) -> list[str]:
        """Return all pools, each once."""
        return list(dict.fromkeys([self.root_pool, self.data_pool, self.cache_pool, *self.more_pools]))


class RbdPlace(Wire):
    """An RBD image; with `is_folder` also those whose names go on with a dot."""

    pool: str
    image: str
    is_folder: bool = False

    @property
    def named(self) -> str:
        """Return it as `rbd` takes it."""
        return f"{self.pool}/{self.image}"

    def has(self, image: str) -> bool:
        """Say whether an image of the pool is meant."""
        return image == self.image or (self.is_folder and image.startswith(f"{self.image}."))


class RbdDisk(Wire):
    """A disk of a VM that is an RBD image; its key is the one that the host has of the storage."""

    storage_uuid: str
    mons: list[CephMon]
    user: str


def rbd_place(cluster: CephCluster, name: str) -> RbdPlace | None:
    """Return where an image, or a folder of images, is in a cluster; None for a name that none can have.

    `rootVolumes/vol-<volume>/<volume>.raw` is the image `<volume>`, what else is in its folder is
    `<volume>.<uuid>`; with `pools/<pool>/` in front it is in that pool. An image of the cache has its uuid's
    name.
    """
    found = _VOLUME.fullmatch(name) or _CACHED.fullmatch(name)
    if found is None:
        return None
    pool = _pool(cluster, found.groupdict())
    if pool is None:
        return None
    folder, image = found["folder"], found["image"]
    if image is None:
        return RbdPlace(pool, folder, is_folder=True)
    return RbdPlace(pool, (folder if image == folder else f"{folder}.{image}") + found["suffix"])


def backup_name(pool: str, image_uuid: str) -> str:
    """Return what an image of a backup storage in the same cluster is called as one that others stand on."""
    return f"backups/{pool}/{image_uuid}"


def backup_place(name: str) -> RbdPlace | None:
    """Return where the image of such a name is, None for any other name.

    Its snapshot of its own name is what clones are made of; the image is read only.
    """
    found = _BACKUP.fullmatch(name)
    return None if found is None else RbdPlace(found["pool"], found["image"])


def in_pool(path: str, pool: str | None) -> str:
    """Return the path of an image that is to be in a pool, None: in the one that it gets into by itself."""
    return path if pool is None else f"pools/{pool}/{path}"


def _pool(cluster: CephCluster, parts: dict[str, str | None]) -> str | None:
    named, kind = parts.get("pool"), parts.get("kind")
    if named is not None:
        return named if named in cluster.pools else None
    return {"rootVolumes": cluster.root_pool, "dataVolumes": cluster.data_pool}.get(
        kind or "", cluster.cache_pool
    )
