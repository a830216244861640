"""How a running VM goes to another host, in steps; when one fails it is where the two hosts say."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol_vms import AdmitVm, AdmitVmReply, DismissVm, MigrateVm
from mn.db.global_settings import MEMORY_RATIO, GlobalSettings
from mn.db.schema import new_uuid
from mn.facilities.hosts.tables import load_host
from mn.facilities.primary_storage.working import token_of
from mn.facilities.vms.allocation import Placed, Wish, choose_host, possible_hosts, recount
from mn.facilities.vms.domain_devices import check_movable, devices_of
from mn.facilities.vms.domain_disks import hindered_by_disks, load_open_disks
from mn.facilities.vms.domains import keep_domain, look_at
from mn.facilities.vms.life import placed
from mn.facilities.vms.tables import State, change_vm, load_vm, vm_in
from mn.facilities.vms.watching import look, settle
from mn.fleet.client import Endpoint
from mn.rest.services import Job, Services

log = logging.getLogger(__name__)


class Terms(msgspec.Struct, frozen=True):
    """How a VM is moved: slowed down if it has to be, standing still for so long (ms) at most at the end."""

    auto_converge: bool = False
    downtime_ms: int | None = None


class Move(msgspec.Struct, frozen=True):
    """From where to where; `admission_uuid` names what the target lets in."""

    uuid: str
    source: Placed
    target: Placed
    admission_uuid: str


async def migrate_vm(job: Job, uuid: str, host_uuid: str | None, terms: Terms) -> None:
    """Move a running VM to a host, or to the one that suits best in its cluster.

    Raises HardpointError: SYS.1003, SYS.1006 for one that does not run, SYS.1007 for the host that it is on,
    VM.1000 when no host can take it.
    """
    services = job.services
    await job.when_undone(settle, services, uuid)
    move = await job.transact(
        begin_migration, uuid, host_uuid, job.uuid_for(f"admission of {uuid}"), services.global_settings
    )
    await move_vm(job, move, terms)


async def move_vm(job: Job, move: Move, terms: Terms) -> None:
    """Move a VM for which `begin_migration` has found a host."""
    services = job.services
    door = await job.step(admit, services, move, undo=dismiss)
    task = job.task_uuid()
    await job.step(send, services, move, door, terms, task, undo=keep)
    await job.transact(end_migration, move, services.global_settings)
    services.fleet.acknowledge(move.source.endpoint, task)
    await job.step(dismiss, services, move)
    await job.step(look, services, move.uuid)


async def give_up(services: Services, move: Move) -> None:
    """Undo what a failed `move_vm` has done: the VM is where it was, or where it has come to."""
    await _abort(services, move)
    await dismiss(services, move)
    await settle(services, move.uuid)


def begin_migration(
    connection: Connection,
    uuid: str,
    host_uuid: str | None,
    admission_uuid: str,
    settings: GlobalSettings,
) -> Move:
    """Choose a host for a running VM and take of its capacity: the VM is Migrating."""
    row = vm_in(connection, uuid, State.RUNNING)
    if host_uuid is not None and host_uuid == row.host_uuid:
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"VM {row.name} ({uuid}) is on host {host_uuid} already",
            remedy="name another host, or none",
            blame=Blame.CALLER,
        )
    check_movable(connection, row)
    source = placed(connection, row)
    host = choose_host(connection, row, _wish(row, host_uuid), settings, _hindered(row))
    change_vm(connection, uuid, state=State.MIGRATING, destination_host_uuid=host.uuid)
    recount(connection, host.uuid, settings[MEMORY_RATIO])
    return Move(uuid, source, Placed(host.uuid, host.agent_address, host.agent_port), admission_uuid)


def load_targets(connection: Connection, uuid: str, settings: GlobalSettings) -> list[str]:
    """Return the uuids of the hosts that a running VM can go to.

    Raises HardpointError: SYS.1003, SYS.1006 for one that does not run.
    """
    row = vm_in(connection, uuid, State.RUNNING)
    return possible_hosts(connection, row, Wish(), settings, _hindered(row))


def _wish(row: Row[Any], host_uuid: str | None) -> Wish:
    return Wish(host_uuid=host_uuid) if host_uuid is not None else Wish(cluster_uuid=row.cluster_uuid)


def _hindered(vm: Row[Any]) -> Any:
    def hindered(connection: Connection, vm_uuid: str, host: Row[Any]) -> str | None:
        if host.uuid == vm.host_uuid:
            return "it runs there"
        if host.hypervisor_type != vm.hypervisor_type:
            return f"its hypervisor is {host.hypervisor_type}, not {vm.hypervisor_type}"
        if devices_of(connection, vm_uuid):
            return "the VM has devices of its host"
        return hindered_by_disks(connection, vm_uuid, host)

    return hindered


def end_migration(connection: Connection, move: Move, settings: GlobalSettings) -> None:
    """Write that a VM runs where it has been moved to."""
    if load_vm(connection, move.uuid) is None:
        return
    host = load_host(connection, move.target.host_uuid)
    cluster = {"cluster_uuid": host.cluster_uuid} if host is not None else {}
    change_vm(
        connection,
        move.uuid,
        state=State.RUNNING,
        host_uuid=move.target.host_uuid,
        last_host_uuid=move.source.host_uuid,
        destination_host_uuid=None,
        **cluster,
    )
    for host_uuid in sorted((move.source.host_uuid, move.target.host_uuid)):
        recount(connection, host_uuid, settings[MEMORY_RATIO])


async def admit(services: Services, move: Move) -> AdmitVmReply:
    """Have the target let the VM in."""
    task = new_uuid()
    token = token_of(services, move.admission_uuid)
    disks = await services.db.read(load_open_disks, move.uuid)
    command = AdmitVm(admission_uuid=move.admission_uuid, token=token, disks=disks)
    reply = await services.fleet.call(move.target.endpoint, command, task)
    services.fleet.acknowledge(move.target.endpoint, task)
    return reply


async def dismiss(services: Services, move: Move) -> None:
    """End that; an agent that does not answer lets nobody in either."""
    task = new_uuid()
    try:
        command = DismissVm(admission_uuid=move.admission_uuid)
        await services.fleet.call(move.target.endpoint, command, task)
    except HardpointError as error:
        log.warning("VM's admission not ended", extra={"vm": move.uuid, "reason": error.details})
        return
    services.fleet.acknowledge(move.target.endpoint, task)


async def send(services: Services, move: Move, door: AdmitVmReply, terms: Terms, task_uuid: str) -> None:
    """Have the source send the VM, and see that it has arrived."""
    at = Endpoint(move.target.host_uuid, move.target.address, door.port)
    command = MigrateVm(
        uuid=move.uuid,
        url=f"https://{at}{door.path}",
        token=token_of(services, move.admission_uuid),
        console_address=door.console_address,
        disks=await services.db.read(load_open_disks, move.uuid),
        auto_converge=terms.auto_converge,
        downtime_ms=terms.downtime_ms,
    )
    report = await services.fleet.call(move.source.endpoint, command, task_uuid)
    if report.vm is None and await look_at(services, move.uuid, move.target.endpoint) is not None:
        return
    raise HardpointError(
        "SYS.1006",
        "Operation failed",
        f"VM {move.uuid} has {'not left' if report.vm else 'left'} host {move.source.host_uuid} and "
        f"does not run on host {move.target.host_uuid}",
        remedy="see the logs of libvirt on both hosts, and start the VM if it is Stopped",
    )


async def keep(services: Services, move: Move, _door: AdmitVmReply, _terms: Terms, _task_uuid: str) -> None:
    """Have the source keep a VM that is on its way."""
    await _abort(services, move)


async def _abort(services: Services, move: Move) -> None:
    try:
        await keep_domain(services, move.uuid, move.source.endpoint)
    except HardpointError as error:
        log.warning("VM's migration not given up", extra={"vm": move.uuid, "reason": error.details})
