"""Sessions (manual 3.7): log in, log out, ask."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta

from agentkit.errors import Blame, HardpointError
from mn.db.functions import format_date
from mn.facilities.accounts.tables import (
    ADMIN_TYPE,
    DEFAULT_PASSWORD,
    DEFAULT_PASSWORD_NOTICE,
    account_by_name,
    matches,
)
from mn.rest.operation import Get, Login, Reply, SyncDelete
from mn.rest.services import Call
from mn.rest.sessions import Session
from mn.rest.types import Name, Ref, Secret


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
        account = await services.db.read(account_by_name, self.account_name)
        if not await asyncio.to_thread(matches, account, self.password.text):
            raise HardpointError(
                "ID.1000",
                "Authentication failed",
                "wrong account name or password",
                remedy="send accountName and, as password, the SHA-512 of the password in hex",
                blame=Blame.CALLER,
            )
        assert account is not None  # noqa: S101 - matches is False without one
        session = await services.sessions.open(account.uuid, admin=account.type == ADMIN_TYPE)
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
