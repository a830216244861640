"""Accounts: the table, passwords, the account admin."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from sqlalchemy import Column, Connection, Row, String, Table, insert, select

from mn.db.schema import date_columns, metadata, named_columns, now_s, private
from mn.query.resource import Resource

ADMIN_UUID = "36c27e8ff05c4780bf6d2fa65700f22e"
ADMIN_NAME = "admin"
ADMIN_TYPE = "SystemAdmin"
DEFAULT_PASSWORD = hashlib.sha512(b"password").hexdigest()
"""What clients send for the password of a new installation."""

SCRYPT = {"n": 2**14, "r": 8, "p": 1}

account_table = Table(
    "account",
    metadata,
    *named_columns("account"),
    Column("type", String(32), nullable=False, comment="SystemAdmin or Normal"),
    private("password_salt", String(32), nullable=False),
    private("password_hash", String(128), nullable=False),
    *date_columns(),
)

ACCOUNT = Resource("Account", account_table)


DEFAULT_PASSWORD_NOTICE = (
    "the account admin still has the default password; change it with "
    f'PUT /zstack/v1/accounts/{ADMIN_UUID} {{"updateAccount": {{"password": "<SHA-512 in hex>"}}}}'
)


def ensure_admin(connection: Connection) -> bool:
    """Make the admin account when there is none; return whether it still has the default password."""
    row = connection.execute(select(account_table).where(account_table.c.uuid == ADMIN_UUID)).first()
    if row is not None:
        return matches(row, DEFAULT_PASSWORD)
    now = now_s()
    values = {
        "uuid": ADMIN_UUID,
        "name": ADMIN_NAME,
        "type": ADMIN_TYPE,
        "create_date": now,
        "last_op_date": now,
    }
    connection.execute(insert(account_table), {**values, **password_columns(DEFAULT_PASSWORD)})
    return True


def account_by_name(connection: Connection, name: str) -> Row[Any] | None:
    """Return an account's row, None when there is none of the name."""
    return connection.execute(select(account_table).where(account_table.c.name == name)).first()


def password_columns(sha512: str) -> dict[str, str]:
    """Return what is kept of a password; takes some 50 ms of a CPU."""
    salt = secrets.token_hex(16)
    return {"password_salt": salt, "password_hash": _hash(sha512, salt)}


def _hash(sha512: str, salt: str) -> str:
    return hashlib.scrypt(sha512.lower().encode(), salt=salt.encode(), **SCRYPT).hex()


def matches(account: Row[Any] | None, sha512: str) -> bool:
    """Compare in the same time whether the account exists or not."""
    salt = account.password_salt if account else "0" * 32
    expected = account.password_hash if account else "0" * 128
    return hmac.compare_digest(_hash(sha512, salt), expected) and account is not None
