"""The documented operations, as `distil.py` wrote them down, and which of them are served."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONTENT: dict[str, Any] = json.loads(Path(__file__).with_name("operations.json").read_text())
TYPES: dict[str, dict[str, str]] = _CONTENT["types"]

SERVED = {
    "AddKVMHost",
    "ChangeClusterState",
    "ChangeHostState",
    "ChangeZoneState",
    "CreateCluster",
    "CreateZone",
    "DeleteCluster",
    "DeleteHost",
    "DeleteZone",
    "GetHostAllocatorStrategies",
    "GetHostIommuState",
    "GetHostIommuStatus",
    "GetHypervisorTypes",
    "KvmRunShell",
    "QueryCluster",
    "QueryHost",
    "QueryPciDevice",
    "QueryUsbDevice",
    "QueryZone",
    "ReconnectHost",
    "UpdateCluster",
    "UpdateClusterOS",
    "UpdateHostIommuState",
    "UpdateHost",
    "UpdateKVMHost",
    "UpdateZone",
}
"""Documented operations that this version serves. One that is added is added here too."""

BESIDE_THE_MANUAL = {
    "AddSimulatorHost",
    "CancelLongJob",
    "CreateAccount",
    "CreateSystemTag",
    "CreateUserTag",
    "DeleteAccount",
    "DeleteLongJob",
    "DeleteTag",
    "GetApiDescription",
    "GetCurrentTime",
    "GetKvmShellOutput",
    "GetVersion",
    "IsReadyToGo",
    "LogInByAccount",
    "LogOut",
    "QueryAccount",
    "QueryAudit",
    "QueryBlockDevice",
    "GetTaskProgress",
    "QueryGlobalConfig",
    "QueryLongJob",
    "SubmitLongJob",
    "QuerySystemTag",
    "QueryUserTag",
    "QueryManagementNode",
    "RenewSession",
    "UpdateAccount",
    "UpdateGlobalConfig",
    "UpdateSystemTag",
    "ValidateSession",
}
"""Operations that the manual's hardware chapters do not describe."""


@dataclass(frozen=True)
class Parameter:
    """A documented parameter; `place` is body, url or query."""

    name: str
    type: str
    place: str
    required: bool
    enum: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """A documented operation; `reply` maps the keys of its reply to types."""

    name: str
    method: str
    paths: tuple[str, ...]
    wrapper: str | None
    is_job: bool
    params: tuple[Parameter, ...]
    reply: dict[str, str]

    @property
    def is_query(self) -> bool:
        return self.name.startswith("Query")

    def required_in_body(self) -> list[Parameter]:
        return [p for p in self.params if p.required and p.place == "body"]


def _operation(name: str, entry: dict[str, Any]) -> Operation:
    params = tuple(
        Parameter(n, p["type"], p["in"], p.get("required", False), tuple(p.get("enum", ())))
        for n, p in entry["params"].items()
    )
    return Operation(
        name,
        entry["method"],
        tuple(entry["paths"]),
        entry.get("wrapper"),
        entry["async"],
        params,
        entry["reply"],
    )


OPERATIONS = {name: _operation(name, entry) for name, entry in _CONTENT["operations"].items()}
"""All documented operations."""

SERVED_OPERATIONS = [OPERATIONS[name] for name in sorted(SERVED)]
QUERIES = [operation for operation in SERVED_OPERATIONS if operation.is_query]
CREATES = [operation for operation in SERVED_OPERATIONS if operation.method == "POST"]
WITH_BODY = [operation for operation in SERVED_OPERATIONS if operation.wrapper]
JOBS = [operation for operation in SERVED_OPERATIONS if operation.is_job]
