"""A host that is connected has the sessions that its cluster needs; what it says of them is written down."""

from __future__ import annotations

from sqlalchemy import Connection

from kvmagent.protocol_iscsi import IscsiEvent, SyncIscsi
from mn.db.schema import new_uuid
from mn.facilities.hosts.drains import left_by
from mn.facilities.hosts.followers import when_connected, when_iscsi_told
from mn.facilities.iscsi.hosts import ask_host, load_wanted, save_report, sync_host, turns
from mn.rest.services import Job, Services


async def note_event(services: Services, host_uuid: str, event: IscsiEvent) -> None:
    """Write what a host says."""
    await services.db.write(save_report, host_uuid, event.report)


async def leave(job: Job, host_uuid: str) -> None:
    """Have a host that is deleted log out of everything: nobody would look after its sessions."""
    if await job.transact(has_sessions, host_uuid):
        await job.step(log_out_everywhere, job.services, host_uuid)


def has_sessions(connection: Connection, host_uuid: str) -> bool:
    """Say whether a host needs servers, or holds some that it needs no more."""
    return load_wanted(connection, host_uuid) is not None


async def log_out_everywhere(services: Services, host_uuid: str) -> None:
    """Have a host need no server any more."""
    async with turns.of(host_uuid):
        await ask_host(services, host_uuid, SyncIscsi(servers=[]), new_uuid())


left_by(leave)
when_connected(sync_host)
when_iscsi_told(note_event)
