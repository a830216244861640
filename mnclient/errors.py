"""What can go wrong when a management node is called, as exceptions that say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WRONG_PASSWORD, NO_SESSION = "ID.1000", "ID.1001"
"""Codes of a login that is refused, and of a session that is not live."""


@dataclass(frozen=True)
class ErrorCode:
    """An error as the node answers it; `cause` is the error behind it."""

    code: str
    description: str = ""
    details: str = ""
    elaboration: str | None = None
    opaque: Mapping[str, Any] | None = None
    cause: ErrorCode | None = None
    status: int = 503
    """The HTTP status it came with."""

    def __str__(self) -> str:
        text = f"{self.code}: {self.details or self.description}"
        return f"{text} (cause: {self.cause})" if self.cause else text

    @classmethod
    def parse(cls, raw: object, status: int) -> ErrorCode:
        """Return the error of a reply's body, whatever the body is."""
        error = raw.get("error", raw) if isinstance(raw, Mapping) else raw
        if not isinstance(error, Mapping):
            return cls(f"HTTP.{status}", f"HTTP status {status}", str(error)[:500], status=status)
        cause = error.get("cause")
        return cls(
            code=str(error.get("code", f"HTTP.{status}")),
            description=str(error.get("description", "")),
            details=str(error.get("details", "")),
            elaboration=error.get("elaboration"),
            opaque=error.get("opaque"),
            cause=cls.parse(cause, status) if cause else None,
            status=status,
        )


class HardpointClientError(Exception):
    """Base of all errors of the client."""


class OperationError(HardpointClientError):
    """The node refused an operation, or it failed; `error` says why."""

    def __init__(self, error: ErrorCode) -> None:
        super().__init__(str(error))
        self.error = error


class RequestError(HardpointClientError, ValueError):
    """The request is wrong in itself and was not sent."""


class NotLoggedInError(HardpointClientError):
    """The operation needs a session and there is none."""


class NoAnswerError(HardpointClientError, ConnectionError):
    """The node does not answer. `sent` tells whether it may have got the request."""

    def __init__(self, message: str, *, sent: bool = False, job_uuid: str | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.job_uuid = job_uuid


class JobTimeoutError(HardpointClientError, TimeoutError):
    """The job has not ended in the time given; it goes on."""

    def __init__(self, message: str, job_uuid: str) -> None:
        super().__init__(message)
        self.job_uuid = job_uuid
