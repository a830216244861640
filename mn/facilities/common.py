"""What facilities do alike: look up references, insert named rows, answer with an inventory."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select

from agentkit.errors import Blame, HardpointError
from mn.db.schema import now_s
from mn.query.plan import load_one
from mn.query.resource import Resource
from mn.rest.operation import Operation, Reply
from mn.rest.services import Services


def find(connection: Connection, resource: Resource, uuid: str) -> Row[Any]:
    """Return a resource's row. Raises HardpointError (SYS.1003) when there is none."""
    table = resource.table
    row = connection.execute(select(table).where(table.c.uuid == uuid)).first()
    if row is None:
        raise HardpointError(
            "SYS.1003",
            "Resource not found",
            f"there is no {resource.name} with the uuid {uuid}",
            remedy=f"take a uuid from Query{resource.name}",
            blame=Blame.CALLER,
        )
    return row


def add(connection: Connection, resource: Resource, values: dict[str, Any]) -> None:
    """Insert a row with its dates. Raises HardpointError (SYS.1007) when its uuid is taken."""
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


async def inventory(services: Services, resource: Resource, uuid: str) -> Reply:
    """Return the reply `{"inventory": ...}` of a resource."""
    row = await services.db.read(load_one, resource, uuid)
    if row is None:
        raise HardpointError("SYS.1003", "Resource not found", f"{resource.name} {uuid} is gone")
    return {"inventory": msgspec.Raw(row.encode())}


def refuse_tags(operation: Operation) -> None:
    """Refuse tags that would be lost: this version keeps none."""
    if operation.system_tags or operation.user_tags:
        raise HardpointError(
            "SYS.1014",
            "Not supported",
            f"{operation.spec.name}: tags are not kept by this version",
            remedy="send the request without systemTags and userTags",
            blame=Blame.CALLER,
        )
