"""The storages of a host: initialised, watched, and used only while they answer.

A storage whose kernel calls hang (an NFS server that is gone) costs one probe that waits, and what was being
done on it when it fell silent: that is given up at once, its processes are killed and left to the kernel. So
no storage ever has more than `AT_ONCE` + 1 such processes, and nothing else waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from agentkit.errors import HardpointError
from kvmagent.protocol_shared_block import GroupStanding
from kvmagent.protocol_storage import Capacity, InitStorage, StorageEvent, StorageKind, StorageSpec
from kvmagent.storage.backend import Backend, Images, UnusableError
from kvmagent.storage.children import refused

log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE = 4
PROBE_EVERY_S = 3.0
LOCAL_AT_ONCE = 2
"""Of local storages, which no network can take away, so many are looked at each time."""
PROBE_DEADLINE_S = 8.0
"""A storage that has not answered for so long is silent, and said to be."""
GRACE_S = 20.0
"""So much longer what is done on a silent storage goes on, and what is new waits: it may only be busy."""
PATIENCE_S = 40.0
"""So long after a management node has begun to follow an agent, and has its storages initialised, tasks wait
for those that they need.
"""
ALONE_PATIENCES = 15
"""So many times as long an agent that has started waits for a management node to follow it."""
WAIT_S = 1.0
TELL_CHANGE = 0.01
"""A change of the free space by this part of the whole is told."""


class Watched:
    """A storage that is initialised on this host."""

    def __init__(self, spec: StorageSpec, backend: Backend, images: Images, capacity: Capacity) -> None:
        self.spec = spec
        self.backend = backend
        self.images = images
        self.told = capacity
        self.standing: GroupStanding | None = None
        self.reason: str | None = None
        self.given_up = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()
        self._patience: asyncio.TimerHandle | None = None
        self.turns = asyncio.Semaphore(AT_ONCE)
        self.probe: asyncio.Task[None] | None = None

    def fails(self, reason: str, grace_s: float) -> bool:
        """Note that it does not answer, to be given up after `grace_s`. Return whether that is new."""
        new, self.reason = self.reason is None, reason
        self.answering.clear()
        if grace_s == 0:
            self.given_up.set()
        elif self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(grace_s, self.given_up.set)
        return new

    def answers(self, capacity: Capacity) -> None:
        """Note that it answers, with its capacity now."""
        if self._patience is not None:
            self._patience.cancel()
        self.reason, self.told, self._patience = None, capacity, None
        self.given_up.clear()
        self.answering.set()

    def leave(self) -> None:
        """End what is done on it: it is looked after no longer."""
        self.given_up.set()
        if self.probe is not None:
            self.probe.cancel()


class StorageKeeper:
    """Knows the storages of this host; `backends` are the kinds that it can have."""

    def __init__(
        self,
        backends: Mapping[StorageKind, Backend],
        publish: Callable[[StorageEvent], object],
        *,
        probe_every_s: float = PROBE_EVERY_S,
        probe_deadline_s: float = PROBE_DEADLINE_S,
        grace_s: float = GRACE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._backends = backends
        self._publish = publish
        self._every_s = probe_every_s
        self._deadline_s = probe_deadline_s
        self._grace_s = grace_s
        self._watched: dict[str, Watched] = {}
        self._patience_s = patience_s
        self._patient_until: float | None = None
        self._news = asyncio.Condition()
        self._initialising: dict[str, asyncio.Lock] = {}

    async def init(self, command: InitStorage) -> Capacity:
        """Make a storage usable and watch it. Raises HardpointError (SYS.1006) when it cannot be used."""
        spec, backend = command.storage, self._backend(command.storage)
        async with self._initialising.setdefault(spec.uuid, asyncio.Lock()):
            images, capacity = await backend.open(command, known=spec.uuid in self._watched)
            known = self._watched.get(spec.uuid)
            grows = spec.group is not None or spec.ceph is not None
            if known is not None and grows:  # LUNs, monitors and pools come while volumes are worked on
                known.spec, known.images = spec, images
            if known is None or known.spec != spec:
                self._forget(spec.uuid)
                self._watched[spec.uuid] = Watched(spec, backend, images, capacity)
                async with self._news:
                    self._news.notify_all()
            else:
                self._answers(known, capacity)
            return capacity

    async def release(self, spec: StorageSpec) -> None:
        """Watch a storage no longer; its backend gives back what it has of the host."""
        async with self._initialising.setdefault(spec.uuid, asyncio.Lock()):
            self._forget(spec.uuid)
            await self._backend(spec).close(spec)

    def _backend(self, spec: StorageSpec) -> Backend:
        backend = self._backends.get(spec.kind)
        if backend is None:
            raise refused(f"this host cannot have storages of the kind {spec.kind}", "update its agent")
        return backend

    def _forget(self, uuid: str) -> None:
        watched = self._watched.pop(uuid, None)
        if watched is not None:
            watched.leave()

    async def use(self, spec: StorageSpec, work: Callable[[Watched], Awaitable[T]]) -> T:
        """Return what `work` does on a storage; given up when the storage is silent for too long.

        Raises HardpointError (SYS.1006) when the storage is not there or does not answer.
        """
        watched = await self._known(spec.uuid)
        if watched is None:
            raise refused(f"the storage {spec.uuid} is not initialised on this host", "reconnect the storage")
        await _until_answers(watched)
        async with watched.turns:
            await _until_answers(watched)
            working = asyncio.ensure_future(work(watched))
            given_up = asyncio.ensure_future(watched.given_up.wait())
            try:
                await asyncio.wait({working, given_up}, return_when=asyncio.FIRST_COMPLETED)
                if not working.done():
                    raise _given_up(watched)
                return await working
            finally:
                given_up.cancel()
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    async def _known(self, uuid: str) -> Watched | None:
        """Return a storage; an agent that has just started waits for what the management node says."""
        if uuid not in self._watched:
            while uuid not in self._watched and (left := self._patience_left()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, WAIT_S)), self._news:
                        await self._news.wait()
            beginning = self._initialising.get(uuid)
            if uuid not in self._watched and beginning is not None:
                async with beginning:  # that it is made usable ends one way or the other
                    pass
        return self._watched.get(uuid)

    def expect(self) -> None:
        """Note that a management node follows the agent from now on, and will say what storages there are."""
        self._patient_until = asyncio.get_running_loop().time() + self._patience_s

    def _patience_left(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._patient_until is None:
            self._patient_until = now + self._patience_s * ALONE_PATIENCES
        return self._patient_until - now

    async def run(self) -> None:
        """Probe the storages until cancelled."""
        try:
            for number in itertools.count():
                for watched in self._due(number):
                    if watched.probe is None or watched.probe.done():
                        watched.probe = asyncio.create_task(
                            self._look_at(watched), name=f"probe {watched.spec.uuid}"
                        )
                await asyncio.sleep(self._every_s)
        finally:
            await _ended(*(watched.probe for watched in self._watched.values() if watched.probe is not None))

    def _due(self, number: int) -> list[Watched]:
        """Return what is to be looked at in a round: of the local ones that are well a few, in turn."""
        others: list[Watched] = []
        well: list[Watched] = []
        for watched in self._watched.values():
            local = watched.backend.is_local and watched.reason is None
            (well if local else others).append(watched)
        first = number * LOCAL_AT_ONCE
        turn = [well[at % len(well)] for at in range(first, first + min(LOCAL_AT_ONCE, len(well)))]
        return [*others, *turn]

    async def _look_at(self, watched: Watched) -> None:
        probing = asyncio.ensure_future(watched.backend.probe(watched.spec))
        try:
            deadline_s = watched.backend.probe_deadline_s or self._deadline_s
            done, _ = await asyncio.wait({probing}, timeout=deadline_s)
            if not done:
                self._fails(watched, f"it has not answered for {deadline_s:g} s", self._grace_s)
            capacity, standing = await probing
        except HardpointError as error:
            found = error.standing if isinstance(error, UnusableError) else None
            self._fails(watched, error.details, standing=found)
            await self._mend(watched)
        except Exception:
            log.exception("probe failed unexpectedly", extra={"storage": watched.spec.uuid})
        else:
            self._answers(watched, capacity, standing)
        finally:
            await _ended(probing)

    async def _mend(self, watched: Watched) -> None:
        if self._watched.get(watched.spec.uuid) is not watched:
            return
        try:
            async with self._initialising.setdefault(watched.spec.uuid, asyncio.Lock()):
                await watched.backend.mend(watched.spec)
        except HardpointError as error:
            log.info("not mended", extra={"storage": watched.spec.uuid, "reason": error.details})

    def _fails(
        self, watched: Watched, reason: str, grace_s: float = 0, standing: GroupStanding | None = None
    ) -> None:
        other = _state(standing) != _state(watched.standing)
        watched.standing = standing
        if (watched.fails(reason, grace_s) or other) and self._watched.get(watched.spec.uuid) is watched:
            uuid = watched.spec.uuid
            log.warning("storage lost", extra={"storage": uuid, "reason": reason})
            self._publish(StorageEvent(storage_uuid=uuid, answering=False, reason=reason, standing=standing))

    def _answers(self, watched: Watched, capacity: Capacity, standing: GroupStanding | None = None) -> None:
        changed = abs(capacity.available - watched.told.available) > TELL_CHANGE * capacity.total
        changed = changed or _state(standing) != _state(watched.standing)
        watched.standing = standing
        if watched.reason is None and not changed:
            return
        if watched.reason is not None:
            log.info("storage found", extra={"storage": watched.spec.uuid})
        watched.answers(capacity)
        if self._watched.get(watched.spec.uuid) is watched:
            self._publish(
                StorageEvent(
                    storage_uuid=watched.spec.uuid, answering=True, capacity=capacity, standing=standing
                )
            )


def _state(standing: GroupStanding | None) -> str | None:
    return standing.state if standing is not None else None


async def _until_answers(watched: Watched) -> None:
    if watched.reason is None:
        return
    waits = [asyncio.ensure_future(event.wait()) for event in (watched.answering, watched.given_up)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _ended(*waits)
    if watched.reason is not None:
        raise _given_up(watched)


def _given_up(watched: Watched) -> HardpointError:
    spec = watched.spec
    if watched.reason is None:
        return refused(f"the storage {spec.uuid} was released meanwhile", "reconnect the storage")
    return refused(
        f"the storage {spec.uuid} ({spec.url}) does not answer on this host: {watched.reason}",
        "see that its server or disk is there; it comes back by itself",
    )


async def _ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have given back what they had."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
