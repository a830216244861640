"""Keeps a host's bridges as they are wanted, and takes back a change that cut the host off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.runner import Runner
from agentkit.wire import Wire
from kvmagent.network.plan import Link, plan, undo_of
from kvmagent.network.steps import Change
from kvmagent.network.worker import ARGV, CHANGE, LOOK
from kvmagent.protocol_network import CONFIRM_WITHIN_S, Bridge

log = logging.getLogger(__name__)

T = TypeVar("T")

WORK_LIMIT_S = 30.0
STATE_FILE, PENDING_FILE = "networks.json", "networks-pending.json"


class Kept(Wire):
    """What this host was last told to have, by which change, confirmed."""

    change_uuid: str
    bridges: list[Bridge]


class Pending(Wire):
    """A change that is not confirmed, and what takes it back."""

    change_uuid: str
    bridges: list[Bridge]
    undo: list[Change]


class Networks(Protocol):
    """What a host can do with its bridges."""

    async def apply(self, change_uuid: str, bridges: Sequence[Bridge]) -> bool:
        """Have these bridges; True when that is to be confirmed."""

    async def confirm(self, change_uuid: str) -> None:
        """Keep a change."""


class NetworkKeeper:
    """The bridges of this machine, remembered below `state_dir`."""

    def __init__(
        self, state_dir: Path, runner: Runner, *, confirm_within_s: float = CONFIRM_WITHIN_S
    ) -> None:
        self._state = state_dir / STATE_FILE
        self._pending_file = state_dir / PENDING_FILE
        self._runner = runner
        self._confirm_within_s = confirm_within_s
        self._pending: Pending | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self._turn = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Take back what was not confirmed before the agent ended, then have what is wanted again.

        A failure is logged: the host is better reachable without its bridges than not at all.
        """
        pending = _load(self._pending_file, Pending)
        try:
            if pending is not None:
                await self._undo(pending)
            kept = _load(self._state, Kept)
            if kept is not None:
                changes = plan(await self._look(), kept.bridges, kept.bridges)
                await self._change(changes)
        except HardpointError as error:
            log.error("bridges are not as they are wanted", extra={"reason": error.details})  # noqa: TRY400

    async def apply(self, change_uuid: str, bridges: Sequence[Bridge]) -> bool:
        """Have these bridges and none other that were made here; True when that is to be confirmed.

        Raises HardpointError (SYS.1006) and has changed nothing when it cannot be done.
        """
        async with self._turn:
            if self._pending is not None and self._pending.change_uuid == change_uuid:
                return True
            await self._settled.wait()
            kept = _load(self._state, Kept)
            if kept is not None and kept.change_uuid == change_uuid:
                return False
            owned = kept.bridges if kept is not None else []
            changes = plan(await self._look(), bridges, owned)
            if not changes:
                _save(self._state, Kept(change_uuid=change_uuid, bridges=list(bridges)))
                return False
            pending = Pending(change_uuid=change_uuid, bridges=list(bridges), undo=undo_of(changes))
            _save(self._pending_file, pending)
            try:
                await self._change(changes)
            except HardpointError:
                await self._undo(pending)
                raise
            self._pending = pending
            self._settled.clear()
            self._timer = asyncio.create_task(self._expire(pending), name="network change")
            return True

    async def confirm(self, change_uuid: str) -> None:
        """Keep a change. Raises HardpointError (SYS.1006) when it has been taken back."""
        pending = self._pending
        if pending is not None and pending.change_uuid == change_uuid:
            if self._timer is not None:
                self._timer.cancel()
            _save(self._state, Kept(change_uuid=change_uuid, bridges=pending.bridges))
            self._pending_file.unlink(missing_ok=True)
            self._pending = None
            self._settled.set()
            return
        kept = _load(self._state, Kept)
        if kept is None or kept.change_uuid != change_uuid:
            details = (
                f"the change of bridges was rolled back: the management node had not confirmed it within "
                f"{self._confirm_within_s:g} s"
            )
            remedy = "see whether the interface is the right one for the network that the host is managed by"
            raise HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)

    async def _expire(self, pending: Pending) -> None:
        await asyncio.sleep(self._confirm_within_s)
        self._pending = None
        log.warning("a change of bridges is rolled back: it was not confirmed")
        try:
            await self._undo(pending)
        except HardpointError as error:
            log.error("bridges not rolled back", extra={"reason": error.details})  # noqa: TRY400
        finally:
            self._settled.set()

    async def _undo(self, pending: Pending) -> None:
        for change in pending.undo:
            # One that cannot be taken back must not keep the others from it.
            with contextlib.suppress(HardpointError):
                await self._change([change])
        self._pending_file.unlink(missing_ok=True)

    async def _look(self) -> dict[str, Link]:
        completed = await self._runner.run([*ARGV, LOOK], timeout_s=WORK_LIMIT_S)
        return msgspec.json.decode(completed.check().stdout, type=dict[str, Link])

    async def _change(self, changes: Sequence[Change]) -> None:
        if changes:
            wanted = msgspec.json.encode(list(changes))
            completed = await self._runner.run([*ARGV, CHANGE], timeout_s=WORK_LIMIT_S, input=wanted)
            completed.check()


class NoNetworks:
    """The bridges of a machine that is only recorded: there can be none."""

    async def prepare(self) -> None:
        """Have none."""

    async def apply(self, change_uuid: str, bridges: Sequence[Bridge]) -> bool:
        """Have no bridges. Raises HardpointError (SYS.1014) when some are wanted."""
        if bridges:
            details = f"the bridge {bridges[0].name} was not made: this machine is a recorded one"
            remedy = "use a host whose agent works on its own machine"
            raise HardpointError("SYS.1014", "Not supported", details, remedy=remedy, blame=Blame.CALLER)
        return False

    async def confirm(self, change_uuid: str) -> None:
        """Keep nothing."""


def _load(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("what was known of bridges is lost", extra={"path": str(path), "reason": str(error)})
        return None


def _save(path: Path, value: Kept | Pending) -> None:
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(msgspec.json.encode(value))
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
