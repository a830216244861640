"""The one error type of Hardpoint and its form on the wire."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Blame(StrEnum):
    """Who can do something about an error."""

    CALLER = "caller"
    SYSTEM = "system"


class ErrorBody(msgspec.Struct, rename="camel", omit_defaults=True):
    """An error as daemons exchange and journal it."""

    code: str
    summary: str
    details: str
    remedy: str = ""
    blame: Blame = Blame.SYSTEM
    cause: ErrorBody | None = None


class HardpointError(Exception):
    """An error a person can act on.

    `code` is one of the API's codes (docs/errors.md), `summary` a short fixed text for the code, `details`
    names the thing and the reason, `remedy` says the next step.
    """

    def __init__(
        self,
        code: str,
        summary: str,
        details: str,
        *,
        remedy: str = "",
        blame: Blame = Blame.SYSTEM,
        cause: HardpointError | None = None,
    ) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.summary = summary
        self.details = details
        self.remedy = remedy
        self.blame = blame
        self.cause = cause

    def to_body(self) -> ErrorBody:
        """Return the wire form."""
        cause = self.cause.to_body() if self.cause else None
        return ErrorBody(self.code, self.summary, self.details, self.remedy, self.blame, cause)

    @classmethod
    def from_body(cls, body: ErrorBody) -> HardpointError:
        """Return the error that `to_body` described."""
        cause = cls.from_body(body.cause) if body.cause else None
        return cls(body.code, body.summary, body.details, remedy=body.remedy, blame=body.blame, cause=cause)
