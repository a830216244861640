"""What a VM is made of, from its rows, and what its host's agent is told of it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from kvmagent.protocol_vms import AbortVmMigration, GetVm, StartVm, StopVm, VmDomain, VmNic, VmSeen
from mn.db.global_settings import WITHOUT_RESET, GlobalSettings
from mn.db.schema import new_uuid
from mn.db.vault import Vault
from mn.facilities.common import find
from mn.facilities.networks.bridges import bridge_name
from mn.facilities.networks.tables import l2_network_table, l3_network_table
from mn.facilities.pci.claims import load_pci
from mn.facilities.undoing import undoing
from mn.facilities.vms.allocation import Placed
from mn.facilities.vms.domain_devices import load_redirect, load_usb
from mn.facilities.vms.domain_disks import load_disks
from mn.facilities.vms.tables import VM, nics_of
from mn.fleet.client import Endpoint
from mn.rest.services import Services

CONSOLE_PASSWORD_FOR = "password of a VM's console"  # noqa: S105 it is what a password is sealed for


def load_domain(connection: Connection, uuid: str, vault: Vault, settings: GlobalSettings) -> VmDomain:
    """Return what a VM is made of. Raises HardpointError (SYS.1003) when there is no such VM."""
    row = find(connection, VM, uuid)
    l2, l3 = l2_network_table.c, l3_network_table.c
    nics = []
    for nic in nics_of(connection, uuid):
        below = select(l2.physical_interface, l2.vlan).join(l3_network_table, l3.l2_network_uuid == l2.uuid)
        interface, vlan = connection.execute(below.where(l3.uuid == nic.l3_network_uuid)).one()
        bridge = bridge_name(interface, vlan)
        nics.append(VmNic(nic_uuid=nic.uuid, bridge=bridge, mac=nic.mac, name=f"vnic{nic.uuid[:11]}"))
    return VmDomain(
        uuid=uuid,
        name=row.name,
        cpus=row.cpu_num,
        memory_bytes=row.memory_size,
        disks=load_disks(connection, uuid),
        nics=nics,
        console_password=vault.open(row.console_password, CONSOLE_PASSWORD_FOR),
        pci=load_pci(connection, uuid, without_reset=settings[WITHOUT_RESET] == 1),
        usb=load_usb(connection, uuid),
        usb_redirect=load_redirect(connection, uuid),
    )


async def start_domain(services: Services, uuid: str, at: Placed, task_uuid: str) -> None:
    """Have a host start a VM."""
    domain = await services.db.read(load_domain, uuid, services.vault, services.global_settings)
    await services.fleet.call(at.endpoint, StartVm(domain=domain), task_uuid)


async def take_power(services: Services, uuid: str, at: Placed, task_uuid: str) -> None:
    """Have a host end a VM at once."""
    command = StopVm(uuid=uuid, patience_s=0)
    with undoing(services, at.endpoint, task_uuid) as task:
        await services.fleet.call(at.endpoint, command, task)


async def stop_domain(services: Services, uuid: str, at: Placed, patience_s: float, task_uuid: str) -> None:
    """Have a host end a VM."""
    await services.fleet.call(at.endpoint, StopVm(uuid=uuid, patience_s=patience_s), task_uuid)


async def keep_domain(services: Services, uuid: str, endpoint: Endpoint) -> None:
    """Have a host keep a VM that it may be sending to another. Raises HardpointError when it cannot."""
    task = new_uuid()
    await services.fleet.call(endpoint, AbortVmMigration(uuid=uuid), task)
    services.fleet.acknowledge(endpoint, task)


async def look_at(services: Services, uuid: str, endpoint: Endpoint) -> VmSeen | None:
    """Ask a host how a VM is. Raises HardpointError when it does not answer."""
    task = new_uuid()
    report = await services.fleet.call(endpoint, GetVm(uuid=uuid), task)
    services.fleet.acknowledge(endpoint, task)
    return report.vm
