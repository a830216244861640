"""What the agent's handlers and routes work with: the store that is open, imports, grants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agentkit.errors import HardpointError
from agentkit.files import remove_durably, write_durably
from agentkit.grants import Grants
from agentkit.standing import Standing
from storageagent.protocol import StoreReport
from storageagent.store.repository import Repository
from storageagent.transfers import Transfers

STORE_FILE = "store.json"
LOOK_EVERY_S = 5.0


@dataclass(kw_only=True)
class Context(Standing):
    """The agent's parts; `tell` is given what the store is like whenever that has changed."""

    state_dir: Path
    authority: Path
    """The fleet's CA, by which other stores are known."""
    grants: Grants
    tell: Callable[[StoreReport], None]
    transfers: Transfers = field(init=False)
    _repository: Repository | None = None
    _fault: HardpointError | None = None
    _told: str = ""

    def __post_init__(self) -> None:
        self.transfers = Transfers(self.repository)

    def repository(self) -> Repository:
        """Return the open store. Raises HardpointError (SYS.1006) when there is none, saying why."""
        if self._repository is not None:
            return self._repository
        if self._fault is not None:
            raise self._fault
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            "this agent has no image store",
            remedy="reconnect the image store (ReconnectImageStoreBackupStorage)",
        )

    def reopen(self) -> None:
        """Open the store that was open before, if any; what hinders it is told to who asks for the store."""
        try:
            known = msgspec.json.decode((self.state_dir / STORE_FILE).read_bytes(), type=str)
        except (OSError, msgspec.DecodeError):
            return
        try:
            self._repository, self._fault = Repository(Path(known), create=False), None
        except HardpointError as error:
            self._fault = error

    async def open(self, url: str) -> None:
        """Open the store of a folder from now on. Raises HardpointError (SYS.1006)."""
        if self._repository is not None and str(self._repository.folder) == url:
            return
        path = self.state_dir / STORE_FILE
        known = path.read_bytes() if path.exists() else b""
        wanted = msgspec.json.encode(url)
        repository = await asyncio.to_thread(Repository, Path(url), create=known != wanted)
        await self.close()
        await asyncio.to_thread(write_durably, path, wanted)
        self._repository, self._fault = repository, None

    async def close(self) -> None:
        """Close the store and forget it."""
        await self.transfers.end_all()
        if self._repository is not None:
            await asyncio.to_thread(self._repository.close)
        self._repository = self._fault = None

    async def forget(self) -> None:
        """Close the store, forget its folder and its exports; what is in the folder stays."""
        await self.close()
        await asyncio.to_thread(self.grants.end_all)
        await asyncio.to_thread(remove_durably, self.state_dir / STORE_FILE)

    async def inventory_hash(self) -> str:
        """Return what tells whether the store is as the management node knows it."""
        if self._repository is None:
            return ""
        return (await asyncio.to_thread(self._repository.report)).hash

    async def look(self) -> StoreReport:
        """Look at the store; a change is told."""
        report = await asyncio.to_thread(self.repository().report)
        if report.hash != self._told:
            self._told = report.hash
            self.tell(report)
        return report

    async def watch(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            if self._repository is None and self._fault is not None:
                await asyncio.to_thread(self.reopen)
            if self._repository is not None:
                await self.look()
            await asyncio.sleep(LOOK_EVERY_S)
