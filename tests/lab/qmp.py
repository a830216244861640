"""A client of QEMU's machine protocol: commands with time limits, events that can be waited for."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.places import LabError

COMMAND_TIMEOUT_S = 30.0
EVENTS_KEPT = 1000

Event = dict[str, Any]


class QmpError(LabError):
    """QEMU refused a command; the text is its own."""


class Qmp:
    """A connection to one QEMU; not for several threads at once."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(COMMAND_TIMEOUT_S)
        self._socket.connect(str(path))
        self._buffer = b""
        self.events: list[Event] = []
        self._read(time.monotonic() + COMMAND_TIMEOUT_S)  # the greeting
        self.command("qmp_capabilities")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def command(self, name: str, /, timeout_s: float = COMMAND_TIMEOUT_S, **arguments: Any) -> Any:
        """Run a command and return its result; `_` in argument names stands for `-`. Raises QmpError."""
        given = {key.replace("_", "-"): value for key, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": name, "arguments": given}).encode() + b"\n")
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._read(deadline)
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QmpError(f"{name} {given}: {message['error']['desc']}")
            self._note(message)

    def wait_event(
        self, name: str, timeout_s: float, matches: Callable[[dict[str, Any]], bool] = lambda data: True
    ) -> dict[str, Any]:
        """Return the data of the first event of that name that was not yet taken; waits for it."""
        deadline = time.monotonic() + timeout_s
        while True:
            for event in self.events:
                if event["event"] == name and matches(event.get("data", {})):
                    self.events.remove(event)
                    return dict(event.get("data", {}))
            self._note(self._read(deadline))

    def _note(self, message: Event) -> None:
        if "event" in message:
            self.events.append(message)
            del self.events[:-EVENTS_KEPT]

    def _read(self, deadline: float) -> Event:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise LabError("QEMU did not answer in time")
            self._socket.settimeout(left)
            try:
                received = self._socket.recv(65536)
            except TimeoutError:
                continue
            if not received:
                raise LabError("QEMU has ended")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: Event = json.loads(line)
        return message
