"""What happens to what is on a storage when the storage, or a host of a local one, goes.

Volumes belong to another facility, which says what becomes of them (`when_place_goes`).
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, and_, delete, select

from mn.facilities.primary_storage.capacity import Place
from mn.facilities.primary_storage.refusals import refused
from mn.facilities.primary_storage.tables import IMAGE_CACHE, allocation_table

PlaceGone = Callable[[Connection, Place], None]

_followers: list[PlaceGone] = []


def when_place_goes(follow: PlaceGone) -> None:
    """Have `follow` run in the transaction that forgets a place."""
    _followers.append(follow)


def check_empty(connection: Connection, place: Place, what: str) -> None:
    """Raise HardpointError (SYS.1006) when there are volumes or snapshots at a place."""
    rows = allocation_table
    wanted = _at(place) & (rows.c.resource_type != IMAGE_CACHE)
    found = connection.execute(select(rows.c.resource_uuid, rows.c.resource_type).where(wanted)).first()
    if found is not None:
        kind = found.resource_type.removesuffix("VO")
        raise refused(
            f"{what}: {kind} {found.resource_uuid} is there",
            "migrate, or delete and expunge what is there first",
        )


def drop_place(connection: Connection, place: Place) -> None:
    """Forget all that is at a place; the files stay."""
    for follow in _followers:
        follow(connection, place)
    connection.execute(delete(allocation_table).where(_at(place)))


def _at(place: Place) -> ColumnElement[bool]:
    rows = allocation_table.c
    mine = rows.primary_storage_uuid == place.storage_uuid
    return and_(mine, rows.host_uuid == place.host_uuid) if place.host_uuid else mine
