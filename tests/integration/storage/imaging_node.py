"""A management node with one operation more: it makes a root volume of an image, as VMs have it."""

import sys

from mn.__main__ import main
from mn.facilities.common import inventory
from mn.facilities.primary_storage.image_cache import ImageToCache
from mn.facilities.volumes.life import create_root_volume
from mn.facilities.volumes.tables import VOLUME
from mn.rest.operation import Create, Reply
from mn.rest.services import Job
from mn.rest.types import Ref


class CreateRootVolume(Create, path="/test/root-volumes", reply=VOLUME):
    """Make a root volume."""

    image: ImageToCache
    storage_uuid: Ref
    host_uuid: Ref

    async def run(self, job: Job) -> Reply:
        """Make it."""
        vm = job.uuid_for("vm")
        uuid = await create_root_volume(job, vm, self.image, self.storage_uuid, self.host_uuid, name="root")
        return await inventory(job.services, VOLUME, uuid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
