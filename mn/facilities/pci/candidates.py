"""Which PCI devices a VM could get, and why not the others (manual 4.3.11.4, 4.3.11.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Row, select

from agentkit.errors import HardpointError
from kvmagent.protocol_devices import PciPlan, PciReason, PlanPci
from mn.db.global_settings import WITHOUT_RESET
from mn.db.schema import new_uuid
from mn.facilities.common import find
from mn.facilities.hosts.tables import HOST, host_table
from mn.facilities.pci.attach import check_place
from mn.facilities.pci.claims import check_free, refused
from mn.facilities.pci.tables import PCI_DEVICE, pci_table
from mn.facilities.vms.tables import State, vm_in
from mn.fleet.client import Endpoint
from mn.query.plan import load_one
from mn.rest.operation import Get, Reply
from mn.rest.services import Call, Services
from mn.rest.types import Ref

_RETURNS = {
    "inventories": Annotated[list[dict[str, Any]], Meta(description="PCI devices")],
    "refused": Annotated[
        list[dict[str, Any]], Meta(description="with explain: the other devices, and why they cannot be had")
    ],
    "plans": Annotated[
        list[dict[str, Any]], Meta(description="with explain: what would be done on the host for each device")
    ],
}


class Judged(msgspec.Struct, rename="camel"):
    """A device that the rows speak for or against; `reasons` speak against it."""

    uuid: str
    name: str
    host_uuid: str
    pci_device_address: str | None
    reasons: list[PciReason]


class GetPciDeviceCandidatesForAttachingVm(
    Get, path="/vm-instances/{vmInstanceUuid}/candidate-pci-devices", returns=_RETURNS
):
    """List the PCI devices that a VM could get (manual 4.3.11.4); `explain` lists the others as well."""

    vm_instance_uuid: Ref
    types: list[str] = msgspec.field(default_factory=list)
    explain: bool = False

    async def answer(self, call: Call) -> Reply:
        """Ask the rows, then the hosts of those that may be."""
        services = call.services
        judged = await services.db.read(judge_for_vm, self.vm_instance_uuid, self.types)
        return await _answer(services, judged, self.vm_instance_uuid, explain=self.explain)


class GetPciDeviceCandidatesForNewCreateVm(
    Get, path="/pci-device/candidate-pci-devices-for-new-create-vm", returns=_RETURNS
):
    """List the PCI devices that a VM which is yet to be made could get (manual 4.3.11.5)."""

    host_uuid: Ref | None = None
    cluster_uuids: list[str] = msgspec.field(default_factory=list)
    types: list[str] = msgspec.field(default_factory=list)
    explain: bool = False

    async def answer(self, call: Call) -> Reply:
        """Ask the rows, then the hosts of those that may be."""
        services = call.services
        judged = await services.db.read(judge_for_new, self.host_uuid, self.cluster_uuids, self.types)
        return await _answer(services, judged, None, explain=self.explain)


def judge_for_vm(connection: Connection, vm_uuid: str, types: Sequence[str]) -> list[Judged]:
    """Judge the devices of the host that a VM runs on, or of those that it could start on.

    Raises HardpointError: SYS.1003, SYS.1006 for a VM that could get none in its state.
    """
    vm = vm_in(connection, vm_uuid, State.RUNNING, State.STOPPED, State.CREATED)
    hosts = host_table.c
    where = hosts.zone_uuid == vm.zone_uuid
    if vm.host_uuid is not None:
        where = hosts.uuid == vm.host_uuid
    elif vm.last_host_uuid is not None:
        where &= hosts.uuid == vm.last_host_uuid
    elif vm.cluster_uuid is not None:
        where &= hosts.cluster_uuid == vm.cluster_uuid

    def against(device: Row[Any], host: Row[Any]) -> None:
        check_free(connection, device)
        check_place(connection, vm, device, host)

    return _judged(connection, select(host_table).where(where), types, against)


def judge_for_new(
    connection: Connection, host_uuid: str | None, cluster_uuids: Sequence[str], types: Sequence[str]
) -> list[Judged]:
    """Judge the devices of a host, of clusters' hosts, or of all. Raises HardpointError (SYS.1003)."""
    query = select(host_table)
    if host_uuid is not None:
        find(connection, HOST, host_uuid)
        query = query.where(host_table.c.uuid == host_uuid)
    if cluster_uuids:
        query = query.where(host_table.c.cluster_uuid.in_(cluster_uuids))

    def against(device: Row[Any], host: Row[Any]) -> None:
        check_free(connection, device)
        if host.state != "Enabled" or host.status != "Connected":
            raise _unusable(host)

    return _judged(connection, query, types, against)


