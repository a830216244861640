"""The capacity of primary storages: what there is, what is promised, and that no more is promised.

`availableCapacity` is the total less what was in use at first and less the charges of all that is on the
storage. It is lowered by a statement that does so only where enough is left, so no two jobs can be promised
the same bytes.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, and_, delete, func, insert, literal, select, update

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol_storage import Capacity
from mn.db.global_settings import STORAGE_FULL, STORAGE_RATIO, STORAGE_RESERVED, GlobalSettings
from mn.db.schema import new_uuid, now_s
from mn.facilities.common import find
from mn.facilities.primary_storage.tables import (
    LOCAL,
    PRIMARY_STORAGE,
    VOLUME,
    allocation_table,
    change_storage,
    host_ref_table,
    primary_storage_table,
)


class Place(msgspec.Struct, frozen=True):
    """Where something is: a storage, and the host when the storage is local."""

    storage_uuid: str
    host_uuid: str | None = None


def reserve(
    connection: Connection, place: Place, resource_uuid: str, kind: str, size: int, settings: GlobalSettings
) -> None:
    """Promise room for a resource. Raises HardpointError (PS.1000) when there is not enough."""
    row = find(connection, PRIMARY_STORAGE, place.storage_uuid)
    charge = charge_of(kind, size, settings)
    _take(connection, place, row.name, charge, settings)
    values = {
        "uuid": new_uuid(),
        "resource_uuid": resource_uuid,
        "primary_storage_uuid": place.storage_uuid,
        "host_uuid": place.host_uuid,
        "size": size,
        "resource_type": kind,
        "charge": charge,
        "storage_type": row.type,
    }
    now = now_s()
    connection.execute(insert(allocation_table), {**values, "create_date": now, "last_op_date": now})


def resize(
    connection: Connection, place: Place, resource_uuid: str, size: int, settings: GlobalSettings
) -> None:
    """Promise room for a resource that becomes larger, or give back some of it.

    Raises HardpointError (PS.1000) when there is not enough.
    """
    where = _of(place, resource_uuid)
    row = connection.execute(select(allocation_table).where(where)).first()
    if row is None:
        return
    storage = find(connection, PRIMARY_STORAGE, place.storage_uuid)
    charge = charge_of(row.resource_type, size, settings)
    more = charge - row.charge
    if more > 0:
        _take(connection, place, storage.name, more, settings)
    else:
        _give(connection, place, -more)
    values = {"size": size, "charge": charge, "last_op_date": now_s()}
    connection.execute(update(allocation_table).where(where).values(**values))


def release(connection: Connection, place: Place, resource_uuid: str) -> None:
    """Give back the room of a resource; nothing happens when it has none."""
    where = _of(place, resource_uuid)
    charge = connection.execute(select(func.sum(allocation_table.c.charge)).where(where)).scalar()
    if charge is not None:
        connection.execute(delete(allocation_table).where(where))
        _give(connection, place, int(charge))


def charge_of(kind: str, size: int, settings: GlobalSettings) -> int:
    """Return what a resource takes of the capacity; only volumes may be promised more than there is."""
    return math.ceil(size / settings[STORAGE_RATIO]) if kind == VOLUME else size


def save_capacity(connection: Connection, place: Place, found: Capacity) -> None:
    """Write what a storage's file system has, and count anew."""
    lock(connection, place.storage_uuid)
    table, where = _row_of(place)
    row = connection.execute(select(table).where(where)).first()
    if row is None:
        return
    values: dict[str, Any] = {
        "total_capacity": found.total,
        "total_physical_capacity": found.total,
        "available_physical_capacity": found.available,
    }
    if row.total_physical_capacity == 0:
        values["system_used_capacity"] = found.total - found.available
    connection.execute(update(table).where(where).values(**values))
    recount(connection, place.storage_uuid)


def recount(connection: Connection, storage_uuid: str) -> None:
    """Compute what is available from all that is on a storage."""
    lock(connection, storage_uuid)
    row = find(connection, PRIMARY_STORAGE, storage_uuid)
    if row.type != LOCAL:
        left = row.total_capacity - row.system_used_capacity - _charges(connection, Place(storage_uuid))
        change_storage(connection, storage_uuid, available_capacity=left)
        return
    refs = host_ref_table
    sums = dict.fromkeys(_SUMMED, 0)
    for ref in connection.execute(select(refs).where(refs.c.primary_storage_uuid == storage_uuid)).all():
        left = ref.total_capacity - ref.system_used_capacity
        left -= _charges(connection, Place(storage_uuid, ref.host_uuid))
        connection.execute(update(refs).where(refs.c.uuid == ref.uuid).values(available_capacity=left))
        for name in _SUMMED:
            sums[name] += left if name == "available_capacity" else getattr(ref, name)
    change_storage(connection, storage_uuid, **sums)


