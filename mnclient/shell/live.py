"""Names and uuids of live resources for completion: fetched in the background, remembered for seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from mnclient.errors import HardpointClientError
from mnclient.sdk import Connection
from mnclient.shell.complete import Named, Need

FRESH_S = 5.0
MOST = 200
"""The most resources that are fetched for one answer."""


class LiveNames:
    """Answers from its memory at once; what it does not know it fetches when told to."""

    def __init__(self, connection: Connection, fresh_s: float = FRESH_S) -> None:
        self._connection = connection
        self._fresh_s = fresh_s
        self._known: dict[Need, tuple[float, Sequence[Named]]] = {}
        self._fetching: dict[Need, Future[None]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="live names")

    def get(self, need: Need) -> Sequence[Named] | None:
        """Return what is known and fresh, None when it has to be fetched."""
        at, names = self._known.get(need, (0.0, ()))
        if at and time.monotonic() - at <= self._fresh_s:
            return names
        return None

    def fetch(self, need: Need) -> Future[None]:
        """Begin to fetch, once at a time for each need; the future ends when `get` answers."""
        with self._lock:
            running = self._fetching.get(need)
            if running is None or running.done():
                running = self._fetching[need] = self._pool.submit(self._fetch, need)
            return running

    def forget(self) -> None:
        """Forget everything: the login or the world has changed."""
        self._known.clear()

    def close(self) -> None:
        """Fetch no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, need: Need) -> None:
        names: list[Named] = []
        try:
            names = self._names(need)
        except HardpointClientError:
            pass  # no completion is better than a message in the middle of typing
        finally:
            self._known[need] = (time.monotonic(), names)

    def _names(self, need: Need) -> list[Named]:
        description = self._connection.description
        query, resource = description.query_of(need.resource), description.resources[need.resource]
        if query is None or "uuid" not in resource.fields or not self._connection.options.session:
            return []
        has_name = "name" in resource.fields
        by = (["name"] if has_name else []) + ["uuid"]
        found: dict[str, Named] = {}
        for field in by if need.prefix else ["uuid"]:
            values: dict[str, Any] = {"fields": ["uuid", "name"] if has_name else ["uuid"], "limit": MOST}
            if need.prefix:
                values["conditions"] = [f"{field}~={need.prefix}%"]
            options = replace(self._connection.options, timeout_s=5.0)
            for row in self._connection.call(query.name, values, options)["inventories"]:
                found[row["uuid"]] = Named(row["uuid"], str(row.get("name", "")))
        return sorted(found.values(), key=lambda named: (named.name, named.uuid))
