"""What the agent does for each command about iSCSI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from agentkit.tasks import Handler
from agentkit.wire import Command
from kvmagent.iscsi.keeper import Iscsi
from kvmagent.protocol_iscsi import (
    ChangeIscsi,
    ChangeIscsiReply,
    IscsiReport,
    IscsiServerReport,
    LoginIscsi,
    LogoutIscsi,
    LogoutIscsiReply,
    SyncIscsi,
)


class HasIscsi(Protocol):
    """A context that has it."""

    iscsi: Iscsi


async def login_iscsi(context: HasIscsi, command: LoginIscsi) -> IscsiServerReport:
    """Log in to a server's targets."""
    return await context.iscsi.login(command.server)


async def change_iscsi(context: HasIscsi, command: ChangeIscsi) -> ChangeIscsiReply:
    """Log in otherwise from now on."""
    await context.iscsi.change(command.server)
    return ChangeIscsiReply()


async def logout_iscsi(context: HasIscsi, command: LogoutIscsi) -> LogoutIscsiReply:
    """Log out of what no server needs any more."""
    await context.iscsi.logout(command.server_uuid)
    return LogoutIscsiReply()


async def sync_iscsi(context: HasIscsi, command: SyncIscsi) -> IscsiReport:
    """Have the sessions that are needed."""
    return await context.iscsi.sync(command.servers)


ISCSI_HANDLERS: Mapping[type[Command[Any]], Handler[Any]] = {
    LoginIscsi: login_iscsi,
    ChangeIscsi: change_iscsi,
    LogoutIscsi: logout_iscsi,
    SyncIscsi: sync_iscsi,
}
