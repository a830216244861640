"""Shared mount points (manual 4.4.17): a directory that somebody else keeps mounted on every host."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, select

from kvmagent.protocol_storage import StorageKind
from mn.facilities.primary_storage.adding import AddPrimaryStorage
from mn.facilities.primary_storage.driver import Driver, check_directory, register_driver
from mn.facilities.primary_storage.tables import PRIMARY_STORAGE, SMP, primary_storage_table


class SmpDriver(Driver):
    """A directory of a shared file system."""

    kind = StorageKind.SMP

    def check_url(self, url: str) -> None:
        """Refuse what is no directory."""
        check_directory(url)

    def others(self, connection: Connection, uuid: str) -> list[str]:
        """Return all other shared mount points: their directories are taken."""
        table = primary_storage_table.c
        found = select(table.uuid).where((table.type == SMP) & (table.uuid != uuid)).order_by(table.seq)
        return list(connection.execute(found).scalars())


register_driver(SmpDriver())


class AddSharedMountPointPrimaryStorage(
    AddPrimaryStorage, path="/primary-storage/smp", reply=PRIMARY_STORAGE
):
    """Add a directory of a shared file system (manual 4.4.17.1), which must be mounted on all hosts.

    That it is the same directory on all of them is made sure of when it is attached to a cluster.
    """

    storage_type = SMP

    type: Literal["SharedMountPoint"] = "SharedMountPoint"
