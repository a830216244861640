"""The IOMMU of hosts (manual 4.3.11.12 to 4.3.11.14): what is wanted is kept here, the kernel has the status.

A change is written where the host's boot loader reads it and counts from the next boot on. A host that was
installed anew has lost it: what is wanted is written again when the host is reconnected.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Column, Connection, ForeignKey, Row, String, Table, delete, insert, select

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol import GetIommu, IommuReport, SetIommu
from mn.db.schema import metadata, new_uuid, uuid_column
from mn.facilities.common import find
from mn.facilities.hosts.tables import HOST
from mn.facilities.pci.tables import pci_table
from mn.facilities.undoing import undoing
from mn.fleet.client import Endpoint
from mn.rest.operation import Action, Get, Reply
from mn.rest.services import Call, Job, Services
from mn.rest.types import Ref

log = logging.getLogger(__name__)

ENABLED, DISABLED = "Enabled", "Disabled"
NOTICE = "X-Hardpoint-Notice"

host_iommu_table = Table(
    "host_iommu",
    metadata,
    uuid_column("host_uuid", ForeignKey("host.uuid", ondelete="CASCADE"), primary_key=True),
    Column("state", String(16), nullable=False),
)
"""The wanted state of hosts whose IOMMU somebody has asked for; all others are Disabled."""

IommuState = Literal["Enabled", "Disabled"]


class IommuHost(msgspec.Struct, frozen=True):
    """A host whose agent can be asked; `state` is the wanted one."""

    uuid: str
    name: str
    address: str
    port: int
    state: str

    @property
    def endpoint(self) -> Endpoint:
        """Where its agent listens."""
        return Endpoint(self.uuid, self.address, self.port)


def as_recognised(key: str) -> str:
    """Return what is equal for spellings that a text recognition takes for one another (manual 4.3.11.13)."""
    return key.lower().replace("l", "i").replace("1", "i").replace("mm", "m")


class GetHostIommuStatus(
    Get,
    path="/pci-device/hosts/status/{uuid}",
    also_at=("/pci-device/hosts/{uuid}/status", "/pci-device/hosts/status/uuid}"),
    returns={"status": Annotated[Literal["Active", "Inactive"], Meta(description="what the kernel has")]},
):
    """Say whether a host's running kernel has an IOMMU that was asked for (manual 4.3.11.12).

    The header X-Hardpoint-Notice says when the next boot will have it otherwise.
    """

    uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Ask the host."""
        host = await call.services.db.read(load_connected, self.uuid)
        task = new_uuid()
        report = await call.services.fleet.call(host.endpoint, GetIommu(), task)
        call.services.fleet.acknowledge(host.endpoint, task)
        if report.reboot_needed:
            change = "enabled" if report.configured else "disabled"
            call.headers[NOTICE] = f"reboot needed: the IOMMU is {change} from the next boot on"
        return {"status": report.status}


class GetHostIommuState(
    Get,
    path="/pci-device/hosts/state/{uuid}",
    also_at=("/pci-device/hosts/{uuid}/state",),
    returns={"state": Annotated[IommuState, Meta(description="what was asked for, Disabled at first")]},
):
    """Say whether a host's IOMMU is wanted (manual 4.3.11.14)."""

    uuid: Ref

    async def answer(self, call: Call) -> Reply:
        """Read the wanted state."""
        return {"state": await call.services.db.read(load_state, self.uuid)}


class UpdateHostIommuState(
    Action,
    path="/pci-device/hosts/{uuid}/actions",
    spelling=as_recognised,
    returns={"state": Annotated[IommuState, Meta(description="the state that is wanted now")]},
):
    """Enable or disable a host's IOMMU from its next boot on (manual 4.3.11.13)."""

    uuid: Ref
    state: IommuState

    def locks(self) -> tuple[str, ...]:
        """One change of a host's boot settings at a time."""
        return (iommu_lock(self.uuid),)

    async def run(self, job: Job) -> Reply:
        """Have the host write it, then keep it; a failure gives the host's settings back."""
        services = job.services
        host = await job.transact(check_change, self.uuid, self.state)
        job.at(20)
        task = job.task_uuid()
        await job.step(write_settings, services, host, self.state, task, undo=restore_settings)
        job.at(90)
        await job.transact(save_state, self.uuid, self.state)
        services.fleet.acknowledge(host.endpoint, task)
        return {"state": self.state}


def iommu_lock(host_uuid: str) -> str:
    """Return the lock of a host's boot settings."""
    return f"host-iommu/{host_uuid}"


