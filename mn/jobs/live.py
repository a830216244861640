"""What is asked for, and the jobs that have not ended as the engine holds them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from agentkit.errors import HardpointError
from mn.jobs.hooks import Hook
from mn.jobs.job import Progress, decode_error
from mn.jobs.tables import JobState


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What makes up a job: `request` is JSON without readable secrets, `digest` tells equal requests.

    `fresh` says that the uuid was made for this request, so that no job can have it yet.
    """

    uuid: str
    operation: str
    request: str
    digest: str
    locks: tuple[str, ...] = ()
    timeout_s: float = 1800
    fresh: bool = False
    hook: Hook | None = None
    is_long: bool = False
    """Whether a long job stands for it, whose state changes with its end."""
    audit: Mapping[str, Any] | None = None
    """The row of the audit log that is written with the job and finished with it."""


@dataclass
class Live:
    """A job that has not ended, as the engine holds it in memory."""

    request: JobRequest
    state: JobState
    deadline: float
    progress: Progress = field(default_factory=Progress)
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the job is on disk, or could not be written and is gone (`refused`)."""
    refused: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)
    failure: HardpointError | None = None
    work: asyncio.Future[Any] | None = None
    result: Any = None
    locked: bool = False
    """Whether it holds its locks."""
    cancelled: bool = False
    """Whether `cancel` wants it to end."""
    replaying: bool = False
    """Whether it is run again over what its journal holds: nothing interrupts that, or what it has done would
    not be undone.
    """

    def interrupt(self) -> None:
        """End the work, unless it is replaying: then at the first step that is new."""
        if self.cancelled and self.work and not self.replaying:
            self.work.cancel()

    def replayed(self) -> None:
        """A new step begins."""
        if self.replaying:
            self.replaying = False
            self.interrupt()

    def read(self, row: Row[Any]) -> None:
        """Take over what the journal says of it, before it is run over what its journal holds."""
        self.state = JobState(row.state)
        self.replaying = self.state is not JobState.QUEUED
        self.cancelled = self.cancelled or row.cancelled
        self.failure = decode_error(row.error) if row.error is not None else None
