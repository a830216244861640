"""A watch on the kernel's device events, to be read when its file descriptor is."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

SUBSYSTEMS = frozenset({"pci", "usb", "block", "net"})
RECEIVE_BUFFER_BYTES = 16 * 2**20
"""Room for the storm of a host bus adapter that loses a thousand LUNs."""
MAX_EVENTS_A_DRAIN = 10_000
"""More than these stay for the next time the descriptor is readable, so that a storm cannot hold a loop."""


class DeviceWatch:
    """Which subsystems had device events since the last look.

    `source` is udev's own broadcast where udevd runs, so that links and properties are settled when the event
    comes, else the kernel's. Needs libudev and, for the large buffer, CAP_NET_ADMIN; raises OSError when the
    netlink socket cannot be had.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        import pyudev  # takes a tenth of the command line's time, and only the daemon watches

        self.source = "udev" if (root / "run/udev").is_dir() else "kernel"
        self._monitor: Any = pyudev.Monitor.from_netlink(pyudev.Context(), source=self.source)
        for subsystem in sorted(SUBSYSTEMS):
            self._monitor.filter_by(subsystem)
        with contextlib.suppress(OSError):
            # Without the privilege the default buffer has to do; an overflow is noticed and means a rescan.
            self._monitor.set_receive_buffer_size(RECEIVE_BUFFER_BYTES)
        self._monitor.start()
        self._socket = socket.socket(fileno=os.dup(self.fileno()))

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something happened."""
        return int(self._monitor.fileno())

    def drain(self) -> frozenset[str]:
        """Return the subsystems that had events, all of them when the kernel had to drop some.

        Never blocks.
        """
        found = set[str]()
        for _ in range(MAX_EVENTS_A_DRAIN):
            try:
                device = self._monitor.poll(timeout=0)
            except OSError as error:
                # pyudev's poll sees an overflow as an error without a number: the socket has it, until asked.
                pending = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if errno.ENOBUFS not in {error.errno, pending}:
                    raise
                found |= SUBSYSTEMS
                continue
            if device is None:
                break
            found.add(device.subsystem)
        return frozenset(found)

    def close(self) -> None:
        """Stop watching; the descriptor is no longer to be used."""
        self._socket.close()
        self._monitor = None