def load_kvm_host(connection: Connection, uuid: str) -> Row[Any]:
    """Return a host's row. Raises HardpointError: SYS.1003 for none, SYS.1006 for one that is not KVM."""
    row = find(connection, HOST, uuid)
    if row.hypervisor_type != "KVM":
        raise _refused(
            f"host {row.name} ({uuid}) is a {row.hypervisor_type} host, which has no IOMMU of its own",
            "choose a KVM host",
        )
    return row


def load_state(connection: Connection, uuid: str) -> str:
    """Return the wanted state of a KVM host."""
    load_kvm_host(connection, uuid)
    query = select(host_iommu_table.c.state).where(host_iommu_table.c.host_uuid == uuid)
    return str(connection.execute(query).scalar() or DISABLED)


def load_connected(connection: Connection, uuid: str) -> IommuHost:
    """Return a KVM host whose agent answers. Raises HardpointError (SYS.1003, SYS.1006)."""
    row = load_kvm_host(connection, uuid)
    if row.status != "Connected" or row.agent_port is None:
        raise _refused(
            f"host {row.name} ({uuid}) is {row.status}, its IOMMU can neither be read nor changed",
            "connect the host first",
        )
    return IommuHost(uuid, row.name, row.agent_address, row.agent_port, load_state(connection, uuid))


def check_change(connection: Connection, uuid: str, state: str) -> IommuHost:
    """Return a host whose IOMMU may be changed.

    Raises HardpointError (SYS.1006) when it is not Connected, or when VMs have devices that need it.
    """
    host = load_connected(connection, uuid)
    if state == DISABLED:
        attached = (pci_table.c.host_uuid == uuid) & (pci_table.c.status == "Attached")
        query = select(pci_table.c.uuid, pci_table.c.name, pci_table.c.vm_instance_uuid).where(attached)
        device = connection.execute(query).first()
        if device is not None:
            raise _refused(
                f"the IOMMU of host {host.name} ({uuid}) is in use: PCI device {device.name} ({device.uuid}) "
                f"is attached to VM {device.vm_instance_uuid}",
                "detach the host's PCI devices from their VMs first",
            )
    return host


async def write_settings(services: Services, host: IommuHost, state: str, task_uuid: str) -> IommuReport:
    """Have the host write the settings of its boot loader."""
    return await services.fleet.call(host.endpoint, SetIommu(enabled=state == ENABLED), task_uuid)


async def restore_settings(services: Services, host: IommuHost, state: str, task_uuid: str) -> None:
    """Have the host go back to what was wanted before."""
    if host.state != state:
        command = SetIommu(enabled=host.state == ENABLED)
        with undoing(services, host.endpoint, task_uuid) as task:
            await services.fleet.call(host.endpoint, command, task)


def save_state(connection: Connection, uuid: str, state: str) -> None:
    """Keep the wanted state. Raises HardpointError (SYS.1003) when the host was deleted meanwhile."""
    find(connection, HOST, uuid)
    connection.execute(delete(host_iommu_table).where(host_iommu_table.c.host_uuid == uuid))
    if state == ENABLED:
        connection.execute(insert(host_iommu_table), {"host_uuid": uuid, "state": state})


def is_wanted(connection: Connection, uuid: str) -> bool:
    """Say whether somebody has asked for a host's IOMMU."""
    query = select(host_iommu_table.c.state).where(host_iommu_table.c.host_uuid == uuid)
    return connection.execute(query).scalar() == ENABLED


def is_missing(report: IommuReport) -> bool:
    """Say whether the next boot of a host will not ask for an IOMMU that has to be asked for."""
    return report.option is not None and not report.configured


async def write_again(services: Services, endpoint: Endpoint, task_uuid: str) -> None:
    """Have a host whose IOMMU is wanted ask for it at its next boot, when it has forgotten that.

    It is not rebooted. A host that cannot is as good as before otherwise: why is in the log.
    """
    uuid, look = endpoint.host_uuid, new_uuid()
    try:
        report = await services.fleet.call(endpoint, GetIommu(), look)
        services.fleet.acknowledge(endpoint, look)
        if not is_missing(report):
            return
        await services.fleet.call(endpoint, SetIommu(enabled=True), task_uuid)
        services.fleet.acknowledge(endpoint, task_uuid)
    except HardpointError as error:
        log.warning("wanted IOMMU not written again", extra={"host": uuid, "reason": error.details})
        return
    log.warning(
        "wanted IOMMU written again, the host had lost it: reboot it", extra={"host": uuid, "task": task_uuid}
    )


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
