"""`help`: an operation with its parameters, as the description says."""

from __future__ import annotations

from collections.abc import Iterator

from mnclient.description import Description, Operation, Parameter
from mnclient.shell.syntax import find_operation

OVERVIEW = """\
Operation parameter=value ...      QueryZone name=zone1 fields=name,uuid limit=10 sortBy=name
                                   CreateZone name=zone1 description="text with blanks"
Conditions of a query: = != > < >= <= ?= !?= ~= !~= ; name=null, name!=null; cluster.name=c1 across resources.
Lists: hostUuids=a,b, or the parameter repeated, or JSON; maps: JSON. timeout=60: seconds to wait.
Tab completes operations, parameters, fields, operators, values, uuids and names; twice it lists them.

help [Operation]             this page, or the parameters of an operation
output table|json|yaml       how replies are shown
job UUID                     wait for a job that goes on
exit                         leave (also Ctrl-D)"""


def overview(description: Description) -> str:
    """Return the page of `help`."""
    names = [operation.name for operation in description.operations.values() if operation.served]
    return f"{OVERVIEW}\n\n{len(names)} operations: press Tab at the start of a line to see them."


def about(name: str, description: Description) -> str:
    """Return the page of `help Operation`. Raises UnknownNameError."""
    operation = find_operation(name, description)
    return "\n".join(_lines(operation, description))


def _lines(operation: Operation, description: Description) -> Iterator[str]:
    yield f"{operation.name}: {operation.description}"
    if not operation.served:
        yield "The management node does not know this operation."
    how = "a job" if operation.job else "answered at once"
    yield f"{operation.method} {', '.join(f'/zstack/v1{path}' for path in operation.paths)} ({how})"
    resource = description.resources.get(operation.reply or "")
    if operation.is_query and resource:
        yield "\nConditions:"
        width = max(map(len, resource.fields), default=0)
        for field in resource.fields.values():
            choices = f" [{', '.join(field.enum)}]" if field.enum else ""
            yield f"  {field.name:<{width}}  {field.type:<9}  {choices.strip() or field.description}"
        if resource.relations:
            yield f"  joins: {', '.join(f'{name}.' for name in sorted(resource.relations))}"
    parameters = [p for p in operation.parameters.values() if p.name != "conditions"]
    if parameters:
        yield "\nParameters:"
    width = max((len(p.name) for p in parameters), default=0)
    for parameter in parameters:
        yield f"  {_marked(parameter):<{width + 1}}  {parameter.type:<8} {_described(parameter)}"
    if any(p.required for p in parameters):
        yield "  (*: required)"
    if operation.reply:
        yield f"\nReturns: {operation.reply}{' inventories' if operation.is_query else ' inventory'}"


def _marked(parameter: Parameter) -> str:
    return f"{parameter.name}{'*' if parameter.required else ''}"


def _described(parameter: Parameter) -> str:
    default = f" (default {parameter.default})" if parameter.default is not None else ""
    return f"{parameter.description}{default}"
