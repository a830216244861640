"""The driver of shared-block storages.

Volumes are logical volumes of a group that is called by the storage's uuid.
"""

from __future__ import annotations

import posixpath
from typing import Any

from sqlalchemy import Connection, Row, select, update

from kvmagent.protocol_shared_block import LunCapacity, SharedBlockGroup, bare_wwid
from kvmagent.protocol_storage import StorageEvent, StorageKind, StorageSpec
from mn.db.global_settings import (
    LEASE_LOST_FENCES,
    SANLOCK_TIMEOUT,
    SANLOCK_WATCHDOG,
    THIN_STEP,
    THIN_VOLUMES,
    setting_in,
)
from mn.db.schema import now_s
from mn.facilities.primary_storage.driver import Driver, register_driver
from mn.facilities.primary_storage.shared_block.host_ids import (
    forget_hosts,
    give_back,
    host_id_of,
    known_host_id,
    note_standing,
)
from mn.facilities.primary_storage.shared_block.tables import lun_table, luns_of
from mn.facilities.primary_storage.tables import SHARED_BLOCK, primary_storage_table
from mn.facilities.tags.rules import register, tag_value

WIPE_TAG = "sharedBlock::wipe::{wipe}"
PROVISIONING_TAG = "sharedBlock::provisioning::{provisioning}"
THIN, THICK = "ThinProvisioning", "ThickProvisioning"


def check_wipe(value: str) -> None:
    """Take true or false."""
    if value not in ("true", "false"):
        raise ValueError(f"'{value}' is neither true nor false")


def check_provisioning(value: str) -> None:
    """Take one of the two kinds."""
    if value not in (THIN, THICK):
        raise ValueError(f"'{value}' is neither {THIN} nor {THICK}")


register(
    "PrimaryStorage",
    WIPE_TAG,
    "whether LUNs of a new shared-block storage may be wiped that hold what a deleted one has left",
    check_wipe,
)
register(
    "PrimaryStorage",
    PROVISIONING_TAG,
    "how volumes of a shared-block storage get their room: ThinProvisioning or ThickProvisioning",
    check_provisioning,
)


class SharedBlockDriver(Driver):
    """A volume group on LUNs."""

    kind = StorageKind.SHARED_BLOCK

    def check_url(self, url: str) -> None:
        """Take anything: it is not used."""

    def mount_path(self, uuid: str, url: str) -> str:
        """Return the folder of its logical volumes."""
        return f"/dev/{uuid}"

    def shown_path(self, row: Row[Any], path: str) -> str:
        """Return it as clients know it."""
        return f"sharedblock://{row.uuid}/{_lv(path)}"

    def host_path(self, row: Row[Any], path: str) -> str:
        """Return the device."""
        return f"/dev/{row.uuid}/{_lv(path)}"

    def others(self, connection: Connection, uuid: str) -> list[str]:
        """Return the other groups: what they have is not wiped."""
        table = primary_storage_table.c
        found = select(table.uuid).where((table.type == SHARED_BLOCK) & (table.uuid != uuid))
        return list(connection.execute(found.order_by(table.seq)).scalars())

    def prepare(self, connection: Connection, storage_uuid: str, host_uuid: str) -> None:
        """Give the host its number."""
        host_id_of(connection, storage_uuid, host_uuid)

    def wipes(self, connection: Connection, uuid: str) -> bool:
        """Say what the storage's tag says."""
        return tag_value(connection, "PrimaryStorage", uuid, WIPE_TAG) == "true"

    def spec(self, connection: Connection, row: Row[Any], host_uuid: str | None = None) -> StorageSpec:
        """Return the group with its LUNs, and what is the host's."""
        number = known_host_id(connection, row.uuid, host_uuid) if host_uuid is not None else None
        thin = tag_value(connection, "PrimaryStorage", row.uuid, PROVISIONING_TAG)
        by_setting = bool(setting_in(connection, THIN_VOLUMES))
        group = SharedBlockGroup(
            disks=[lun.disk_uuid for lun in luns_of(connection, row.uuid)],
            host_id=number or 0,
            io_timeout_s=int(setting_in(connection, SANLOCK_TIMEOUT)),
            watchdog=bool(setting_in(connection, SANLOCK_WATCHDOG)),
            thin=by_setting if thin is None else thin == THIN,
            step_bytes=int(setting_in(connection, THIN_STEP)),
            fence_lost=bool(setting_in(connection, LEASE_LOST_FENCES)),
        )
        return StorageSpec(uuid=row.uuid, kind=self.kind, url=row.url, group=group)

    def told(self, connection: Connection, storage_uuid: str, host_uuid: str, event: StorageEvent) -> None:
        """Write how the group is on a host, and so whether its LUNs are there."""
        note_standing(connection, storage_uuid, host_uuid, event)

    def released(self, connection: Connection, storage_uuid: str, host_uuid: str) -> None:
        """Give the host's number back: it has left the group."""
        give_back(connection, storage_uuid, host_uuid)

    def left(self, connection: Connection, storage_uuid: str, host_uuids: list[str]) -> None:
        """Forget how the group was on hosts."""
        forget_hosts(connection, storage_uuid, host_uuids)

    def refreshed(self, connection: Connection, storage_uuid: str, status: str) -> None:
        """Show LUNs as their storage is."""
        mine = lun_table.c.shared_block_group_uuid == storage_uuid
        other = mine & (lun_table.c.status != status)
        connection.execute(update(lun_table).where(other).values(status=status, last_op_date=now_s()))


register_driver(SharedBlockDriver())


def save_luns(connection: Connection, storage_uuid: str, luns: list[LunCapacity]) -> None:
    """Write how large LUNs are."""
    for lun in luns:
        mine = lun_table.c.bare_wwid == bare_wwid(lun.wwid)
        mine &= lun_table.c.shared_block_group_uuid == storage_uuid
        values = {"total_capacity": lun.total, "available_capacity": lun.available}
        connection.execute(update(lun_table).where(mine).values(**values))


def _lv(path: str) -> str:
    return posixpath.basename(path).partition(".")[0]
