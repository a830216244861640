"""How jobs have agents take back what they did, again when it failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mn.fleet.client import Endpoint
from mn.rest.services import Services


def undo_task(task_uuid: str) -> str:
    """Return the uuid of the agent's task that undoes another one, the same in every run of the job.

    So an undo that goes on after a crash, or when the agent was away, waits for what is under way already.
    """
    return f"{int(task_uuid, 16) ^ 1:032x}"


@contextmanager
def undoing(services: Services, endpoint: Endpoint, task_uuid: str) -> Iterator[str]:
    """Yield the uuid of the agent's task that undoes another one; once it has ended, the agent forgets it.

    An undo that failed is tried again (`mn.jobs.engine.UNDO_ATTEMPTS`): with its failure forgotten, the agent
    does it again, where it would only repeat what it said. It is for commands that may be done twice.
    """
    task = undo_task(task_uuid)
    try:
        yield task
    finally:
        services.fleet.acknowledge(endpoint, task)
