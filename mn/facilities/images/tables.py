"""The rows of images and of the backup storages that they lie on, and the units of work on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Row,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)

from mn.db.schema import (
    Document,
    Instant,
    date_columns,
    date_shown,
    metadata,
    named_columns,
    new_uuid,
    now_s,
    private,
    sequence_column,
    uuid_column,
)
from mn.facilities.backup_storage.driver import Held
from mn.facilities.backup_storage.tables import BACKUP_STORAGE
from mn.facilities.cascade import when_deleted
from mn.facilities.tags.rules import drop_tags
from mn.query.resource import Relation, Resource

image_table = Table(
    "image",
    metadata,
    *named_columns("image"),
    Column("state", String(32), nullable=False, index=True, comment="Enabled or Disabled"),
    Column(
        "status", String(32), nullable=False, index=True, comment="Downloading, Ready, Migrating or Deleted"
    ),
    Column("size", BigInteger, index=True, comment="bytes of the disk in it"),
    Column("actual_size", BigInteger, index=True, comment="bytes of its content"),
    Column("md5_sum", String(32), comment="MD5 of its content; not computed, see sha256Sum"),
    Column("sha256_sum", String(64), index=True, comment="SHA-256 of its content"),
    Column("url", String(1024), nullable=False, comment="where it was added from"),
    Column(
        "media_type",
        String(32),
        nullable=False,
        index=True,
        comment="RootVolumeTemplate, DataVolumeTemplate or ISO",
    ),
    Column("guest_os_type", String(255), index=True, comment="operating system in it"),
    Column("type", String(32), nullable=False, comment="zstack"),
    Column("platform", String(32), nullable=False, index=True, comment="Linux, Windows, Other..."),
    Column("architecture", String(32), index=True, comment="processor architecture it is for"),
    Column("format", String(32), nullable=False, index=True, comment="qcow2, raw or iso"),
    Column("system", Boolean, nullable=False, comment="whether Hardpoint itself uses it"),
    Column("export_url", String(1024), comment="where it is exported"),
    Column("export_md5_sum", String(32), comment="MD5 of what is exported; not computed"),
    Column("backup_storage_refs", Document, nullable=False, comment="the backup storages that it lies on"),
    private("deleted_at", Instant),
    *date_columns(),
)
ref_table = Table(
    "image_backup_storage_ref",
    metadata,
    sequence_column(),
    private("uuid", String(32), nullable=False, unique=True),
    uuid_column(
        "image_uuid",
        ForeignKey("image.uuid", ondelete="CASCADE"),
        nullable=False,
        index=True,
        comment="UUID of the image",
    ),
    uuid_column(
        "backup_storage_uuid",
        ForeignKey("backup_storage.uuid"),
        nullable=False,
        index=True,
        comment="UUID of the backup storage",
    ),
    Column("install_path", String(2048), comment="what the backup storage knows it by"),
    Column("status", String(32), nullable=False, index=True, comment="Creating, Ready or Deleted"),
    Column("export_url", String(1024), comment="where it is exported"),
    Column("export_md5_sum", String(32), comment="MD5 of what is exported; not computed"),
    *date_columns(),
)

IMAGE = Resource("Image", image_table)
IMAGE_REF = Resource(
    "ImageBackupStorageRef",
    ref_table,
    {
        "image": Relation(lambda: IMAGE, "imageUuid", "uuid"),
        "backupStorage": Relation(lambda: BACKUP_STORAGE, "backupStorageUuid", "uuid"),
    },
)
for _name in ("backupStorageRef", "backupStorageRefs"):
    IMAGE.relations[_name] = Relation(lambda: IMAGE_REF, "uuid", "imageUuid")
BACKUP_STORAGE.relations["imageRef"] = Relation(lambda: IMAGE_REF, "uuid", "backupStorageUuid")


def change_image(connection: Connection, uuid: str, **values: Any) -> None:
    """Write columns of an image; nothing happens when it is gone."""
    where = image_table.c.uuid == uuid
    connection.execute(update(image_table).where(where).values(**values, last_op_date=now_s()))


def refs_of(connection: Connection, image_uuid: str) -> list[Row[Any]]:
    """Return an image's references, in the order they came."""
    table = ref_table
    query = select(table).where(table.c.image_uuid == image_uuid).order_by(table.c.seq)
    return list(connection.execute(query))


def add_ref(connection: Connection, image_uuid: str, storage_uuid: str, status: str, **more: Any) -> None:
    """Note that an image lies, or is to lie, on a backup storage."""
    now = now_s()
    values = {
        "uuid": new_uuid(),
        "image_uuid": image_uuid,
        "backup_storage_uuid": storage_uuid,
        "status": status,
        "create_date": now,
        "last_op_date": now,
        **more,
    }
    connection.execute(insert(ref_table), values)
    note_refs(connection, image_uuid)


def change_ref(connection: Connection, image_uuid: str, storage_uuid: str, **values: Any) -> None:
    """Write columns of a reference."""
    mine = _mine(image_uuid, storage_uuid)
    connection.execute(update(ref_table).where(mine).values(**values, last_op_date=now_s()))
    note_refs(connection, image_uuid)


def remove_ref(connection: Connection, image_uuid: str, storage_uuid: str) -> None:
    """Forget that an image lies on a backup storage; an image that lies on none any more goes."""
    connection.execute(delete(ref_table).where(_mine(image_uuid, storage_uuid)))
    if refs_of(connection, image_uuid):
        note_refs(connection, image_uuid)
    else:
        remove_image_row(connection, image_uuid)


def remove_image_row(connection: Connection, image_uuid: str) -> None:
    """Remove an image's row with its references and tags."""
    connection.execute(delete(ref_table).where(ref_table.c.image_uuid == image_uuid))
    connection.execute(delete(image_table).where(image_table.c.uuid == image_uuid))
    drop_tags(connection, image_uuid)


def columns_of(held: Held) -> dict[str, Any]:
    """Return what a backup storage says of an image, as columns; on some a qcow2 one becomes raw."""
    sizes = {"size": held.virtual_size, "actual_size": held.size}
    return {**sizes, "sha256_sum": held.sha256, "format": held.image.format}


def note_refs(connection: Connection, image_uuid: str) -> None:
    """Bring what the image's inventory shows in line with its references."""
    rows = refs_of(connection, image_uuid)
    shown = [{key: value for key, value in _shown(row).items() if value is not None} for row in rows]
    exported = next((row.export_url for row in rows if row.export_url), None)
    change_image(connection, image_uuid, backup_storage_refs=shown, export_url=exported)


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.seq,
        "imageUuid": row.image_uuid,
        "backupStorageUuid": row.backup_storage_uuid,
        "installPath": row.install_path,
        "exportUrl": row.export_url,
        "status": row.status,
        "createDate": date_shown(row.create_date),
        "lastOpDate": date_shown(row.last_op_date),
    }


def _mine(image_uuid: str, storage_uuid: str) -> Any:
    return (ref_table.c.image_uuid == image_uuid) & (ref_table.c.backup_storage_uuid == storage_uuid)


def forget_storage(connection: Connection, storage_uuid: str) -> None:
    """Forget what lies on a backup storage that goes; images that lie on no other go with it."""
    query = select(ref_table.c.image_uuid).where(ref_table.c.backup_storage_uuid == storage_uuid)
    for image_uuid in list(connection.execute(query).scalars()):
        remove_ref(connection, image_uuid, storage_uuid)


when_deleted(BACKUP_STORAGE, forget_storage)
