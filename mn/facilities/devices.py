"""Devices keep their identity: what a host shows is matched to the rows by evidence, the address
comes last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, Integer, Row, String, Table, delete, insert, select, update

from kvmagent.protocol import Evidence
from mn.db.schema import Instant, metadata, now_s, uuid_column, uuid_from

address_table = Table(
    "device_address",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    uuid_column("device_uuid", nullable=False, index=True, comment="UUID of the device"),
    Column("address", String(255), nullable=False, comment="where the device was seen"),
    Column("since", Instant, nullable=False, comment="when it was first seen there"),
    Column("until", Instant, comment="when it was seen to be gone from there, null while it is there"),
)
"""Where devices have been seen: an address is an observation, with a history."""


@dataclass(frozen=True, slots=True)
class Known:
    """A device that has a row; `address` is where it was last seen, None when it is not on the host now."""

    uuid: str
    address: str | None
    identity: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A device that the host shows now."""

    address: str
    identity: tuple[tuple[str, str], ...]


@dataclass
class Matches:
    """Which row each seen device is; `new` are none of the rows, `gone` rows are not seen."""

    same: list[tuple[Known, Seen]] = field(default_factory=list)
    new: list[Seen] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)


def identity_of(evidence: Iterable[Evidence]) -> tuple[tuple[str, str], ...]:
    """Return evidence as rows hold it."""
    return tuple((item.kind, item.value) for item in evidence)


def match(known: Sequence[Known], seen: Sequence[Seen], kinds: Sequence[str]) -> Matches:
    """Match rows and seen devices by evidence, the strongest of `kinds` first.

    Two that share evidence of one kind are the same device unless stronger evidence, which both have,
    differs. Where several share it, those at the same address go together first, then in the order of their
    addresses (rows that are nowhere: of their uuids), so the order of the arguments does not matter.
    """
    matches = Matches()
    known_left, seen_left = list(known), list(seen)
    for rank, kind in enumerate(kinds):
        for same_address in (True, False):
            for candidate in sorted(seen_left, key=lambda s: s.address):
                row = _counterpart(candidate, known_left, kind, kinds[:rank], same_address=same_address)
                if row is not None:
                    matches.same.append((row, candidate))
                    known_left.remove(row)
                    seen_left.remove(candidate)
    matches.new, matches.gone = seen_left, known_left
    return matches


def _counterpart(
    seen: Seen, rows: list[Known], kind: str, stronger: Sequence[str], *, same_address: bool
) -> Known | None:
    for row in sorted(rows, key=lambda r: (r.address is None, r.address or "", r.uuid)):
        if same_address and row.address != seen.address:
            continue
        if _agree(row, seen, kind) and not any(_agree(row, seen, k) is False for k in stronger):
            return row
    return None


def _agree(row: Known, seen: Seen, kind: str) -> bool | None:
    """Say whether two share evidence of a kind, None when one of them has none of it."""
    has = {value for k, value in row.identity if k == kind}
    shows = {value for k, value in seen.identity if k == kind}
    return bool(has & shows) if has and shows else None


def merged(
    before: Iterable[tuple[str, str]], now: Sequence[tuple[str, str]], kinds: Sequence[str]
) -> list[tuple[str, str]]:
    """Return what is known of a device: what it shows now, and of kinds that it does not show what it did.

    A disk without its driver, because a VM has it, tells no serial number.
    """
    shown = {kind for kind, _ in now}
    known = [*now, *(item for item in before if item[0] not in shown)]
    return sorted(known, key=lambda item: kinds.index(item[0]) if item[0] in kinds else len(kinds))


def device_uuid(host_uuid: str, seen: Seen, taken: set[str]) -> str:
    """Return the uuid of a new row: the same for the same device on the same host, should its row
    have been deleted. The strongest evidence decides, so a USB stick may come back in another port.
    """
    base = f"{host_uuid}/{seen.identity[:1] or seen.address}"
    attempt = 0
    while (uuid := uuid_from(hashlib.sha256(f"{base}/{attempt}".encode()).digest())) in taken:
        attempt += 1
    return uuid


