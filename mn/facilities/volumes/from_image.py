"""Images as volumes are made of them, and data volumes made of images."""

from __future__ import annotations

from sqlalchemy import Connection

from mn.facilities.common import find, inventory
from mn.facilities.images.sources import image_source
from mn.facilities.images.tables import IMAGE
from mn.facilities.primary_storage.image_cache import ImageToCache
from mn.facilities.primary_storage.refusals import illegal
from mn.facilities.primary_storage.tables import PRIMARY_STORAGE
from mn.facilities.volumes.data import TIMEOUT_S, named_host
from mn.facilities.volumes.life import NewVolume, create_volume
from mn.facilities.volumes.tables import VOLUME
from mn.rest.operation import Create, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, Uuid

ROOT_TEMPLATE, DATA_TEMPLATE = "RootVolumeTemplate", "DataVolumeTemplate"


class CreateDataVolumeFromVolumeTemplate(
    Create, path="/volumes/data/from/data-volume-templates/{imageUuid}", reply=VOLUME, timeout_s=TIMEOUT_S
):
    """Create a data volume with the content of an image.

    On a local storage `hostUuid`, or the system tag `localStorage::hostUuid::<uuid>`, says on which host.
    """

    image_uuid: Uuid
    name: Name
    primary_storage_uuid: Ref
    host_uuid: Ref | None = None
    description: Description | None = None

    async def run(self, job: Job) -> Reply:
        """Bring the image to the storage, make the volume on it."""
        uuid = self.resource_uuid or job.uuid_for("volume")
        zone_uuid = await job.transact(check_template, self.image_uuid, self.primary_storage_uuid)
        image = await image_to_cache(job, self.image_uuid, zone_uuid)
        new = NewVolume(
            uuid,
            self.name,
            "Data",
            image.virtual_size,
            description=self.description,
            storage_uuid=self.primary_storage_uuid,
            host_uuid=self.host_uuid or named_host(self.system_tags),
            image_uuid=self.image_uuid,
            system_tags=self.system_tags,
            user_tags=self.user_tags,
        )
        await create_volume(job, new, image)
        return await inventory(job.services, VOLUME, uuid)


async def image_to_cache(job: Job, image_uuid: str, zone_uuid: str) -> ImageToCache:
    """Return an image as hosts of a zone fetch it; takes steps of the job. Raises as `image_source` does."""
    source = await image_source(job, image_uuid, zone_uuid)
    return ImageToCache(
        source.image_uuid,
        source.url,
        source.sha256,
        source.size,
        source.virtual_size,
        source.format,
        source.ca,
        origins=source.origins,
    )


def check_template(connection: Connection, image_uuid: str, storage_uuid: str) -> str:
    """Return the zone of a storage. Raises HardpointError: SYS.1003, SYS.1007 for another kind."""
    check_media_type(connection, image_uuid, DATA_TEMPLATE)
    zone_uuid: str = find(connection, PRIMARY_STORAGE, storage_uuid).zone_uuid
    return zone_uuid


def check_media_type(connection: Connection, image_uuid: str, wanted: str) -> None:
    """Raise HardpointError unless an image is of a kind: SYS.1003, SYS.1007."""
    image = find(connection, IMAGE, image_uuid)
    if image.media_type != wanted:
        raise illegal(
            f"image {image.name} ({image_uuid}) is a {image.media_type}, not a {wanted}",
            f"choose an image with mediaType {wanted}, or add it again with that mediaType",
        )
