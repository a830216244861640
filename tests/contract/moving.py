"""What rows have from agents, which tell of this machine's own file system whenever its free room changes."""

from __future__ import annotations

from typing import Any

REPORTED = {"lastOpDate", "totalCapacity", "availableCapacity"}
REPORTED |= {"totalPhysicalCapacity", "availablePhysicalCapacity", "systemUsedCapacity"}
"""Of rows with a capacity. It may change between two requests."""


def moving(row: dict[str, Any]) -> set[str]:
    """Return the fields of a row that may change by themselves."""
    return REPORTED if "availableCapacity" in row else set()


def still(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without those fields."""
    return [{field: row[field] for field in row.keys() - moving(row)} for row in rows]
