"""Accounts and sessions (manual 3.7): log in, log out, change the password."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Column, Connection, Row, String, Table, insert, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.functions import format_date
from mn.db.schema import date_columns, metadata, named_columns, now_s, private
from mn.facilities.common import find, inventory
from mn.query.resource import Resource
from mn.rest.operation import Action, Get, Login, Query, Reply, SyncDelete
from mn.rest.services import Call, Job
from mn.rest.sessions import Session
from mn.rest.types import Description, Name, Ref, Secret

log = logging.getLogger(__name__)

ADMIN_UUID = "36c27e8ff05c4780bf6d2fa65700f22e"
ADMIN_NAME = "admin"
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


class SessionInventory(msgspec.Struct, rename="camel"):
    """A session as the API shows it."""

    uuid: Annotated[str, Meta(description="UUID of the session, for the Authorization header")]
    account_uuid: Annotated[str, Meta(description="UUID of the account")]
    user_uuid: Annotated[str, Meta(description="UUID of the user; the account's when no user logged in")]
    expired_date: Annotated[str, Meta(description="time when it ends unless it is used")]
    create_date: Annotated[str, Meta(description="time of the login")]


SESSION_REPLY = {"inventory": Annotated[SessionInventory, Meta(description="the session")]}


class LogInByAccount(
    Login, path="/accounts/login", session=False, also_called=("loginByAccount",), returns=SESSION_REPLY
):
    """Log in and get a session (manual 3.7). `password` is the SHA-512 of the password in hex."""

    account_name: Name
    password: Secret

    def login_name(self) -> str:
        """Return the account's name."""
        return self.account_name

    async def answer(self, call: Call) -> Reply:
        """Check the password, open a session."""
        services = call.services
        account = await services.db.read(_account_by_name, self.account_name)
        if not await asyncio.to_thread(_matches, account, self.password.text):
            raise HardpointError(
                "ID.1000",
                "Authentication failed",
                "wrong account name or password",
                remedy="send accountName and, as password, the SHA-512 of the password in hex",
                blame=Blame.CALLER,
            )
        assert account is not None  # noqa: S101 - _matches is False without one
        session = await services.sessions.open(account.uuid)
        call.session_uuid, call.account_uuid = session.uuid, session.account_uuid
        if self.password.text.lower() == DEFAULT_PASSWORD:
            call.headers["X-Hardpoint-Notice"] = DEFAULT_PASSWORD_NOTICE
        return session_reply(session)


def session_reply(session: Session) -> Reply:
    """Return a session as the API shows it."""
    return {
        "inventory": {
            "uuid": session.uuid,
            "accountUuid": session.account_uuid,
            "userUuid": session.account_uuid,
            "expiredDate": format_date(session.expire_date),
            "createDate": format_date(session.create_date),
        }
    }


DEFAULT_PASSWORD_NOTICE = (
    "the account admin still has the default password; change it with "
    f'PUT /zstack/v1/accounts/{ADMIN_UUID} {{"updateAccount": {{"password": "<SHA-512 in hex>"}}}}'
)


class LogOut(SyncDelete, path="/accounts/sessions/{sessionUuid}", session=False):
    """End a session; one that does not exist is ended already (manual 3.7)."""

    session_uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Drop the session."""
        await call.services.sessions.close(self.session_uuid)
        return {}


class ValidateSession(
    Get,
    path="/accounts/sessions/{sessionUuid}/valid",
    session=False,
    returns={"valid": Annotated[bool, Meta(description="whether the session is live")]},
):
    """Say whether a session is live; asking does not prolong it."""

    session_uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Look the session up."""
        try:
            await call.services.sessions.check(self.session_uuid, slide=False)
        except HardpointError as error:
            if error.code != "ID.1001":
                raise
            return {"valid": False}
        return {"valid": True}


class UpdateAccount(Action, path="/accounts/{uuid}", reply=ACCOUNT):
    """Change an account; a new password ends all its sessions."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None
    password: Secret | None = None

    def check(self) -> None:
        """Take nothing but a SHA-512 as the password: clients that send it plain could not log in any
        more.
        """
        if self.password is not None and not re.fullmatch("[0-9a-fA-F]{128}", self.password.text):
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                "UpdateAccount: parameter 'password' is no SHA-512",
                remedy="send the SHA-512 of the new password as 128 hex digits",
                blame=Blame.CALLER,
            )

    def locks(self) -> tuple[str, ...]:
        """One change of an account at a time."""
        return (f"account/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row, drop the sessions."""
        await job.transact(change_account, self)
        if self.password is not None:
            await job.step(job.services.sessions.close_account, self.uuid)
        return await inventory(job.services, ACCOUNT, self.uuid)


class QueryAccount(Query, path=("/accounts", "/accounts/{uuid}"), reply=ACCOUNT):
    """Query accounts."""


def change_account(connection: Connection, wanted: UpdateAccount) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) for an unknown account."""
    find(connection, ACCOUNT, wanted.uuid)
    values: dict[str, Any] = {"last_op_date": now_s()}
    if wanted.name is not None:
        values["name"] = wanted.name
    if wanted.description is not None:
        values["description"] = wanted.description
    if wanted.password is not None:
        values.update(_password_columns(wanted.password.text))
    connection.execute(update(account_table).where(account_table.c.uuid == wanted.uuid).values(**values))


def ensure_admin(connection: Connection) -> bool:
    """Make the admin account when there is none; return whether it still has the default password."""
    row = connection.execute(select(account_table).where(account_table.c.uuid == ADMIN_UUID)).first()
    if row is not None:
        return _matches(row, DEFAULT_PASSWORD)
    now = now_s()
    values = {
        "uuid": ADMIN_UUID,
        "name": ADMIN_NAME,
        "type": "SystemAdmin",
        "create_date": now,
        "last_op_date": now,
    }
    connection.execute(insert(account_table), {**values, **_password_columns(DEFAULT_PASSWORD)})
    return True


def _account_by_name(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(account_table).where(account_table.c.name == name)).first()


def _password_columns(sha512: str) -> dict[str, str]:
    salt = secrets.token_hex(16)
    return {"password_salt": salt, "password_hash": _hash(sha512, salt)}


def _hash(sha512: str, salt: str) -> str:
    return hashlib.scrypt(sha512.lower().encode(), salt=salt.encode(), **SCRYPT).hex()


def _matches(account: Row[Any] | None, sha512: str) -> bool:
    """Compare in the same time whether the account exists or not."""
    salt = account.password_salt if account else "0" * 32
    expected = account.password_hash if account else "0" * 128
    return hmac.compare_digest(_hash(sha512, salt), expected) and account is not None
