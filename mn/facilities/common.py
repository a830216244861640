"""What facilities do alike: look up references, insert named rows, answer with an inventory."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from agentkit.errors import Blame, HardpointError
from mn.db.schema import now_s
from mn.facilities.tags.rules import write_tags
from mn.query.plan import load_one
from mn.query.resource import Resource
from mn.rest.operation import Operation, Reply
from mn.rest.services import Services


def find(connection: Connection, resource: Resource, uuid: str) -> Row[Any]:
    """Return a resource's row. Raises HardpointError (SYS.1003) when there is none."""
    table = resource.table
    belongs = [table.c[name] == value for name, value in (resource.only or {}).items()]
    row = connection.execute(select(table).where(table.c.uuid == uuid, *belongs)).first()
    if row is None:
        raise HardpointError(
            "SYS.1003",
            "Resource not found",
            f"there is no {resource.name} with the uuid {uuid}",
            remedy=f"take a uuid from Query{resource.name}",
            blame=Blame.CALLER,
        )
    return row


DeletionMode = Literal["Permissive", "Enforcing"]
"""Permissive: what hinders a deletion ends it. Enforcing: the row goes, whatever else fails."""


def add(connection: Connection, resource: Resource, values: dict[str, Any], request: Operation) -> None:
    """Insert a row with its dates and with the request's tags.

    Raises HardpointError (SYS.1007) when its uuid is taken or a system tag is none that it may have.
    """
    table = resource.table
    if connection.execute(select(table.c.uuid).where(table.c.uuid == values["uuid"])).first():
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"resourceUuid {values['uuid']} belongs to another {resource.name}",
            remedy="choose another uuid or leave resourceUuid out",
            blame=Blame.CALLER,
        )
    now = now_s()
    connection.execute(insert(table), {**values, "create_date": now, "last_op_date": now})
    write_tags(connection, resource, values["uuid"], request.system_tags, request.user_tags)


def change(connection: Connection, resource: Resource, uuid: str, wanted: dict[str, Any]) -> None:
    """Write what is given (None: nothing) to an existing row; what is the same leaves its date alone."""
    row = find(connection, resource, uuid)._mapping
    values = {name: value for name, value in wanted.items() if value is not None and row[name] != value}
    if values:
        table = resource.table
        connection.execute(update(table).where(table.c.uuid == uuid).values(**values, last_op_date=now_s()))


async def inventory(services: Services, resource: Resource, uuid: str) -> Reply:
    """Return the reply `{"inventory": ...}` of a resource."""
    row = await services.db.read(load_one, resource, uuid)
    if row is None:
        raise HardpointError("SYS.1003", "Resource not found", f"{resource.name} {uuid} is gone")
    return {"inventory": msgspec.Raw(row.encode())}
