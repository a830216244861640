"""Who owns the host: one fleet, under one host uuid, remembered in `owner.json`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.files import remove_durably, write_durably
from agentkit.threads import in_thread

OWNER_FILE = "owner.json"


class Owner(msgspec.Struct, rename="camel", frozen=True):
    """A fleet and its name for this host."""

    host_uuid: str
    fleet_uuid: str


class Ownership:
    """The owner on disk and in memory. Its coroutines are to be called one at a time."""

    def __init__(self, state_dir: Path) -> None:
        """Read the owner. Raises HardpointError when the file is there but cannot be understood."""
        self._path = state_dir / OWNER_FILE
        self._owner: Owner | None = None
        try:
            self._owner = msgspec.json.decode(self._path.read_bytes(), type=Owner)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            details = f"{self._path} does not say who owns this host: {error}"
            remedy = "restore the file, or remove it to let any management node of this CA take the host"
            raise HardpointError("SYS.1000", "Internal error", details, remedy=remedy) from error

    @property
    def owner(self) -> Owner | None:
        """The owner, None for a free host."""
        return self._owner

    @property
    def host_uuid(self) -> str | None:
        """The owner's name for this host, None for a free host."""
        return self._owner.host_uuid if self._owner else None

    def check(self, asking: Owner) -> None:
        """Raise HardpointError (HOST.1003) when the host belongs to somebody else than `asking`."""
        if self._owner in {None, asking}:
            return
        details = (
            f"fleet {asking.fleet_uuid} asks for this host as {asking.host_uuid}, but it belongs to fleet "
            f"{self._owner.fleet_uuid} as host {self._owner.host_uuid}"
        )
        remedy = (
            f"delete the host in its fleet first; when that fleet is gone, remove {self._path} on the host"
        )
        raise HardpointError("HOST.1003", "Connection error", details, remedy=remedy, blame=Blame.CALLER)

    async def take(self, owner: Owner) -> None:
        """Make `owner` the owner, durably."""
        self.check(owner)
        if self._owner is None:
            await in_thread(lambda: write_durably(self._path, msgspec.json.encode(owner)), "owner")
            self._owner = owner

    async def release(self, asking: Owner) -> None:
        """Make the host free, durably; also fine when it is. Raises HardpointError like `check`."""
        self.check(asking)
        await in_thread(lambda: remove_durably(self._path), "owner")
        self._owner = None
