"""What machines ask a node beside the API: is it alive, is it ready, what does it count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import Connection, text

from agentkit.errors import Blame, HardpointError
from mn.db.engine import Database
from mn.rest.addresses import Network, is_from_loopback, is_in
from mn.rest.envelope import error_reply, reply
from mn.rest.metrics import Metrics

PATHS = ("/metrics", "/health/live", "/health/ready")
DATABASE_TIMEOUT_S = 5.0


class Probes:
    """Answers PATHS to this machine and to the networks of the settings."""

    def __init__(
        self, db: Database, metrics: Metrics, networks: Sequence[Network], is_running: Callable[[], bool]
    ) -> None:
        self._db = db
        self._metrics = metrics
        self._networks = networks
        self._is_running = is_running

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a request for one of PATHS."""
        if not (is_from_loopback(request) or is_in(request, self._networks)):
            return error_reply(_forbidden(request), 403)
        if request.path == "/health/live":
            return reply({"live": True})
        if request.path == "/metrics":
            body = await self._metrics.text()
            return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
        faults = await self._faults()
        return reply({"ready": not faults, "faults": faults}, 503 if faults else 200)

    async def _faults(self) -> list[str]:
        faults = []
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_S):
                await self._db.read(_ask)
        except TimeoutError:
            faults.append(f"the database did not answer within {DATABASE_TIMEOUT_S:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, the node is not ready
            faults.append(f"the database does not answer: {error}")
        if not self._is_running():
            faults.append("the job engine does not run")
        return faults


def _ask(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


def _forbidden(request: web.Request) -> HardpointError:
    return HardpointError(
        "ID.1002",
        "Permission denied",
        f"{request.path} is not shown to {request.remote}",
        remedy="ask from the node's own machine, or add the network to metrics_networks in mn.toml",
        blame=Blame.CALLER,
    )
