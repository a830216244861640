"""Query images, change their names and states."""

from __future__ import annotations

from sqlalchemy import Connection

from mn.facilities.common import change, find, inventory
from mn.facilities.images.add import Format, MediaType, Platform
from mn.facilities.images.tables import IMAGE, change_image
from mn.facilities.states import check_event, state_after
from mn.rest.operation import Action, Query, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref, StateEvent


class QueryImage(Query, path=("/images", "/images/{uuid}"), reply=IMAGE):
    """Query images."""


class UpdateImage(Action, path="/images/{uuid}/actions", reply=IMAGE):
    """Change what is said of an image; its content stays."""

    uuid: Ref
    name: Name | None = None
    description: Description | None = None
    guest_os_type: Name | None = None
    media_type: MediaType | None = None
    format: Format | None = None
    system: bool | None = None
    platform: Platform | None = None

    def locks(self) -> tuple[str, ...]:
        """One change of an image at a time."""
        return (f"image/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(update_image, self)
        return await inventory(job.services, IMAGE, self.uuid)


class ChangeImageState(Action, path="/images/{uuid}/actions", reply=IMAGE):
    """Enable or disable an image: nothing new is made of a disabled one."""

    uuid: Ref
    state_event: StateEvent

    def check(self) -> None:
        """Images can be enabled and disabled only."""
        check_event(self.state_event, "enable", "disable")

    def locks(self) -> tuple[str, ...]:
        """One change of an image at a time."""
        return (f"image/{self.uuid}",)

    async def run(self, job: Job) -> Reply:
        """Write the row."""
        await job.transact(write_state, self.uuid, state_after(self.state_event))
        return await inventory(job.services, IMAGE, self.uuid)


def update_image(connection: Connection, wanted: UpdateImage) -> None:
    """Write what is given. Raises HardpointError (SYS.1003) when there is no such image."""
    given = ("name", "description", "guest_os_type", "media_type", "format", "system", "platform")
    change(connection, IMAGE, wanted.uuid, {name: getattr(wanted, name) for name in given})


def write_state(connection: Connection, uuid: str, state: str) -> None:
    """Write an image's state. Raises HardpointError (SYS.1003) when there is no such image."""
    if find(connection, IMAGE, uuid).state != state:
        change_image(connection, uuid, state=state)
