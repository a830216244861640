"""A daemon's life: take its place, listen, say ready, work, and on SIGTERM end without losing anything."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from agentkit.agent import Agent, Identity
from agentkit.errors import HardpointError
from agentkit.events import EventHub
from agentkit.gate import Gate
from agentkit.lean import share_one_arena, web
from agentkit.notify import Notifier, watchdog_interval_s
from agentkit.place import StateDirectory, listen
from agentkit.routes import Routes, only
from agentkit.tasks import RUNNING_MAX, Handler
from agentkit.tls import ServerCredentials, lower_read_buffer
from agentkit.wire import Command

log = logging.getLogger(__name__)

STOP_LIMIT_S = 20.0
_CONNECTIONS_LIMIT_S = 2.0
EXIT_FAULT = 1
EXIT_CANNOT_START = 2

C = TypeVar("C")
Background = Callable[[], Coroutine[Any, Any, None]]


async def _nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class DaemonConfig:
    """What a daemon needs to know of its machine; port 0 is the last port if it is free, else any."""

    listen_address: str
    port: int
    state_dir: Path
    credentials: ServerCredentials
    running_max: int = RUNNING_MAX
    stop_limit_s: float = STOP_LIMIT_S


class Daemon(Generic[C]):
    """The process of one agent: its commands come by HTTPS; the arguments are those of `Agent`.

    `prepare` is done before the daemon listens. `background` are coroutines that live as long as it: when one
    ends by an error, the daemon ends with exit code 1. `public` are routes beside the commands, see `Routes`.
    """

    def __init__(
        self,
        config: DaemonConfig,
        identity: Identity,
        hub: EventHub,
        context: C,
        handlers: Mapping[type[Command[Any]], Handler[C]],
        *,
        rerunnable: Collection[type[Command[Any]]] = (),
        background: Sequence[Background] = (),
        public: Sequence[web.AbstractRouteDef] = (),
        prepare: Background = _nothing,
    ) -> None:
        self._config = config
        self._public = public
        self._agent = Agent(
            config.state_dir,
            identity,
            hub,
            context,
            handlers,
            rerunnable=rerunnable,
            running_max=config.running_max,
        )
        self._background = background
        self._prepare = prepare
        self._notifier = Notifier()
        self._place = StateDirectory(config.state_dir)
        self._stop: asyncio.Event | None = None
        self._exit_code = 0

    def run(self) -> int:
        """Live until SIGTERM or SIGINT and return the exit code; a failure to start is one line on stderr."""
        share_one_arena()
        try:
            self._place.take()
            return asyncio.run(self._live())
        except HardpointError as error:
            sys.stderr.write(f"{self._agent.identity.agent}: {error.details}; {error.remedy}\n")
            return EXIT_CANNOT_START
        finally:
            self._place.release()

    async def _live(self) -> int:
        config, agent, loop = self._config, self._agent, asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        lower_read_buffer()
        await self._prepare()
        context = config.credentials.context()
        listener = listen(config.listen_address, config.port, self._place.last_port())
        await agent.open()
        application = Routes(only(agent), public=self._public).application()
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CONNECTIONS_LIMIT_S)
        await runner.setup()
        if runner.server is None:
            raise AssertionError("aiohttp has set up no server")
        gate = Gate(runner.server, context)
        gate.start(listener)
        background = self._start_background()
        ready = self._place.write_ready(listener, agent.hub.instance)
        self._notifier.ready(f"listening on {ready.address} port {ready.port}")
        log.info("ready", extra={"address": ready.address, "port": ready.port, "instance": ready.instance})
        await self._stop.wait()
        await self._wind_down(gate, runner, background)
        agent.close()
        return self._exit_code

    def _start_background(self) -> list[asyncio.Task[None]]:
        starts: list[Background] = [self._agent.desk.prune, self._feed_watchdog, *self._background]
        tasks = []
        for start in starts:
            task = asyncio.get_running_loop().create_task(start(), name=getattr(start, "__qualname__", ""))
            task.add_done_callback(self._background_ended)
            tasks.append(task)
        return tasks

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        log.critical(
            "a part of the agent failed, it ends", exc_info=task.exception(), extra={"part": task.get_name()}
        )
        self._exit_code = EXIT_FAULT
        if self._stop is not None:
            self._stop.set()

    async def _feed_watchdog(self) -> None:
        interval_s = watchdog_interval_s()
        while interval_s is not None:
            self._notifier.watchdog()
            await asyncio.sleep(interval_s)

    async def _wind_down(
        self, gate: Gate, runner: web.AppRunner, background: list[asyncio.Task[None]]
    ) -> None:
        log.info("stopping")
        self._notifier.stopping()
        left = await self._agent.wind_down(self._config.stop_limit_s)
        await gate.close()
        await runner.cleanup()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        log.info("stopped", extra={"tasks_left_to_the_journal": left})
