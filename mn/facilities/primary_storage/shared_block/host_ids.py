"""The numbers that hosts hold leases under: given out here, and never again while a lease may live."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from agentkit.errors import HardpointError
from kvmagent.protocol_storage import StorageEvent
from mn.db.schema import new_uuid, now_s
from mn.facilities.primary_storage.capacity import lock
from mn.facilities.primary_storage.shared_block.tables import (
    HOST_ID_MOST,
    REASON_LENGTH,
    host_id_table,
    host_table,
)


def lowest_free(taken: set[int], most: int = HOST_ID_MOST) -> int | None:
    """Return the lowest host id that nobody has, None when there is none."""
    return next((number for number in range(1, most + 1) if number not in taken), None)


def host_id_of(connection: Connection, storage_uuid: str, host_uuid: str) -> int:
    """Return a host's number, given to it now where it has none. Raises HardpointError (PS.1000) for none.

    Writes: to be called in a transaction that may.
    """
    found = known_host_id(connection, storage_uuid, host_uuid)
    if found is not None:
        return found
    lock(connection, storage_uuid)
    ids = host_id_table.c
    mine = ids.primary_storage_uuid == storage_uuid
    taken = set(connection.execute(select(ids.host_id).where(mine)).scalars())
    number = lowest_free(taken)
    if number is None:
        raise HardpointError(
            "PS.1000",
            "Not enough room on the primary storage",
            f"primary storage {storage_uuid} has {HOST_ID_MOST} hosts, or some that may have leases still",
            remedy="bring hosts back that were deleted while they did not answer, and detach it from them",
        )
    now = now_s()
    key = {"uuid": new_uuid(), "primary_storage_uuid": storage_uuid, "host_uuid": host_uuid}
    connection.execute(
        insert(host_id_table), {**key, "host_id": number, "create_date": now, "last_op_date": now}
    )
    return number


def known_host_id(connection: Connection, storage_uuid: str, host_uuid: str) -> int | None:
    """Return the number that a host has, None when it has none."""
    ids = host_id_table.c
    mine = (ids.primary_storage_uuid == storage_uuid) & (ids.host_uuid == host_uuid)
    found: int | None = connection.execute(select(ids.host_id).where(mine)).scalar()
    return found


def give_back(connection: Connection, storage_uuid: str, host_uuid: str) -> None:
    """Note that a host has left: others may have its number."""
    ids = host_id_table.c
    mine = (ids.primary_storage_uuid == storage_uuid) & (ids.host_uuid == host_uuid)
    connection.execute(delete(host_id_table).where(mine))


def load_host_ref(connection: Connection, storage_uuid: str, host_uuid: str) -> Row[Any] | None:
    """Return how a storage is on a host, None when it has never been there."""
    refs = host_table.c
    mine = (refs.primary_storage_uuid == storage_uuid) & (refs.host_uuid == host_uuid)
    return connection.execute(select(host_table).where(mine)).first()


def note_standing(connection: Connection, storage_uuid: str, host_uuid: str, event: StorageEvent) -> None:
    """Write how a storage is on a host."""
    number = known_host_id(connection, storage_uuid, host_uuid)
    if number is None:
        return
    standing = event.standing
    reason = event.reason or (standing.reason if standing is not None else None)
    values = {
        "host_id": number,
        "status": "Connected" if event.answering else "Disconnected",
        "lock_state": standing.state.value if standing is not None else ("Held" if event.answering else None),
        "reason": reason[:REASON_LENGTH] if reason is not None else None,
        "last_op_date": now_s(),
    }
    ref = load_host_ref(connection, storage_uuid, host_uuid)
    if ref is None:
        key = {"uuid": new_uuid(), "primary_storage_uuid": storage_uuid, "host_uuid": host_uuid}
        connection.execute(insert(host_table), {**key, **values, "create_date": now_s()})
    elif (ref.status, ref.lock_state, ref.reason) != (
        values["status"],
        values["lock_state"],
        values["reason"],
    ):
        connection.execute(update(host_table).where(host_table.c.uuid == ref.uuid).values(**values))


def forget_hosts(connection: Connection, storage_uuid: str, host_uuids: list[str]) -> None:
    """Forget how a storage was on hosts; their numbers stay theirs unless they were given back."""
    refs = host_table.c
    mine = (refs.primary_storage_uuid == storage_uuid) & refs.host_uuid.in_(host_uuids)
    connection.execute(delete(host_table).where(mine))
