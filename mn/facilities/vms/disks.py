"""The disks of VMs: where VMs and volumes meet. Data volumes are attached, detached, and told to hosts."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol_vms import AttachVmDisk, DetachVmDisk
from mn.facilities.common import inventory
from mn.facilities.hosts.tables import load_host
from mn.facilities.primary_storage.connecting import usable_hosts
from mn.facilities.primary_storage.tables import storages_of_cluster
from mn.facilities.undoing import undoing
from mn.facilities.vms.allocation import Placed
from mn.facilities.vms.domain_devices import plugging
from mn.facilities.vms.domain_disks import load_disks
from mn.facilities.vms.life import placed
from mn.facilities.vms.tables import ON_HOST, VM, State, load_vm, vm_in
from mn.facilities.vms.watching import load_endpoint
from mn.facilities.volumes.life import (
    begin_detaching,
    disks_of,
    end_detaching,
    instantiate_volume,
    note_attached,
    note_detached,
)
from mn.facilities.volumes.tables import VOLUME, load_volume
from mn.facilities.volumes.use import detached_volume, vms_run_by
from mn.fleet.client import Endpoint
from mn.query.resource import Relation
from mn.rest.operation import Delete, Post, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Uuid

DATA_VOLUMES_MOST = 24
PATIENCE_S = 60.0
TIMEOUT_S = 3600.0

VM.relations["allVolumes"] = Relation(lambda: VOLUME, "uuid", "vmInstanceUuid")
VM.relations["rootVolume"] = Relation(lambda: VOLUME, "rootVolumeUuid", "uuid")
VM.lists["allVolumes"] = VM.relations["allVolumes"]
VOLUME.relations["vmInstance"] = Relation(lambda: VM, "vmInstanceUuid", "uuid")


class Attachment(msgspec.Struct, frozen=True):
    """A volume that a VM is to have at a place of its own; `at` is where the VM runs, None when it does not.

    `storage_uuid` and `host_uuid` say where a volume that is on no storage yet is to be made.
    """

    device_id: int
    at: Placed | None
    storage_uuid: str | None
    host_uuid: str | None


class Detachment(msgspec.Struct, frozen=True):
    """The VM that is to lose a volume; `at` is where it runs, None when it does not."""

    vm_uuid: str
    at: Placed | None


class Elsewhere(msgspec.Struct, frozen=True):
    """Where a VM is that was not where it was asked for; None: nowhere."""

    at: Placed | None


class AttachDataVolumeToVm(
    Post, path="/volumes/{volumeUuid}/vm-instances/{vmInstanceUuid}", reply=VOLUME, timeout_s=TIMEOUT_S
):
    """Give a VM a data volume, at once when it runs; one that is on no storage yet is made."""

    volume_uuid: Uuid
    vm_instance_uuid: Uuid

    def locks(self) -> tuple[str, ...]:
        """One change of a VM, and of a volume, at a time."""
        return (f"vm/{self.vm_instance_uuid}", f"volume/{self.volume_uuid}")

    async def run(self, job: Job) -> Reply:
        """Make it where need be, write it, plug it in; a failure takes all of it back."""
        services, volume, vm = job.services, self.volume_uuid, self.vm_instance_uuid
        wanted = await job.transact(check_attachment, volume, vm)
        if wanted.storage_uuid is not None:
            await instantiate_volume(job, volume, wanted.storage_uuid, wanted.host_uuid)
        job.at(50)
        await job.transact(attach_volume, volume, vm, wanted.device_id, undo=detach_volume)
        if wanted.at is not None:
            task = job.task_uuid()
            await job.step(plug, services, volume, vm, wanted.at.endpoint, task, undo=unplug_again)
            services.fleet.acknowledge(wanted.at.endpoint, task)
        return await inventory(services, VOLUME, volume)


class DetachDataVolumeFromVm(Delete, path="/volumes/{uuid}/vm-instances", reply=VOLUME, timeout_s=TIMEOUT_S):
    """Take a data volume from its VM; a running VM has to let go of it."""

    uuid: Uuid
    vm_uuid: Uuid | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of a volume at a time, and of the VM where it is named."""
        vm = (f"vm/{self.vm_uuid}",) if self.vm_uuid is not None else ()
        return (*vm, f"volume/{self.uuid}")

    async def run(self, job: Job) -> Reply:
        """Write that no start brings it back, unplug it, then write that it is free.

        What starts, stops and moves the VM does not wait for that, so the VM is followed to where it is.
        """
        services, volume = job.services, self.uuid
        vm = (await job.transact(check_detachment, volume, self.vm_uuid)).vm_uuid
        await job.when_undone(plug_again, services, volume, vm, job.task_uuid())
        at = (await job.transact(release_volume, volume, vm, undo=keep_volume)).at
        job.at(30)
        while at is not None:
            task = job.task_uuid()
            there = await job.step(unplug, services, volume, vm, at.endpoint, task)
            services.fleet.acknowledge(at.endpoint, task)
            at = None if there else (await job.transact(find_elsewhere, vm, at.host_uuid)).at
        await job.transact(detach_volume, volume)
        return await inventory(services, VOLUME, volume)


