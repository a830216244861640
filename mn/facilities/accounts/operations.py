"""Create, change, delete and query accounts."""

from __future__ import annotations

import asyncio
import re
from typing import Literal

from sqlalchemy import Connection, delete

from agentkit.errors import Blame, HardpointError
from mn.facilities.accounts.tables import (
    ACCOUNT,
    ADMIN_UUID,
    account_by_name,
    account_table,
    password_columns,
)
from mn.facilities.common import DeletionMode, add, change, inventory
from mn.facilities.tags.rules import drop_tags
from mn.rest.operation import Action, Create, Delete, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, Secret, Uuid

Columns = dict[str, str]


class CreateAccount(Create, path="/accounts", reply=ACCOUNT):
    """Create an account; `password` is the SHA-512 of its password in hex."""

    name: Name
    password: Secret
    type: Literal["Normal", "SystemAdmin"] = "Normal"
    description: Description | None = None

    def check(self) -> None:
        """Take nothing but a SHA-512 as the password."""
        _check_password(self.password)

    def locks(self) -> tuple[str, ...]:
        """One account of a name at a time."""
        return (f"account-name/{self.name}",)

    async def run(self, job: Job) -> Reply:
        """Insert the row."""
        uuid = self.resource_uuid or job.uuid_for("account")
        columns = await asyncio.to_thread(password_columns, self.password.text)
        await job.transact(insert_account, uuid, self, columns)
        return await inventory(job.services, ACCOUNT, uuid)


class UpdateAccount(Action, path="/accounts/{uuid}", reply=ACCOUNT):
    """Change an account; a new password ends all its sessions."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None
    password: Secret | None = None

    def check(self) -> None:
        """Take nothing but a SHA-512 as the password."""
        if self.password is not None:
            _check_password(self.password)

    def permits(self, account_uuid: str) -> bool:
        """Everybody may change the own account."""
        return self.uuid == account_uuid

    def locks(self) -> tuple[str, ...]:
        """One change of an account at a time."""
        return (f"account/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row, drop the sessions."""
        columns = await asyncio.to_thread(password_columns, self.password.text) if self.password else {}
        await job.transact(change_account, self, columns)
        if self.password is not None:
            await job.step(job.services.sessions.close_account, self.uuid)
        return await inventory(job.services, ACCOUNT, self.uuid)


class DeleteAccount(Delete, path="/accounts/{uuid}"):
    """Delete an account and end its sessions; the account admin stays."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of an account at a time."""
        return (f"account/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Delete the row, drop the sessions."""
        await job.transact(delete_account, self.uuid)
        await job.step(job.services.sessions.close_account, self.uuid)
        return {}


class QueryAccount(Query, path=("/accounts", "/accounts/{uuid}"), reply=ACCOUNT):
    """Query accounts."""


def insert_account(connection: Connection, uuid: str, wanted: CreateAccount, password: Columns) -> None:
    """Insert an account. Raises HardpointError (SYS.1007) when its name is taken."""
    _refuse_taken(connection, wanted.name, uuid)
    values = {"uuid": uuid, "name": wanted.name, "description": wanted.description, "type": wanted.type}
    add(connection, ACCOUNT, {**values, **password}, wanted)


def change_account(connection: Connection, wanted: UpdateAccount, password: Columns) -> None:
    """Write what is given. Raises HardpointError for an unknown account or a name that is taken."""
    if wanted.name is not None:
        _refuse_taken(connection, wanted.name, wanted.uuid)
    values = {"name": wanted.name, "description": wanted.description}
    change(connection, ACCOUNT, wanted.uuid, {**values, **password})


def delete_account(connection: Connection, uuid: str) -> None:
    """Delete an account; one that is gone is no fault. Raises HardpointError (SYS.1006) for admin."""
    if uuid == ADMIN_UUID:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            "the account admin cannot be deleted",
            remedy="change its password if nobody is to use it",
            blame=Blame.CALLER,
        )
    connection.execute(delete(account_table).where(account_table.c.uuid == uuid))
    drop_tags(connection, uuid)


def _refuse_taken(connection: Connection, name: str, uuid: str) -> None:
    other = account_by_name(connection, name)
    if other is not None and other.uuid != uuid:
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"there is an account '{name}' already ({other.uuid})",
            remedy="choose another name",
            blame=Blame.CALLER,
        )


def _check_password(password: Secret) -> None:
    """Refuse what is no SHA-512: clients that send it plain could not log in afterwards."""
    if not re.fullmatch("[0-9a-fA-F]{128}", password.text):
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            "parameter 'password' is no SHA-512",
            remedy="send the SHA-512 of the password as 128 hex digits",
            blame=Blame.CALLER,
        )
