"""VMs leave a host before its maintenance, or before it is deleted: they are moved, or stopped."""

from __future__ import annotations

import logging

import msgspec
from sqlalchemy import Connection, select

from agentkit.errors import HardpointError
from mn.db.global_settings import MAINTENANCE_POLICY, GlobalSettings
from mn.facilities.hosts.drains import drained_by, forgotten_by
from mn.facilities.vms.life import stop_vm
from mn.facilities.vms.migration import Move, Terms, begin_migration, give_up, move_vm
from mn.facilities.vms.tables import ON_HOST, State, change_vm, vm_table
from mn.facilities.vms.watching import settle
from mn.rest.services import Job

log = logging.getLogger(__name__)


class Leaving(msgspec.Struct, frozen=True):
    """The VMs that have to leave a host; `may_stop`: one that cannot be moved is stopped."""

    uuids: list[str]
    may_stop: bool


def load_leaving(connection: Connection, host_uuid: str, settings: GlobalSettings) -> Leaving:
    """Return what has to leave a host."""
    vms = vm_table.c
    there = (vms.host_uuid == host_uuid) & vms.state.in_(ON_HOST)
    uuids = connection.execute(select(vms.uuid).where(there).order_by(vms.seq)).scalars().all()
    return Leaving(list(uuids), settings[MAINTENANCE_POLICY] == 0)


async def empty_host(job: Job, host_uuid: str) -> None:
    """Have a host's VMs leave it, one after the other. Raises HardpointError when one cannot."""
    leaving = await job.transact(load_leaving, host_uuid, job.services.global_settings)
    for number, uuid in enumerate(leaving.uuids):
        failure = await _moved(job, uuid)
        if failure is not None and not leaving.may_stop:
            raise failure
        if failure is not None:
            await stop_vm(job, uuid, cold=False)
        job.at(90 * (number + 1) // len(leaving.uuids))


async def _moved(job: Job, uuid: str) -> HardpointError | None:
    """Move a VM to the host that suits best; return why it is where it was."""
    services, admission = job.services, job.uuid_for(f"admission of {uuid}")
    move: Move | None = None
    try:
        await job.when_undone(settle, services, uuid)
        move = await job.transact(begin_migration, uuid, None, admission, services.global_settings)
        await move_vm(job, move, Terms(auto_converge=True))
    except HardpointError as error:
        if move is not None:
            await job.step(give_up, services, move)
        log.info("VM not moved", extra={"vm": uuid, "reason": error.details})
        return error
    return None


def forget_vms(connection: Connection, host_uuid: str) -> None:
    """Write that a host's VMs are stopped: the host is gone. One that was leaving it may be where it went."""
    vms = vm_table.c
    for row in connection.execute(select(vm_table).where(vms.host_uuid == host_uuid)).all():
        other = row.destination_host_uuid
        state = State.STOPPED if other is None else State.UNKNOWN
        left = {"host_uuid": other, "last_host_uuid": host_uuid, "destination_host_uuid": None}
        change_vm(connection, row.uuid, state=state, **left)
    coming = select(vms.uuid).where(vms.destination_host_uuid == host_uuid)
    for uuid in connection.execute(coming).scalars().all():
        change_vm(connection, uuid, destination_host_uuid=None)


drained_by(empty_host)
forgotten_by(forget_vms)
