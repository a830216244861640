"""Errors that several operations on primary storages have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from agentkit.errors import Blame, HardpointError


def refused(details: str, remedy: str) -> HardpointError:
    """Return the error of what is not possible as things are."""
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)


def not_found(details: str) -> HardpointError:
    """Return the error of what does not exist where it is looked for."""
    return HardpointError(
        "SYS.1003", "Resource not found", details, remedy="take a uuid from a Query", blame=Blame.CALLER
    )


def illegal(details: str, remedy: str) -> HardpointError:
    """Return the error of a parameter that does not fit."""
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)


def wrong_type(row: Row[Any], wanted: str) -> HardpointError:
    """Return the error of a storage of another type than the operation is for."""
    return illegal(
        f"primary storage {row.name} ({row.uuid}) is of the type {row.type}, not {wanted}",
        f"name one of the type {wanted}",
    )
