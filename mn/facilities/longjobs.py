"""Long jobs: an operation that is submitted, looked after and cancelled by a row of its own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, delete

from agentkit.errors import Blame, HardpointError
from mn.db.schema import now_s
from mn.facilities.common import add, find, inventory
from mn.jobs.engine import journalled_locks
from mn.jobs.live import JobRequest
from mn.jobs.tables import LONG_GOING_ON, LongJobState, long_job_table
from mn.query.resource import Resource
from mn.rest.operation import Action, Create, Delete, Get, JobOperation, Operation, Query, Reply, registry
from mn.rest.parameters import bind
from mn.rest.services import Call, Job, Services
from mn.rest.types import Description, Name, Ref, Secret, Text, Uuid

LONG_JOB = Resource("LongJob", long_job_table)

LONG_TIMEOUT_S = 24 * 3600.0


class SubmitLongJob(Create, path="/longjobs", reply=LONG_JOB):
    """Begin an operation as a long job; the answer is its row, not its end."""

    job_name: Annotated[Text, Meta(description="the operation, AddKVMHost or APIAddKVMHostMsg")]
    job_data: Annotated[Secret, Meta(description="the operation's parameters, a JSON object")]
    name: Name | None = None
    description: Description | None = None
    target_resource_uuid: Ref | None = None

    def check(self) -> None:
        """Refuse operations that cannot be jobs and parameters that they do not take."""
        _operation(self)

    async def run(self, job: Job) -> Reply:
        """Insert the row, submit the operation."""
        uuid = self.resource_uuid or job.uuid_for("long job")
        api_id = job.uuid_for("api")
        return await begin_long_job(job, uuid, api_id, self, _operation(self))


class CancelLongJob(Action, path="/longjobs/{uuid}/actions"):
    """Cancel a long job: what it has done is undone. One that has ended stays as it is.

    Until it has ended its state is Canceling.
    """

    uuid: Ref

    async def run(self, job: Job) -> Reply:
        """Cancel the job and wait for its end."""
        api_id = await job.transact(find_api_id, self.uuid)
        await job.step(job.services.engine.cancel, api_id)
        return {}


class DeleteLongJob(Delete, path="/longjobs/{uuid}"):
    """Forget a long job that has ended."""

    uuid: Uuid

    async def run(self, job: Job) -> Reply:
        """Delete the row; one that is gone is no fault."""
        await job.transact(delete_long_job, self.uuid)
        return {}


class QueryLongJob(Query, path=("/longjobs", "/longjobs/{uuid}"), reply=LONG_JOB):
    """Query long jobs."""


class TaskProgress(msgspec.Struct, rename="camel"):
    """How far a job is."""

    task_uuid: Annotated[str, Meta(description="UUID of the job")]
    task_name: Annotated[str, Meta(description="its operation")]
    type: Annotated[str, Meta(description="Progress")]
    content: Annotated[str, Meta(description="percent that are done")]
    opaque: Annotated[dict[str, str], Meta(description="the step it is in and its state")]
    time: Annotated[int, Meta(description="milliseconds since 1970 when this was so")]


class GetTaskProgress(
    Get,
    path="/task-progresses/{apiId}",
    returns={
        "inventories": Annotated[list[TaskProgress], Meta(description="the job, none when there is none")]
    },
):
    """Say how far a job is: `apiId` is the uuid of its location, or a long job's `apiId`."""

    api_id: Ref

    async def answer(self, call: Call) -> Reply:
        """Ask the engine."""
        status = await call.services.engine.status(self.api_id)
        if status is None:
            return {"inventories": []}
        opaque = {"state": status.state.value, "step": status.progress.step}
        percent = str(status.progress.percent)
        now_ms = now_s() * 1000
        return {
            "inventories": [TaskProgress(status.uuid, status.operation, "Progress", percent, opaque, now_ms)]
        }


async def begin_long_job(
    job: Job, uuid: str, api_id: str, request: Operation, operation: JobOperation
) -> Reply:
    """Begin `operation` as a long job that `request` asked for, and return its inventory, not its end.

    `request` may say a name, a description and what it acts on.
    """
    values = {
        "uuid": uuid,
        "name": getattr(request, "name", None) or operation.spec.name,
        "description": getattr(request, "description", None),
        "api_id": api_id,
        "job_name": f"API{operation.spec.name}Msg",
        "job_data": msgspec.json.encode(operation, enc_hook=_starred).decode(),
        "state": LongJobState.RUNNING,
        "target_resource_uuid": getattr(request, "target_resource_uuid", None),
    }
    await job.transact(insert_long_job, values, request, undo=remove_long_job)
    await job.step(submit, job.services, api_id, operation.long_form())
    return await inventory(job.services, LONG_JOB, uuid)


def insert_long_job(connection: Connection, values: dict[str, Any], request: Operation) -> None:
    """Insert the row of a long job that runs. Raises HardpointError (SYS.1007) when its uuid is taken."""
    add(connection, LONG_JOB, values, request)


def remove_long_job(connection: Connection, values: dict[str, Any], _request: Operation) -> None:
    """Remove the row of a long job that was not submitted."""
    connection.execute(delete(long_job_table).where(long_job_table.c.uuid == values["uuid"]))


async def submit(services: Services, api_id: str, operation: JobOperation) -> None:
    """Submit the operation; the same again is the same job."""
    codec = services.codec
    request = JobRequest(
        api_id,
        operation.spec.name,
        codec.encode(operation),
        codec.digest(operation),
        journalled_locks(operation.locks()),
        max(LONG_TIMEOUT_S, operation.spec.timeout_s),
        is_long=True,
    )
    await services.engine.submit(request)


def find_api_id(connection: Connection, uuid: str) -> str:
    """Return the uuid of a long job's job. Raises HardpointError (SYS.1003) when there is none."""
    return str(find(connection, LONG_JOB, uuid).api_id)


def delete_long_job(connection: Connection, uuid: str) -> None:
    """Delete a long job's row. Raises HardpointError (SYS.1006) while it runs."""
    table = long_job_table
    ended = table.c.state.not_in(LONG_GOING_ON)
    if connection.execute(delete(table).where(table.c.uuid == uuid, ended)).rowcount:
        return
    running = connection.execute(table.select().where(table.c.uuid == uuid)).first()
    if running is not None:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"long job {running.name} ({uuid}) has not ended",
            remedy="cancel it, or wait until it has ended",
            blame=Blame.CALLER,
        )


def _operation(wanted: SubmitLongJob) -> JobOperation:
    """Return the operation that a long job is to be."""
    name = wanted.job_name.removeprefix("API").removesuffix("Msg")
    kind = registry.get(name)
    if kind is None or not issubclass(kind, JobOperation) or kind is SubmitLongJob:
        raise _bad(f"jobName '{wanted.job_name}' is no operation that can be a long job")
    try:
        data = msgspec.json.decode(wanted.job_data.text)
    except msgspec.DecodeError as error:
        raise _bad(f"jobData is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise _bad("jobData is no JSON object")
    bound = bind(kind, data, lax=False)
    assert isinstance(bound, JobOperation)  # noqa: S101 - kind is a subclass
    return bound


def _bad(details: str) -> HardpointError:
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"SubmitLongJob: {details}",
        remedy="give the name of an asynchronous operation, and its parameters as a JSON object",
        blame=Blame.CALLER,
    )


def _starred(value: Any) -> str:
    return "*****" if isinstance(value, Secret) else str(value.text)
