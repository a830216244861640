"""Tells systemd how the daemon is (sd_notify(3)); silent where nobody listens."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Sends state lines to the socket that systemd named in `NOTIFY_SOCKET`; does nothing without one."""

    def __init__(self, address: str | None = None) -> None:
        """Use `address`, or `NOTIFY_SOCKET`; a leading `@` means an abstract socket."""
        name = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name

    def ready(self, status: str = "") -> None:
        """Say that start-up is done."""
        self._send("READY=1", f"STATUS={status}" if status else "", f"MAINPID={os.getpid()}")

    def stopping(self) -> None:
        """Say that the daemon is about to end."""
        self._send("STOPPING=1", "STATUS=stopping")

    def watchdog(self) -> None:
        """Say that the loop still turns."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Give `systemctl status` one line to show."""
        self._send("STATUS=" + text.replace("\n", " "))

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join(line for line in lines if line).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(message, self._address)
            except OSError:
                # A full or vanished socket must not harm the daemon; systemd will notice by its own timers.
                return


def watchdog_interval_s() -> float | None:
    """Return how often to call `watchdog` (half of what systemd allows), None when it does not ask."""
    try:
        allowed_us = int(os.environ.get("WATCHDOG_USEC", ""))
        meant_for = int(os.environ.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    if allowed_us <= 0 or meant_for != os.getpid():
        return None
    return allowed_us / 2_000_000
