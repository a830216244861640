"""NFS storage (manual 4.4.16): an export that the agents mount on every host."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Literal

from sqlalchemy import Connection, select

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol_storage import StorageKind
from mn.facilities.primary_storage.adding import AddPrimaryStorage
from mn.facilities.primary_storage.driver import Driver, bad_url, check_directory, register_driver
from mn.facilities.primary_storage.tables import NFS, PRIMARY_STORAGE, primary_storage_table
from mn.facilities.tags.rules import register, tag_value
from mn.rest.types import HostAddress

MOUNT_BASE = "/opt/zstack/nfsprimarystorage"
OPTIONS_TAG = "nfs::mountOptions::{options}"
_OPTIONS = re.compile(r"[a-z0-9_]+(=[A-Za-z0-9_.:/-]+)?(,[a-z0-9_]+(=[A-Za-z0-9_.:/-]+)?)*")


def check_mount_options(value: str) -> None:
    """Take mount options with commas; which of them the agent refuses is said when it mounts."""
    if not _OPTIONS.fullmatch(value):
        raise ValueError(f"'{value}' are no mount options such as vers=4.2,timeo=600")


register("PrimaryStorage", OPTIONS_TAG, "options that an NFS export is mounted with", check_mount_options)


class NfsDriver(Driver):
    """An export that is mounted by the agents."""

    kind = StorageKind.NFS

    def check_url(self, url: str) -> None:
        """Refuse what is no export."""
        host, separator, path = url.rpartition(":/")
        if not separator or not host or (":" in host and not host.startswith("[")):
            raise bad_url(url, "it is not of the form host:/path")
        try:
            HostAddress.parse(host)
        except ValueError:
            raise bad_url(url, f"'{host}' is neither an address nor a host name") from None
        if path.strip("/"):
            check_directory(f"/{path}")

    def check_unique(self, connection: Connection, uuid: str, url: str, zone_uuid: str) -> None:
        """Refuse an export that another storage of the zone has."""
        table = primary_storage_table
        others = (table.c.type == NFS) & (table.c.zone_uuid == zone_uuid) & (table.c.uuid != uuid)
        for row in connection.execute(select(table.c.uuid, table.c.name, table.c.url).where(others)):
            if same_export(row.url, url):
                raise HardpointError(
                    "SYS.1007",
                    "Invalid argument",
                    f"parameter 'url' is '{url}', which primary storage {row.name} ({row.uuid}) has already",
                    remedy="attach that one, or export another directory",
                    blame=Blame.CALLER,
                )

    def mount_path(self, uuid: str, url: str) -> str:
        """Return where the agents mount it."""
        return f"{MOUNT_BASE}/prim-{uuid}"

    def options(self, connection: Connection, uuid: str) -> str:
        """Return the options of its system tag."""
        return tag_value(connection, "PrimaryStorage", uuid, OPTIONS_TAG) or ""


register_driver(NfsDriver())


def same_export(one: str, other: str) -> bool:
    """Say whether two urls name the same export, as far as they themselves tell."""
    return _normal(one) == _normal(other)


def _normal(url: str) -> tuple[str, str]:
    host, _, path = url.rpartition(":/")
    host = host.strip("[]").lower()
    with contextlib.suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    return host, "/".join(part for part in path.split("/") if part)


class AddNfsPrimaryStorage(AddPrimaryStorage, path="/primary-storage/nfs", reply=PRIMARY_STORAGE):
    """Add an NFS storage (manual 4.4.16.1); it is mounted when it is attached to a cluster.

    Mount options come with the system tag `nfs::mountOptions::vers=4.2`.
    """

    storage_type = NFS

    type: Literal["NFS"] = "NFS"
