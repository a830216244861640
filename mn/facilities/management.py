"""Management nodes: version, time, readiness, sessions that are prolonged, and the list of nodes."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Column, Connection, String, Table, insert, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.schema import Instant, identity_columns, metadata, new_uuid, now_s
from mn.facilities.accounts.sessions import SESSION_REPLY, session_reply
from mn.facilities.common import find
from mn.query.resource import Resource
from mn.rest import describe
from mn.rest.operation import Get, Query, Reply, SyncAction
from mn.rest.services import Call
from mn.rest.types import Ref

API_VERSION = "3.0.0"
HEARTBEAT_S = 30.0

node_table = Table(
    "management_node",
    metadata,
    *identity_columns("management node"),
    Column(
        "host_name", String(255), nullable=False, unique=True, comment="name of the machine that it runs on"
    ),
    Column("join_date", Instant, nullable=False, comment="time when it was first started"),
    Column("heart_beat", Instant, nullable=False, comment="time when it last said that it is alive"),
)

MANAGEMENT_NODE = Resource("ManagementNode", node_table)

Duration = Annotated[
    int, Meta(ge=60, le=31_536_000, description="seconds from now: a whole number from 60 to 31536000")
]


class CurrentTime(msgspec.Struct):
    """The time in two units."""

    MillionSeconds: Annotated[int, Meta(description="milliseconds since 1970")]
    Seconds: Annotated[int, Meta(description="seconds since 1970")]


class GetVersion(
    SyncAction,
    path="/management-nodes/actions",
    session=False,
    returns={
        "version": Annotated[str, Meta(description="version of the API")],
        "hardpointVersion": Annotated[str, Meta(description="version of this program")],
    },
):
    """Tell the version of the API, and the program's own."""

    async def answer(self, call: Call) -> Reply:
        """Return both."""
        return {"version": API_VERSION, "hardpointVersion": version("hardpoint")}


class GetCurrentTime(
    SyncAction,
    path="/management-nodes/actions",
    session=False,
    returns={"currentTime": Annotated[CurrentTime, Meta(description="the time of the management node")]},
):
    """Tell the time of the management node."""

    async def answer(self, call: Call) -> Reply:
        """Return the time as clients know its keys."""
        now = time.time()
        return {"currentTime": CurrentTime(int(now * 1000), int(now))}


class GetApiDescription(
    Get,
    path="/description",
    session=False,
    returns={
        "version": Annotated[str, Meta(description="version of the program")],
        "operations": Annotated[dict[str, Any], Meta(description="operations by name")],
        "resources": Annotated[dict[str, Any], Meta(description="resources by name")],
    },
):
    """Describe the API of this node, for clients: its operations and resources as `python -m mn describe`
    prints them.
    """

    async def answer(self, call: Call) -> Reply:
        """Return what clients merge with what they know."""
        return {"version": version("hardpoint"), **describe.served()}


class IsReadyToGo(
    Get,
    path="/management-nodes/ready",
    session=False,
    returns={"managementNodeId": Annotated[str, Meta(description="UUID of the node that is ready")]},
):
    """Say whether a management node takes requests: it does when it answers, else there is an error."""

    management_node_id: Ref | None = None

    async def answer(self, call: Call) -> Reply:
        """Look the node up, which shows that the database answers too."""
        return {"managementNodeId": await call.services.db.read(load_ready, self.management_node_id)}


class RenewSession(SyncAction, path="/accounts/sessions/{sessionUuid}/renew", returns=SESSION_REPLY):
    """Let a session end at a later (or earlier) time. Answered at once as all that has to do with login
    (manual 3.5), so that the session's UUID, which is a secret, is in no journal.
    """

    session_uuid: Ref
    duration: Duration | None = None

    def permits(self, account_uuid: str) -> bool:
        """Whoever knows a session's UUID may use it, and so prolong it."""
        return True

    async def answer(self, call: Call) -> Reply:
        """Move its end; two hours from now when nothing is said."""
        return session_reply(await call.services.sessions.renew(self.session_uuid, self.duration))


class QueryManagementNode(
    Query, path=("/management-nodes", "/management-nodes/{uuid}"), reply=MANAGEMENT_NODE
):
    """Query management nodes."""


def load_ready(connection: Connection, uuid: str | None) -> str:
    """Return the uuid of a node that is ready. Raises HardpointError (SYS.1003, SYS.1010)."""
    if uuid is not None:
        return str(find(connection, MANAGEMENT_NODE, uuid).uuid)
    first: str | None = connection.execute(
        select(node_table.c.uuid).order_by(node_table.c.join_date)
    ).scalar()
    if first is None:
        raise HardpointError(
            "SYS.1010",
            "Unavailable",
            "no management node has joined yet",
            remedy="ask again in some seconds",
            blame=Blame.SYSTEM,
        )
    return first


def beat(connection: Connection, host_name: str) -> None:
    """Say that the node of a machine is alive; the first time it joins."""
    now = now_s()
    mine = node_table.c.host_name == host_name
    if connection.execute(update(node_table).where(mine).values(heart_beat=now)).rowcount:
        return
    values: dict[str, Any] = {"uuid": new_uuid(), "host_name": host_name, "join_date": now, "heart_beat": now}
    connection.execute(insert(node_table), values)
