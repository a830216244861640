"""The metadata that all tables belong to, and the column kinds they share."""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Integer, MetaData, String
from sqlalchemy.sql.schema import SchemaItem

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UUID_LENGTH = 32
NAME_LENGTH = 255
DESCRIPTION_LENGTH = 2048
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Instant(BigInteger):
    """A moment: seconds since 1970 in the database, a date in the API."""


class Document(JSON):
    """A JSON value that the API shows as it is."""


def sequence_column() -> Column[int]:
    """Return the primary key that numbers rows in the order they came; lists are in that order.

    On SQLite it is the row's own id and takes no room.
    """
    kind = BigInteger().with_variant(Integer, "sqlite")
    return Column("seq", kind, primary_key=True, autoincrement=True, info={"private": True})


def new_uuid() -> str:
    """Return a random v4 uuid without hyphens, as all resources have."""
    return uuid_from(secrets.token_bytes(16))


def uuid_from(random: bytes) -> str:
    """Return 16 bytes as a v4 uuid without hyphens."""
    raw = bytearray(random[:16])
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return raw.hex()


def now_s() -> int:
    """Return the present second as `Instant` columns hold it."""
    return int(time.time())


def date_shown(moment: int) -> str:
    """Return seconds since 1970 as the API writes a date: `Jan 6, 2017 3:51:16 AM`, UTC."""
    at = datetime.fromtimestamp(moment, UTC)
    half = "AM" if at.hour < 12 else "PM"
    return f"{_MONTHS[at.month - 1]} {at.day}, {at.year} {at.hour % 12 or 12}:{at:%M:%S} {half}"


def camel(name: str) -> str:
    """Return a column's name as the API writes it: `management_ip` -> `managementIp`."""
    return re.sub(r"_([a-z0-9])", lambda m: m[1].upper(), name)


def uuid_column(name: str = "uuid", *constraints: SchemaItem, **options: Any) -> Column[str]:
    """Return a column that holds a uuid."""
    return Column(name, String(UUID_LENGTH), *constraints, **options)


def private(name: str, kind: Any, *constraints: SchemaItem, **options: Any) -> Column[Any]:
    """Return a column that the API neither shows nor filters by."""
    return Column(name, kind, *constraints, info={"private": True}, **options)


def identity_columns(what: str) -> list[Column[Any]]:
    """Return the columns that every resource begins with."""
    return [sequence_column(), uuid_column(nullable=False, unique=True, comment=f"UUID of the {what}")]


def named_columns(what: str) -> list[Column[Any]]:
    """Return the columns that every resource with a name begins with."""
    return [
        *identity_columns(what),
        Column("name", String(NAME_LENGTH), nullable=False, index=True, comment=f"name of the {what}"),
        Column("description", String(DESCRIPTION_LENGTH), comment=f"description of the {what}"),
    ]


def date_columns() -> list[Column[Any]]:
    """Return the columns that every resource ends with."""
    return [
        Column("create_date", Instant, nullable=False, index=True, comment="time of creation"),
        Column("last_op_date", Instant, nullable=False, comment="time of the last change"),
    ]