def note_addresses(connection: Connection, addresses: dict[str, str | None]) -> None:
    """Write where devices are now (None: nowhere), by uuid; what is unchanged stays as it is."""
    if not addresses:
        return
    table = address_table
    query = select(table.c.device_uuid, table.c.address).where(
        table.c.until.is_(None), table.c.device_uuid.in_(addresses)
    )
    current = {row.device_uuid: row.address for row in connection.execute(query)}
    now = now_s()
    changed = [u for u, address in addresses.items() if u in current and current[u] != address]
    if changed:
        where = table.c.until.is_(None) & table.c.device_uuid.in_(changed)
        connection.execute(update(table).where(where).values(until=now))
    fresh: list[dict[str, Any]] = [
        {"device_uuid": u, "address": address, "since": now}
        for u, address in addresses.items()
        if address is not None and current.get(u) != address
    ]
    if fresh:
        connection.execute(insert(table), fresh)


def forget_addresses(connection: Connection, device_uuid: str) -> None:
    """Forget where a device has been."""
    connection.execute(delete(address_table).where(address_table.c.device_uuid == device_uuid))


@dataclass(frozen=True)
class DeviceTable:
    """How one kind of device is kept: its table has the columns uuid, host_uuid, address, identity and the
    dates.

    `kinds` are the kinds of its evidence, the strongest first.
    """

    table: Table
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Observation:
    """One device that a host shows: `columns` are what is observed, without uuid, host_uuid, address and
    dates.

    `first` are columns that only a new row gets, which a user may change later.
    """

    seen: Seen
    columns: dict[str, Any]
    first: dict[str, Any]


def sync(
    connection: Connection, kind: DeviceTable, host_uuid: str, observed: Sequence[Observation]
) -> list[Row[Any]]:
    """Bring a host's rows in line with what it shows; return the rows that are not seen, for the caller to
    treat.

    Rows keep their uuid where the evidence says that it is the same device, whatever its address is now.
    """
    table = kind.table
    rows = {r.uuid: r for r in connection.execute(select(table).where(table.c.host_uuid == host_uuid))}
    known = [Known(r.uuid, r.address, tuple((k, v) for k, v in r.identity)) for r in rows.values()]
    matches = match(known, [o.seen for o in observed], kind.kinds)
    by_seen = {id(o.seen): o for o in observed}
    now = now_s()
    for old, seen in matches.same:
        values = _observed_values(by_seen[id(seen)])
        values["identity"] = [list(item) for item in merged(old.identity, seen.identity, kind.kinds)]
        row = rows[old.uuid]._mapping
        if any(row[name] != value for name, value in values.items()):
            connection.execute(
                update(table).where(table.c.uuid == old.uuid).values(**values, last_op_date=now)
            )
    taken = set(rows)  # the host's uuid is part of what a device's is made of
    addresses: dict[str, str | None] = {old.uuid: seen.address for old, seen in matches.same}
    fresh: list[dict[str, Any]] = []
    for seen in matches.new:
        uuid = device_uuid(host_uuid, seen, taken)
        taken.add(uuid)
        observation = by_seen[id(seen)]
        values = {**observation.first, **_observed_values(observation)}
        row_values = {"uuid": uuid, "host_uuid": host_uuid, "create_date": now, "last_op_date": now, **values}
        fresh.append(row_values)
        addresses[uuid] = seen.address
    if fresh:
        connection.execute(insert(table), fresh)
    addresses.update({old.uuid: None for old in matches.gone})
    note_addresses(connection, addresses)
    return [rows[old.uuid] for old in matches.gone]


def _observed_values(observation: Observation) -> dict[str, Any]:
    identity = [list(item) for item in observation.seen.identity]
    return {**observation.columns, "address": observation.seen.address, "identity": identity}
