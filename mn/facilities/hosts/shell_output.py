"""What scripts of KvmRunShell printed beyond what its reply holds: fetched whole, kept as long as the job."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta
from sqlalchemy import Connection, select

from agentkit.errors import Blame, HardpointError
from mn.jobs.tables import job_table
from mn.rest.operation import Download, File
from mn.rest.services import Call, Services
from mn.rest.types import Uuid

LOCATION = "/zstack/v1/hosts/kvm/shell-outputs/{job}/{host}/{stream}"


class GetKvmShellOutput(Download, path="/hosts/kvm/shell-outputs/{jobUuid}/{hostUuid}/{stream}"):
    """Fetch all that a script of KvmRunShell printed on a host, when its reply holds only the beginning
    (extension).

    The bytes come as the script printed them. Ranges are served, so that a download can be resumed. While the
    script runs: what has come so far.
    """

    job_uuid: Annotated[Uuid, Meta(description="the uuid of the job of KvmRunShell")]
    host_uuid: Annotated[Uuid, Meta(description="the uuid of the host")]
    stream: Annotated[Literal["stdout", "stderr"], Meta(description="stdout or stderr")]

    async def file(self, call: Call) -> File:
        """Return the file of the stream. Raises HardpointError (SYS.1003) when there is none."""
        path = await call.services.outputs.find(self.job_uuid, self.host_uuid, self.stream)
        if path is None:
            raise HardpointError(
                "SYS.1003",
                "Resource not found",
                f"no {self.stream} of host {self.host_uuid} is kept of the job {self.job_uuid}",
                remedy="what its reply does not hold is kept as long as the job, unless newer output needs "
                "the room; run the script again",
                blame=Blame.CALLER,
            )
        return File(path, f"{self.host_uuid}.{self.stream}")


async def remove_outputs(services: Services) -> None:
    """Remove the output of jobs that are not kept any more."""
    jobs = await services.outputs.jobs()
    known = await services.db.read(_known, jobs)
    await services.outputs.remove([job for job in jobs if job not in known])


def _known(connection: Connection, jobs: list[str]) -> set[str]:
    return set(connection.execute(select(job_table.c.uuid).where(job_table.c.uuid.in_(jobs))).scalars())
