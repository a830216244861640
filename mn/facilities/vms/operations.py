"""Operations on VMs that exist."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from agentkit.errors import Blame, HardpointError
from mn.db.global_settings import GlobalSettings
from mn.db.schema import now_s
from mn.facilities.cascade import child_of, delete_tree
from mn.facilities.common import DeletionMode, change, find, inventory
from mn.facilities.hosts.tables import HOST
from mn.facilities.instance_offerings import CpuNum, MemorySize
from mn.facilities.vms.allocation import Placed, Wish
from mn.facilities.vms.create import give_back_addresses
from mn.facilities.vms.disks import detach_all
from mn.facilities.vms.domain_devices import release_devices
from mn.facilities.vms.domains import CONSOLE_PASSWORD_FOR, look_at
from mn.facilities.vms.life import DOWN, RUNNING, reboot_vm, start_vm, stop_vm
from mn.facilities.vms.migration import Terms, load_targets, migrate_vm
from mn.facilities.vms.tables import VM, VM_NIC, State, change_vm, load_vm, nics_of, vm_in
from mn.facilities.volumes.life import drop_volume, expunge_volume
from mn.facilities.zones import ZONE
from mn.query.plan import load_one
from mn.rest.operation import Action, Delete, Get, Query, Reply
from mn.rest.services import Call, Job
from mn.rest.types import Description, Name, Ref, Uuid

MIGRATION_TIMEOUT_S = 24 * 3600.0
DownTime = Annotated[int, Meta(ge=1, le=60_000, description="milliseconds, a whole number from 1 to 60000")]
Platform = Literal["Linux", "Windows", "Other", "Paravirtualization", "WindowsVirtio"]


class QueryVmInstance(Query, path=("/vm-instances", "/vm-instances/{uuid}"), reply=VM):
    """Query VMs, each with its NICs."""


class QueryVmNic(Query, path=("/vm-instances/nics", "/vm-instances/nics/{uuid}"), reply=VM_NIC):
    """Query NICs of VMs."""


class _OnVm(Action):
    uuid: Ref

    def locks(self) -> tuple[str, ...]:
        """One change of a VM at a time."""
        return (f"vm/{self.uuid}",)


class StartVmInstance(_OnVm, path="/vm-instances/{uuid}/actions", reply=VM):
    """Start a VM on a host that has room for it."""

    cluster_uuid: Ref | None = None
    host_uuid: Ref | None = None

    async def run(self, job: Job) -> Reply:
        """Choose a host, start it there."""
        await start_vm(job, self.uuid, Wish(None, self.cluster_uuid, self.host_uuid))
        return await inventory(job.services, VM, self.uuid)


class StopVmInstance(_OnVm, path="/vm-instances/{uuid}/actions", reply=VM):
    """Stop a VM by its power button, and by force when it does not obey; `cold`: by force at once."""

    type: Literal["grace", "cold"] = "grace"
    stop_HA: Literal["true"] | None = None  # noqa: N815

    async def run(self, job: Job) -> Reply:
        """Stop it."""
        await stop_vm(job, self.uuid, cold=self.type == "cold")
        return await inventory(job.services, VM, self.uuid)


class RebootVmInstance(_OnVm, path="/vm-instances/{uuid}/actions", reply=VM):
    """Stop a running VM and start it on the same host."""

    async def run(self, job: Job) -> Reply:
        """Stop it, start it."""
        await reboot_vm(job, self.uuid)
        return await inventory(job.services, VM, self.uuid)


class MigrateVm(
    Action, path="/vm-instances/{vmInstanceUuid}/actions", reply=VM, timeout_s=MIGRATION_TIMEOUT_S
):
    """Move a running VM to another host without stopping it: to the one named, or to one of its cluster.

    All its volumes have to be on storage that both hosts share. With `strategy` auto-converge a VM is slowed
    down that changes its memory faster than it is copied; `downTime` is for how many milliseconds it may
    stand still at the end. `migrateFromDestination` and `allowUnknown` are taken and change nothing: the
    hosts' agents do the work together, and what is Unknown cannot be moved.
    """

    vm_instance_uuid: Ref
    host_uuid: Ref | None = None
    migrate_from_destination: bool = False
    allow_unknown: bool = False
    strategy: Literal["auto-converge"] | None = None
    down_time: DownTime | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of a VM at a time."""
        return (f"vm/{self.vm_instance_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Choose a host, move it there."""
        terms = Terms(self.strategy is not None, self.down_time)
        await migrate_vm(job, self.vm_instance_uuid, self.host_uuid, terms)
        return await inventory(job.services, VM, self.vm_instance_uuid)


class GetVmMigrationCandidateHosts(
    Get,
    path="/vm-instances/{vmInstanceUuid}/migration-target-hosts",
    returns={"inventories": Annotated[list[dict[str, Any]], Meta(description="hosts")]},
):
    """List the hosts that a running VM can be moved to."""

    vm_instance_uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Look at all hosts of its zone."""
        settings = call.services.global_settings
        found = await call.services.db.read(load_target_rows, self.vm_instance_uuid, settings)
        return {"inventories": [msgspec.Raw(host.encode()) for host in found]}


class UpdateVmInstance(_OnVm, path="/vm-instances/{uuid}/actions", reply=VM):
    """Change what a VM is called or, while it is stopped, how large it is."""

    name: Name | None = None
    description: Description | None = None
    default_l3_network_uuid: Ref | None = None
    platform: Platform | None = None
    cpu_num: CpuNum | None = None
    memory_size: MemorySize | None = None

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_vm, self)
        return await inventory(job.services, VM, self.uuid)


class DestroyVmInstance(Delete, path="/vm-instances/{uuid}"):
    """Stop a VM by force and mark it Destroyed: it can be recovered until it is expunged."""

    uuid: Uuid
    delete_mode: DeletionMode = "Permissive"

    def locks(self) -> tuple[str, ...]:
        """One change of a VM at a time."""
        return (f"vm/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Stop it, mark it; one that does not exist is destroyed already."""
        if await job.transact(needs_destruction, self.uuid):
            await stop_vm(job, self.uuid, cold=True)
            await job.transact(mark_destroyed, self.uuid)
        return {}


class RecoverVmInstance(_OnVm, path="/vm-instances/{uuid}/actions", reply=VM):
    """Take a Destroyed VM back: it is Stopped."""

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(recover_vm, self.uuid)
        return await inventory(job.services, VM, self.uuid)


class ExpungeVmInstance(_OnVm, path="/vm-instances/{uuid}/actions"):
    """Remove a Destroyed VM for good, with its root volume; its data volumes stay."""

    async def run(self, job: Job) -> Reply:
        """Remove its root volume, give its addresses back, remove its rows."""
        await job.transact(check_destroyed, self.uuid)
        await delete_tree(job, VM, self.uuid, "Permissive")
        return {}


class GetVmConsoleAddress(
    Get,
    path="/vm-instances/{uuid}/console-addresses",
    returns={
        "hostIp": Annotated[str, Meta(description="address that the screen is shown at")],
        "port": Annotated[int, Meta(description="its TCP port")],
        "protocol": Annotated[str, Meta(description="vnc")],
        "spicePort": Annotated[int, Meta(description="TCP port of its SPICE screen, where it has one")],
    },
):
    """Say where a running VM's screen is shown; GetVmConsolePassword has what lets one in.

    A VM with USB redirection is shown by SPICE as well.
    """

    uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Ask its host."""
        at = await call.services.db.read(load_running, self.uuid)
        seen = await look_at(call.services, self.uuid, at.endpoint)
        if seen is None or seen.console_address is None or seen.console_port is None:
            raise _refused(f"VM {self.uuid} shows no screen now", "see its state")
        spice = {"spicePort": seen.spice_port} if seen.spice_port is not None else {}
        return {"hostIp": seen.console_address, "port": seen.console_port, "protocol": "vnc", **spice}


class GetVmConsolePassword(
    Get,
    path="/vm-instances/{uuid}/console-passwords",
    returns={"password": Annotated[str, Meta(description="password of its screen")]},
):
    """Return the password of a VM's screen, made when the VM was created."""

    uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Unseal it."""
        row = await call.services.db.read(find, VM, self.uuid)
        return {"password": call.services.vault.open(row.console_password, CONSOLE_PASSWORD_FOR)}


def load_running(connection: Connection, uuid: str) -> Placed:
    """Return where a VM runs. Raises HardpointError: SYS.1003 for none, SYS.1006 for one that does not."""
    row = vm_in(connection, uuid, State.RUNNING, State.PAUSED)
    host = find(connection, HOST, row.host_uuid)
    return Placed(host.uuid, host.agent_address, host.agent_port)


def load_target_rows(connection: Connection, uuid: str, settings: GlobalSettings) -> list[str]:
    """Return the inventories of the hosts that a VM can go to."""
    return [load_one(connection, HOST, host) or "" for host in load_targets(connection, uuid, settings)]


def update_vm(connection: Connection, wanted: UpdateVmInstance) -> None:
    """Write what is given. Raises HardpointError: SYS.1003, SYS.1006 to resize one that is not stopped."""
    size = {"cpu_num": wanted.cpu_num, "memory_size": wanted.memory_size}
    if any(value is not None for value in size.values()):
        vm_in(connection, wanted.uuid, *DOWN)
    if wanted.default_l3_network_uuid is not None:
        networks = [nic.l3_network_uuid for nic in nics_of(connection, wanted.uuid)]
        if wanted.default_l3_network_uuid not in networks:
            details = f"VM {wanted.uuid} is not on L3 network {wanted.default_l3_network_uuid}"
            raise _refused(details, "name one of the networks of its NICs")
    values = {
        "name": wanted.name,
        "description": wanted.description,
        "default_l3_network_uuid": wanted.default_l3_network_uuid,
        "platform": wanted.platform,
        **size,
    }
    change(connection, VM, wanted.uuid, values)


def needs_destruction(connection: Connection, uuid: str) -> bool:
    """Say whether a VM is there and not destroyed. Raises HardpointError (SYS.1006) when a job is at it."""
    row = load_vm(connection, uuid)
    return (
        row is not None and vm_in(connection, uuid, *RUNNING, *DOWN, State.DESTROYED).state != State.DESTROYED
    )


def mark_destroyed(connection: Connection, uuid: str) -> None:
    """Write that a stopped VM is destroyed; its devices are free."""
    release_devices(connection, uuid)
    change_vm(connection, uuid, state=State.DESTROYED, destroyed_at=now_s())


def recover_vm(connection: Connection, uuid: str) -> None:
    """Write that a destroyed VM is stopped. Raises HardpointError (SYS.1003, SYS.1006)."""
    vm_in(connection, uuid, State.DESTROYED)
    change_vm(connection, uuid, state=State.STOPPED, destroyed_at=None)


def check_destroyed(connection: Connection, uuid: str) -> None:
    """Raise HardpointError (SYS.1003, SYS.1006) unless a VM is destroyed."""
    vm_in(connection, uuid, State.DESTROYED)


async def remove_vm(job: Job, uuid: str, mode: DeletionMode) -> None:
    """Take a VM out of the world: its domain, its root volume and its addresses.

    Raises HardpointError (PS.1003) when no host can remove the root volume now; Enforcing forgets it then.
    """
    if await job.transact(needs_destruction, uuid):
        await stop_vm(job, uuid, cold=True)
    root = await job.transact(load_root, uuid)
    if root is not None:
        try:
            await expunge_volume(job, root)
        except HardpointError:
            if mode != "Enforcing":
                raise
            await job.transact(drop_volume, root)
    await job.transact(detach_all, uuid)
    await job.transact(give_back_addresses, uuid)


def load_root(connection: Connection, uuid: str) -> str | None:
    """Return the uuid of a VM's root volume, None when it has none."""
    row = load_vm(connection, uuid)
    return row.root_volume_uuid if row is not None else None


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)


child_of(ZONE, VM, "zone_uuid", remove=remove_vm)
