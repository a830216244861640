"""A management node with one more operation: it answers where an image is to be had, as hosts are told."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mn.__main__ import main
from mn.facilities.images.sources import image_source
from mn.rest.operation import Action, Reply
from mn.rest.services import Job
from mn.rest.types import Ref


class ProbeImageSource(
    Action,
    path="/probes/images/{imageUuid}/actions",
    returns={"source": Annotated[dict[str, Any], Meta(description="the source")]},
):
    """Say where an image is to be had."""

    image_uuid: Ref
    zone_uuid: Ref

    async def run(self, job: Job) -> Reply:
        return {"source": msgspec.to_builtins(await image_source(job, self.image_uuid, self.zone_uuid))}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
