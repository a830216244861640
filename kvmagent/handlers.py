"""What the agent does for each command."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from agentkit.tasks import Handler
from agentkit.tls import ServerCredentials
from agentkit.wire import Command
from kvmagent.host_iommu.keeper import IommuKeeper
from kvmagent.os_update.follower import OsUpdates
from kvmagent.owner import Owner, Ownership
from kvmagent.protocol import (
    Connect,
    ConnectReply,
    GetIommu,
    GetOsUpdate,
    InstallCertificate,
    InstallCertificateReply,
    IommuReport,
    OsUpdateProgress,
    OsUpdateReply,
    Release,
    ReleaseReply,
    SetIommu,
    TakeInventory,
    TakeInventoryReply,
    UpdateOs,
)
from kvmagent.stock import Stock


@dataclass
class Context:
    """What the handlers work with."""

    ownership: Ownership
    stock: Stock
    credentials: ServerCredentials
    iommu: IommuKeeper
    os_updates: OsUpdates
    owning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the owner is looked at and changed, so that two fleets cannot both find the host free."""


async def connect(context: Context, command: Connect) -> ConnectReply:
    """Take stock, then take the host: a host that cannot be read is not taken."""
    asking = Owner(command.host_uuid, command.fleet_uuid)
    async with context.owning:
        context.ownership.check(asking)
        inventory = await context.stock.take()
        await context.ownership.take(asking)
    return ConnectReply(inventory=inventory)


async def release(context: Context, command: Release) -> ReleaseReply:
    """Give the host back."""
    async with context.owning:
        await context.ownership.release(Owner(command.host_uuid, command.fleet_uuid))
    return ReleaseReply()


async def take_inventory(context: Context, _command: TakeInventory) -> TakeInventoryReply:
    """Read the machine again."""
    return TakeInventoryReply(inventory=await context.stock.take())


async def install_certificate(context: Context, command: InstallCertificate) -> InstallCertificateReply:
    """Show another certificate from the next connection on."""
    await asyncio.to_thread(context.credentials.install, command.certificate, command.key)
    return InstallCertificateReply()


async def get_iommu(context: Context, _command: GetIommu) -> IommuReport:
    """Say what the IOMMU is."""
    return await context.iommu.report()


async def set_iommu(context: Context, command: SetIommu) -> IommuReport:
    """Enable or disable the IOMMU from the next boot on."""
    return await context.iommu.set(enabled=command.enabled)


async def update_os(context: Context, command: UpdateOs) -> OsUpdateReply:
    """Bring the host's packages up to date."""
    return await context.os_updates.run(command)


async def get_os_update(context: Context, command: GetOsUpdate) -> OsUpdateProgress:
    """Say how far an update is."""
    return await context.os_updates.progress(command.update_uuid)


HANDLERS: dict[type[Command[Any]], Handler[Context]] = {
    Connect: connect,
    Release: release,
    TakeInventory: take_inventory,
    InstallCertificate: install_certificate,
    GetIommu: get_iommu,
    SetIommu: set_iommu,
    UpdateOs: update_os,
    GetOsUpdate: get_os_update,
}
RERUNNABLE: frozenset[type[Command[Any]]] = frozenset(HANDLERS)
"""Commands that do no harm when a restart interrupted them and they are run again."""
