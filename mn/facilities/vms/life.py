"""How VMs start and stop, in steps; a step that fails leaves the row with what the host then shows."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from agentkit.errors import HardpointError
from mn.db.global_settings import MEMORY_RATIO, VM_PATIENCE, GlobalSettings
from mn.facilities.hosts.tables import load_host
from mn.facilities.vms.allocation import Placed, Wish, place_vm, recount
from mn.facilities.vms.domains import start_domain, stop_domain, take_power
from mn.facilities.vms.tables import State, change_vm, load_vm, vm_in
from mn.facilities.vms.watching import look, settle
from mn.rest.services import Job

RUNNING = (State.RUNNING, State.PAUSED, State.UNKNOWN)
DOWN = (State.CREATED, State.STOPPED)


class Going(msgspec.Struct, frozen=True):
    """Where a VM is to stop: nowhere when it does not run, at both hosts when it was lost between them."""

    at: list[Placed]


async def start_vm(job: Job, uuid: str, wish: Wish) -> None:
    """Start a VM that does not run on a host with room for it."""
    services = job.services
    await job.when_undone(settle, services, uuid)
    at = await job.transact(place_vm, uuid, wish, services.global_settings)
    await _start(job, uuid, at)
    await job.step(look, services, uuid)


async def stop_vm(job: Job, uuid: str, *, cold: bool) -> None:
    """Stop a VM; one that does not run is stopped already."""
    services = job.services
    await job.when_undone(settle, services, uuid)
    going = await job.transact(begin_stop, uuid, State.STOPPING)
    for at in going.at:
        await _stop(job, uuid, at, cold=cold)
    if going.at:
        await job.transact(end_stop, uuid, services.global_settings)


async def reboot_vm(job: Job, uuid: str) -> None:
    """Stop a running VM and start it on the same host."""
    services = job.services
    await job.when_undone(settle, services, uuid)
    at = await job.transact(begin_reboot, uuid)
    await _stop(job, uuid, at, cold=False)
    job.at(50)
    await _start(job, uuid, at)
    await job.step(look, services, uuid)


async def _start(job: Job, uuid: str, at: Placed) -> None:
    services, task = job.services, job.task_uuid()
    await job.step(start_domain, services, uuid, at, task, undo=take_power)
    await job.transact(end_start, uuid)
    services.fleet.acknowledge(at.endpoint, task)


async def _stop(job: Job, uuid: str, at: Placed, *, cold: bool) -> None:
    services, task = job.services, job.task_uuid()
    patience = 0.0 if cold else services.global_settings[VM_PATIENCE]
    await job.step(stop_domain, services, uuid, at, patience, task)
    services.fleet.acknowledge(at.endpoint, task)


def begin_stop(connection: Connection, uuid: str, state: State) -> Going:
    """Write that a VM is on its way down. Raises HardpointError (SYS.1003, SYS.1006)."""
    row = vm_in(connection, uuid, *RUNNING, *DOWN)
    if row.state in DOWN or row.host_uuid is None:
        return Going([])
    at = [placed(connection, row)]
    if row.destination_host_uuid is not None:  # after its source, which then sends it no more
        at.append(placed(connection, row, row.destination_host_uuid))
    change_vm(connection, uuid, state=state)
    return Going(at)


def begin_reboot(connection: Connection, uuid: str) -> Placed:
    """Write that a running VM is on its way down and up. Raises HardpointError (SYS.1003, SYS.1006)."""
    row = vm_in(connection, uuid, State.RUNNING, State.PAUSED)
    change_vm(connection, uuid, state=State.REBOOTING)
    return placed(connection, row)


def end_start(connection: Connection, uuid: str) -> None:
    """Write that a VM runs. Raises HardpointError (SYS.1003, SYS.1006) when its host was deleted."""
    vm_in(connection, uuid, State.STARTING, State.REBOOTING)
    change_vm(connection, uuid, state=State.RUNNING)


def end_stop(connection: Connection, uuid: str, settings: GlobalSettings) -> None:
    """Write that a VM is stopped, and give its hosts their capacity back."""
    row = load_vm(connection, uuid)
    if row is None:
        return
    gone = {"host_uuid": None, "last_host_uuid": row.host_uuid, "destination_host_uuid": None}
    change_vm(connection, uuid, state=State.STOPPED, **gone)
    for host_uuid in sorted({row.host_uuid, row.destination_host_uuid} - {None}):
        recount(connection, host_uuid, settings[MEMORY_RATIO])


def placed(connection: Connection, row: Row[Any], host_uuid: str | None = None) -> Placed:
    """Return where a VM is, or may be. Raises HardpointError (SYS.1006) when its host is gone."""
    host_uuid = host_uuid or row.host_uuid
    host = load_host(connection, host_uuid)
    if host is None or host.agent_port is None:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"VM {row.name} ({row.uuid}) is on host {host_uuid}, which is not there",
            remedy="delete the VM with deleteMode=Enforcing",
        )
    return Placed(host.uuid, host.agent_address, host.agent_port)