def _unusable(host: Row[Any]) -> HardpointError:
    details = f"host {host.name} ({host.uuid}) is {host.state} and {host.status}"
    return refused(details, "enable and connect the host")


def _judged(connection: Connection, hosts: Any, types: Sequence[str], against: Any) -> list[Judged]:
    found = []
    for host in connection.execute(hosts.order_by(host_table.c.seq)).all():
        mine = select(pci_table).where(pci_table.c.host_uuid == host.uuid)
        if types:
            mine = mine.where(pci_table.c.type.in_(types))
        for device in connection.execute(mine.order_by(pci_table.c.address)).all():
            reasons = []
            try:
                against(device, host)
            except HardpointError as error:
                reasons = [PciReason(code="row", text=error.details, remedy=error.remedy or "")]
            found.append(Judged(device.uuid, device.name, host.uuid, device.address, reasons))
    return found


async def _answer(services: Services, judged: list[Judged], vm_uuid: str | None, *, explain: bool) -> Reply:
    hosts = {device.host_uuid for device in judged if explain or not device.reasons}
    plans = await _plans(services, hosts, vm_uuid)
    candidates, others, shown = [], [], []
    for device in judged:
        planned = plans.get(device.host_uuid, {}).get(device.pci_device_address or "")
        if isinstance(planned, PciPlan):
            device.reasons += planned.reasons
        elif not device.reasons:
            device.reasons.append(_silent(device.host_uuid))
        if device.reasons:
            others.append(device)
            continue
        candidates.append(device.uuid)
        if isinstance(planned, PciPlan):
            shown.append({"uuid": device.uuid, "address": planned.address, "steps": planned.steps})
    rows = [await services.db.read(load_one, PCI_DEVICE, uuid) for uuid in candidates]
    reply: dict[str, Any] = {"inventories": [msgspec.Raw(row.encode()) for row in rows if row is not None]}
    return reply | ({"refused": msgspec.to_builtins(others), "plans": shown} if explain else {})


async def _plans(
    services: Services, hosts: Iterable[str], vm_uuid: str | None
) -> dict[str, dict[str, PciPlan]]:
    """Return what each host that answers says of each of its functions, by host and address."""
    bold = services.global_settings[WITHOUT_RESET] == 1

    async def ask(host_uuid: str) -> dict[str, PciPlan]:
        endpoint = await services.db.read(_endpoint, host_uuid)
        if endpoint is None:
            return {}
        task = new_uuid()
        try:
            command = PlanPci(vm_uuid=vm_uuid, without_reset=bold)
            reply = await services.fleet.call(endpoint, command, task)
        except HardpointError:
            return {}
        services.fleet.acknowledge(endpoint, task)
        return {planned.address: planned for planned in reply.plans}

    asked = sorted(hosts)
    return dict(zip(asked, await asyncio.gather(*(ask(host) for host in asked)), strict=True))


def _endpoint(connection: Connection, host_uuid: str) -> Endpoint | None:
    row = find(connection, HOST, host_uuid)
    if row.status != "Connected" or row.agent_port is None:
        return None
    return Endpoint(host_uuid, row.agent_address, row.agent_port)


def _silent(host_uuid: str) -> PciReason:
    text = f"host {host_uuid} does not say that it can give it"
    return PciReason(code="silent", text=text, remedy="reconnect the host")
