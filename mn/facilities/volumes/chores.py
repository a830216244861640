"""What is done by itself: volumes that were deleted long ago are expunged, old trash is removed."""

from __future__ import annotations

import logging

from sqlalchemy import Connection, select

from agentkit.errors import HardpointError
from kvmagent.protocol_storage import PurgeTrash
from mn.db.global_settings import STORAGE_TRASH, VOLUME_EXPUNGE
from mn.db.schema import new_uuid
from mn.facilities.primary_storage.capacity import Place
from mn.facilities.primary_storage.connecting import HostPlace, host_at, usable_hosts
from mn.facilities.primary_storage.tables import LOCAL, primary_storage_table
from mn.facilities.volumes.data import ExpungeDataVolume, long_deleted
from mn.jobs.engine import journalled_locks
from mn.jobs.live import JobRequest
from mn.rest.services import Services

log = logging.getLogger(__name__)


async def clean_storages(services: Services) -> None:
    """Submit the jobs that expunge, and have hosts remove old trash."""
    settings = services.global_settings
    for uuid in await services.db.read(long_deleted, settings[VOLUME_EXPUNGE]):
        operation = ExpungeDataVolume(uuid=uuid)
        request = JobRequest(
            new_uuid(),
            ExpungeDataVolume.spec.name,
            services.codec.encode(operation),
            services.codec.digest(operation),
            journalled_locks(operation.locks()),
            ExpungeDataVolume.spec.timeout_s,
            fresh=True,
        )
        await services.engine.submit(request)
    for at in await services.db.read(load_all_places):
        task = new_uuid()
        command = PurgeTrash(storage=at.storage, older_than_s=int(settings[STORAGE_TRASH]))
        try:
            await services.fleet.call(at.endpoint, command, task)
        except HardpointError as error:
            extra = {"host": at.host_uuid, "storage": at.storage.uuid, "reason": error.details}
            log.info("trash not looked at", extra=extra)
            continue
        services.fleet.acknowledge(at.endpoint, task)


def load_all_places(connection: Connection) -> list[HostPlace]:
    """Return a host for each shared storage, all for each local one, as far as they can be asked."""
    table, places = primary_storage_table.c, []
    for row in connection.execute(select(table.uuid, table.type).order_by(table.seq)).all():
        hosts = usable_hosts(connection, row.uuid)
        places += [
            host_at(connection, Place(row.uuid, host.uuid))
            for host in hosts[: None if row.type == LOCAL else 1]
        ]
    return places