def has_disks_open(connection: Connection, vm_uuid: str) -> bool:
    """Say whether a VM may be using its disks."""
    row = load_vm(connection, vm_uuid)
    return row is not None and row.state in ON_HOST


def check_attachment(connection: Connection, volume_uuid: str, vm_uuid: str) -> Attachment:
    """Return how a volume is to be attached.

    Raises HardpointError: SYS.1003, VOLUME.1000, SYS.1006 for a volume that a VM has, a VM that is busy or
    full, or a host that cannot use the volume.
    """
    vm = vm_in(connection, vm_uuid, State.RUNNING, State.PAUSED, State.STOPPED, State.CREATED)
    volume = detached_volume(connection, volume_uuid, "Ready", "NotInstantiated")
    if volume.state != "Enabled":
        raise _refused(f"volume {volume.name} ({volume_uuid}) is {volume.state}", "enable it first")
    device_id = _free_place(connection, vm)
    at = placed(connection, vm) if vm.host_uuid is not None else None
    host_uuid = vm.host_uuid or vm.last_host_uuid
    if volume.status == "NotInstantiated":
        return Attachment(device_id, at, _storage_for(connection, vm, host_uuid), host_uuid)
    if at is not None:
        if volume.host_uuid not in (None, at.host_uuid):
            details = (
                f"volume {volume.name} ({volume_uuid}) is on the local storage of host {volume.host_uuid}"
            )
            raise _refused(
                f"{details}, VM {vm.name} ({vm_uuid}) runs on {at.host_uuid}", "migrate the volume"
            )
        _check_usable(connection, volume.primary_storage_uuid, at.host_uuid)
    return Attachment(device_id, at, None, None)


def _free_place(connection: Connection, vm: Row[Any]) -> int:
    used = {disk.device_id for disk in disks_of(connection, vm.uuid)}
    free = next((n for n in range(1, DATA_VOLUMES_MOST + 1) if n not in used), None)
    if free is None:
        details = f"VM {vm.name} ({vm.uuid}) has {DATA_VOLUMES_MOST} data volumes already"
        raise _refused(details, "detach one of them")
    return free


def _storage_for(connection: Connection, vm: Row[Any], host_uuid: str | None) -> str:
    """Return the first storage of the VM's cluster that its host can use."""
    if vm.cluster_uuid is not None:
        for storage in storages_of_cluster(connection, vm.cluster_uuid):
            hosts = [host.uuid for host in usable_hosts(connection, storage)]
            if host_uuid in hosts:
                return storage
    raise _refused(
        f"no primary storage can have the volume for VM {vm.name} ({vm.uuid})",
        "start the VM once, and attach a primary storage to its cluster; or create the volume on one",
    )


def _check_usable(connection: Connection, storage_uuid: str, host_uuid: str) -> None:
    if host_uuid not in {host.uuid for host in usable_hosts(connection, storage_uuid)}:
        details = f"host {host_uuid} cannot use primary storage {storage_uuid} now"
        raise _refused(details, "attach the storage to the host's cluster, or reconnect it")


def attach_volume(connection: Connection, volume_uuid: str, vm_uuid: str, device_id: int) -> None:
    """Write that a volume is a VM's. Raises HardpointError as `check_attachment` does."""
    vm_in(connection, vm_uuid, State.RUNNING, State.PAUSED, State.STOPPED, State.CREATED)
    detached_volume(connection, volume_uuid, "Ready")
    note_attached(connection, volume_uuid, vm_uuid, device_id)


def check_detachment(connection: Connection, volume_uuid: str, vm_uuid: str | None) -> Detachment:
    """Return how a volume is to be detached. Raises HardpointError (SYS.1003, SYS.1006)."""
    volume = load_volume(connection, volume_uuid)
    if volume is None or volume.vm_instance_uuid is None or volume.type == "Root":
        details = f"volume {volume_uuid} is no data volume that is attached to a VM"
        raise _refused(details, "see its vmInstanceUuid")
    if vm_uuid not in (None, volume.vm_instance_uuid):
        details = (
            f"volume {volume.name} ({volume_uuid}) is attached to VM {volume.vm_instance_uuid}, not {vm_uuid}"
        )
        raise _refused(details, "name that VM, or none")
    states = (State.RUNNING, State.PAUSED, State.STOPPED, State.CREATED, State.DESTROYED)
    vm = vm_in(connection, volume.vm_instance_uuid, *states)
    at = placed(connection, vm) if vm.host_uuid is not None else None
    return Detachment(vm.uuid, at)


