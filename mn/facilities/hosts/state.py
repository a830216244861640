"""ChangeHostState: whether a host takes VMs, and its maintenance."""

from __future__ import annotations

from sqlalchemy import Connection

from agentkit.errors import Blame, HardpointError
from mn.facilities.common import find, inventory
from mn.facilities.hosts.drains import drain_host
from mn.facilities.hosts.reconnect import reconnect_request
from mn.facilities.hosts.tables import HOST, change_host
from mn.facilities.states import check_event, state_after
from mn.rest.operation import Action, Reply
from mn.rest.services import Job, Services
from mn.rest.types import HostStateEvent, Ref

TIMEOUT_S = 24 * 3600.0
MAINTENANCE = ("PreMaintenance", "Maintenance")


class ChangeHostState(Action, path="/hosts/{uuid}/actions", reply=HOST, timeout_s=TIMEOUT_S):
    """Enable or disable a host, or take it into maintenance (manual 4.3.4).

    Maintenance takes everything off the host first. A host that leaves it is reconnected, which goes on when
    this has ended.
    """

    uuid: Ref
    state_event: HostStateEvent

    def check(self) -> None:
        """Refuse what is no event of hosts."""
        check_event(self.state_event, "enable", "disable", "maintain")

    def locks(self) -> tuple[str, ...]:
        """One change of a host at a time."""
        return (f"host/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row; drain the host in between."""
        services, wanted = job.services, state_after(self.state_event)
        before = await job.transact(read_state, self.uuid)
        if wanted == "Maintenance":
            if before != "Maintenance":
                await self._maintain(job, before)
        elif before in MAINTENANCE:
            # It waits for this job's lock, so it finds the state that is written next.
            await job.step(submit_reconnect, services, self.uuid, job.uuid_for("reconnect"))
            await job.transact(leave_maintenance, self.uuid, wanted)
        else:
            await job.transact(write_state, self.uuid, wanted)
        return await inventory(services, HOST, self.uuid)

    async def _maintain(self, job: Job, before: str) -> None:
        await job.transact(begin_maintenance, self.uuid, before, undo=restore_state)
        try:
            await drain_host(job, self.uuid)
        except HardpointError as error:
            raise _not_maintained(self.uuid, error) from error
        await job.transact(write_state, self.uuid, "Maintenance")


def read_state(connection: Connection, uuid: str) -> str:
    """Return a host's state. Raises HardpointError (SYS.1003) when there is no such host."""
    return str(find(connection, HOST, uuid).state)


def write_state(connection: Connection, uuid: str, state: str) -> None:
    """Write a host's state. Raises HardpointError (SYS.1003) when there is no such host."""
    if find(connection, HOST, uuid).state != state:
        change_host(connection, uuid, state=state)


def begin_maintenance(connection: Connection, uuid: str, _before: str) -> None:
    """Write that a host is on its way. Raises HardpointError (SYS.1006) when it is not connected."""
    row = find(connection, HOST, uuid)
    if row.status != "Connected":
        raise _not_connected(row.name, uuid, row.status)
    change_host(connection, uuid, state="PreMaintenance")


def restore_state(connection: Connection, uuid: str, before: str) -> None:
    """Give a host the state that it had; nothing happens when it is gone."""
    change_host(connection, uuid, state=before)


def leave_maintenance(connection: Connection, uuid: str, state: str) -> None:
    """Write the state of a host that is about to be reconnected."""
    find(connection, HOST, uuid)
    # What a reconnect came to before the maintenance says nothing of the host now.
    change_host(connection, uuid, state=state, status="Connecting", reconnect_through=None)


async def submit_reconnect(services: Services, uuid: str, job_uuid: str) -> None:
    """Have the host reconnected by a job of its own; the same again is the same job."""
    await services.engine.submit(reconnect_request(services, uuid, job_uuid, fresh=False))


def _not_connected(name: str, uuid: str, status: str) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"host {name} ({uuid}) is {status}: only a Connected host can be taken into maintenance",
        remedy="reconnect it first; a host that is gone for good is deleted with deleteMode=Enforcing",
        blame=Blame.CALLER,
    )


def _not_maintained(uuid: str, error: HardpointError) -> HardpointError:
    return HardpointError(
        "HOST.1001",
        "Unable to enter maintenance",
        f"host {uuid} was not taken into maintenance and has its old state: {error.details}",
        remedy=error.remedy,
        blame=error.blame,
        cause=error,
    )