_SUMMED = (
    "total_capacity",
    "available_capacity",
    "total_physical_capacity",
    "available_physical_capacity",
    "system_used_capacity",
)


def lock(connection: Connection, storage_uuid: str) -> None:
    """Let nobody else count the same storage until this transaction ends."""
    mine = primary_storage_table.c.uuid == storage_uuid
    connection.execute(select(primary_storage_table.c.uuid).where(mine).with_for_update())


def room(connection: Connection, place: Place, settings: GlobalSettings) -> int:
    """Return how many bytes could be reserved at a place."""
    table, where = _row_of(place)
    row = connection.execute(select(table).where(where)).first()
    if row is None or row.available_physical_capacity < row.total_physical_capacity * _kept_free(settings):
        return 0
    return max(0, int(row.available_capacity - settings[STORAGE_RESERVED]))


def _charges(connection: Connection, place: Place) -> int:
    mine = allocation_table.c.primary_storage_uuid == place.storage_uuid
    if place.host_uuid is not None:
        mine &= allocation_table.c.host_uuid == place.host_uuid
    found = connection.execute(select(func.sum(allocation_table.c.charge)).where(mine)).scalar()
    return int(found or 0)


def _take(connection: Connection, place: Place, name: str, charge: int, settings: GlobalSettings) -> None:
    table, where = _row_of(place)
    lock(connection, place.storage_uuid)
    columns = table.c
    enough = columns.available_capacity - charge >= int(settings[STORAGE_RESERVED])
    not_full = columns.available_physical_capacity >= columns.total_physical_capacity * literal(
        _kept_free(settings)
    )
    less = {"available_capacity": columns.available_capacity - charge}
    if not connection.execute(update(table).where(and_(where, enough, not_full)).values(less)).rowcount:
        raise _too_little(connection, place, name, charge, settings)
    if place.host_uuid is not None:
        _add(connection, Place(place.storage_uuid), -charge)


def _give(connection: Connection, place: Place, charge: int) -> None:
    lock(connection, place.storage_uuid)
    _add(connection, place, charge)
    if place.host_uuid is not None:
        _add(connection, Place(place.storage_uuid), charge)


def _add(connection: Connection, place: Place, charge: int) -> None:
    table, where = _row_of(place)
    more = {"available_capacity": table.c.available_capacity + charge}
    connection.execute(update(table).where(where).values(more))


def _row_of(place: Place) -> tuple[Table, Any]:
    """Return the row that counts a place: the storage's, or that of the host of a local one."""
    if place.host_uuid is None:
        return primary_storage_table, primary_storage_table.c.uuid == place.storage_uuid
    refs = host_ref_table.c
    mine = (refs.primary_storage_uuid == place.storage_uuid) & (refs.host_uuid == place.host_uuid)
    return host_ref_table, mine


def _of(place: Place, resource_uuid: str) -> Any:
    rows = allocation_table.c
    mine = (rows.resource_uuid == resource_uuid) & (rows.primary_storage_uuid == place.storage_uuid)
    return mine & (rows.host_uuid == place.host_uuid if place.host_uuid else rows.host_uuid.is_(None))


def _kept_free(settings: GlobalSettings) -> float:
    return 1 - settings[STORAGE_FULL]


def _too_little(
    connection: Connection, place: Place, name: str, charge: int, settings: GlobalSettings
) -> HardpointError:
    table, where = _row_of(place)
    row = connection.execute(select(table).where(where)).first()
    on = f" on host {place.host_uuid}" if place.host_uuid else ""
    if row is None:
        reason = "it is not initialised there"
    elif row.available_capacity - charge < settings[STORAGE_RESERVED]:
        kept = int(settings[STORAGE_RESERVED])
        reason = f"{charge} bytes are wanted, {row.available_capacity} are free, of which {kept} are kept"
    else:
        reason = (
            f"its file system has {row.available_physical_capacity} of {row.total_physical_capacity} bytes "
            f"left, and {_kept_free(settings):.0%} are kept"
        )
    return HardpointError(
        "PS.1000",
        "Not enough room on the primary storage",
        f"primary storage {name} ({place.storage_uuid}){on} has too little room: {reason}",
        remedy="delete what is not needed, choose another storage or host, or change primaryStorage settings",
        blame=Blame.CALLER,
    )