def release_volume(connection: Connection, volume_uuid: str, vm_uuid: str) -> Detachment:
    """Write that a VM is to let go of a volume, and return where it runs.

    Raises HardpointError (SYS.1003, SYS.1006, VOLUME.1000), also when a job has come to be at one of them.
    """
    wanted = check_detachment(connection, volume_uuid, vm_uuid)
    begin_detaching(connection, volume_uuid)
    return wanted


def keep_volume(connection: Connection, volume_uuid: str, _vm_uuid: str) -> None:
    """Write that a VM keeps a volume after all."""
    end_detaching(connection, volume_uuid)


def detach_volume(connection: Connection, volume_uuid: str, *_: object) -> None:
    """Write that a volume is no VM's."""
    note_detached(connection, volume_uuid)
    end_detaching(connection, volume_uuid)


def find_elsewhere(connection: Connection, vm_uuid: str, host_uuid: str) -> Elsewhere:
    """Return where else a VM may run that was not found on a host: it has moved, or is just moving."""
    vm = load_vm(connection, vm_uuid)
    if vm is None or vm.destination_host_uuid == host_uuid:
        return Elsewhere(None)
    other = vm.destination_host_uuid if vm.host_uuid == host_uuid else vm.host_uuid
    host = load_host(connection, other) if other is not None else None
    if host is None or host.agent_port is None:
        return Elsewhere(None)
    return Elsewhere(Placed(host.uuid, host.agent_address, host.agent_port))


def detach_all(connection: Connection, vm_uuid: str) -> None:
    """Write that a VM has no data volumes any more: it goes, they stay."""
    for disk in disks_of(connection, vm_uuid):
        if disk.type != "Root":
            note_detached(connection, disk.volume_uuid)


async def plug(
    services: Services, volume_uuid: str, vm_uuid: str, endpoint: Endpoint, task_uuid: str
) -> None:
    """Have a VM's host plug a volume in. Raises HardpointError (SYS.1006) with what the host says."""
    async with plugging.of(vm_uuid):
        disks = await services.db.read(load_disks, vm_uuid)
        disk = next((disk for disk in disks if disk.volume_uuid == volume_uuid), None)
        if disk is None:
            raise _refused(f"volume {volume_uuid} is not VM {vm_uuid}'s any more", "attach it again")
        await services.fleet.call(endpoint, AttachVmDisk(uuid=vm_uuid, disk=disk), task_uuid)


async def unplug(
    services: Services, volume_uuid: str, vm_uuid: str, endpoint: Endpoint, task_uuid: str
) -> bool:
    """Have a VM's host take a volume from it; return whether the VM runs there."""
    command = DetachVmDisk(uuid=vm_uuid, volume_uuid=volume_uuid, patience_s=PATIENCE_S)
    async with plugging.of(vm_uuid):
        report = await services.fleet.call(endpoint, command, task_uuid)
    return report.vm is not None


async def plug_again(services: Services, volume_uuid: str, vm_uuid: str, task_uuid: str) -> None:
    """Have a running VM have its volume, which is its own again."""
    endpoint = await services.db.read(load_keeper, volume_uuid, vm_uuid)
    if endpoint is not None:
        with undoing(services, endpoint, task_uuid) as task:
            await plug(services, volume_uuid, vm_uuid, endpoint, task)


def load_keeper(connection: Connection, volume_uuid: str, vm_uuid: str) -> Endpoint | None:
    """Return where a VM runs that has a volume; None when it has it not, or does not run.

    Raises HardpointError (SYS.1006) when its host cannot be asked: the VM may let go of the volume yet.
    """
    vm = load_vm(connection, vm_uuid)
    if vm is None or vm.state not in (State.RUNNING, State.PAUSED, State.UNKNOWN):
        return None
    if all(disk.volume_uuid != volume_uuid for disk in load_disks(connection, vm_uuid)):
        return None
    endpoint = load_endpoint(connection, vm.host_uuid)
    if endpoint is None:
        raise _refused(
            f"VM {vm.name} ({vm_uuid}) may lose volume {volume_uuid} yet, as its host {vm.host_uuid} is away",
            "when the host is back, see whether the VM has it; if not, detach it and attach it again",
        )
    return endpoint


async def unplug_again(
    services: Services, volume_uuid: str, vm_uuid: str, endpoint: Endpoint, task_uuid: str
) -> None:
    """Have a VM not have a volume after all."""
    with undoing(services, endpoint, task_uuid) as task:
        await unplug(services, volume_uuid, vm_uuid, endpoint, task)


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)


vms_run_by(has_disks_open)
