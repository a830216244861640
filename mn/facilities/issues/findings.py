"""What a check is: a function of a connection that returns what it finds wrong, registered by its code.

    @check("HOST.DISCONNECTED", "Host", severity=CRITICAL, operation="ReconnectHost", remedy="...")
    def find_lost_hosts(connection: Connection) -> list[Finding]:
        '''Find hosts that do not answer.'''

A check reads the database only. What it returns is an issue from the moment it first does until it no longer
does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from mn.db.schema import uuid_from

CRITICAL, WARNING = "Critical", "Warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    `evidence` says how it shows. `part` tells findings of one check and one resource apart.
    """

    resource_uuid: str
    resource_name: str
    evidence: str
    part: str = ""


Find = Callable[[Connection], list[Finding]]


@dataclass(frozen=True)
class Check:
    """A kind of issue. `operation` is the operation of the API that mends it, `remedy` says what helps."""

    code: str
    resource_type: str
    severity: str
    operation: str
    remedy: str
    find: Find

    def uuid(self, finding: Finding) -> str:
        """Return the uuid of a finding's issue: the same whenever it comes up."""
        subject = f"{self.code}/{finding.resource_uuid}/{finding.part}"
        return uuid_from(hashlib.sha256(subject.encode()).digest())


_checks: dict[str, Check] = {}


def check(
    code: str, resource_type: str, *, severity: str, operation: str, remedy: str
) -> Callable[[Find], Find]:
    """Register a function as the check of a code. Raises TypeError when another one has it."""

    def register(find: Find) -> Find:
        if code in _checks:
            raise TypeError(f"two checks for {code}: {_checks[code].find.__module__}, {find.__module__}")
        _checks[code] = Check(code, resource_type, severity, operation, remedy, find)
        return find

    return register


def known_checks() -> dict[str, Check]:
    """Return the checks by code."""
    return _checks
