"""What every agent does for the commands that all of them know."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agentkit.commands import (
    InstallCertificate,
    InstallCertificateReply,
    Release,
    ReleaseReply,
)
from agentkit.owner import Owner, Ownership
from agentkit.tls import ServerCredentials


@dataclass(kw_only=True)
class Standing:
    """What the handlers of any agent work with."""

    ownership: Ownership
    credentials: ServerCredentials
    owning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the owner is looked at and changed, so that two fleets cannot both find the host free."""


async def release(context: Standing, command: Release) -> ReleaseReply:
    """Give the host back."""
    async with context.owning:
        await context.ownership.release(Owner(command.host_uuid, command.fleet_uuid))
    return ReleaseReply()


async def install_certificate(context: Standing, command: InstallCertificate) -> InstallCertificateReply:
    """Show another certificate from the next connection on."""
    await asyncio.to_thread(context.credentials.install, command.certificate, command.key)
    return InstallCertificateReply()
