"""Images that lie on a backup storage already are made known."""

from __future__ import annotations

import logging

from sqlalchemy import Connection, insert, select

from mn.db.schema import now_s
from mn.facilities.backup_storage.driver import Held
from mn.facilities.images.tables import add_ref, columns_of, image_table

log = logging.getLogger(__name__)


def adopt_images(connection: Connection, storage_uuid: str, found: list[Held]) -> list[str]:
    """Insert images that a backup storage has; return their uuids.

    An image that is known from another backup storage gets one more reference when its content is the same.
    """
    adopted = []
    for held in found:
        uuid = held.image.uuid
        query = select(image_table.c.sha256_sum).where(image_table.c.uuid == uuid)
        known = connection.execute(query).first()
        if known is not None and known.sha256_sum != held.sha256:
            extra = {"image": uuid, "backup_storage": storage_uuid}
            log.warning("image not adopted: another image has its uuid", extra=extra)
            continue
        if known is None:
            _insert(connection, held)
        add_ref(connection, uuid, storage_uuid, "Ready", install_path=held.install_path)
        adopted.append(uuid)
    return adopted


def _insert(connection: Connection, held: Held) -> None:
    image, now = held.image, now_s()
    values = {
        "uuid": image.uuid,
        "name": image.name,
        "description": image.description,
        "state": "Enabled",
        "status": "Ready",
        "url": image.url,
        "media_type": image.media_type,
        "guest_os_type": image.guest_os_type,
        "type": "zstack",
        "platform": image.platform or "Linux",
        "format": image.format,
        "system": image.system,
        "backup_storage_refs": [],
        "create_date": now,
        "last_op_date": now,
        **columns_of(held),
    }
    connection.execute(insert(image_table), values)
