"""The daemon's place on its machine: state directory, its lock, listening socket, ready file."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import msgspec

from agentkit.errors import HardpointError
from agentkit.files import write_durably
from agentkit.locks import take

LOCK_FILE = "agent.lock"
READY_FILE = "ready.json"
_BACKLOG = 128


class Ready(msgspec.Struct):
    """What `ready.json` says once the daemon listens."""

    pid: int
    address: str
    port: int
    instance: str


def start_error(details: str, remedy: str) -> HardpointError:
    """Return the error of a daemon that cannot start."""
    return HardpointError("SYS.1000", "Internal error", details, remedy=remedy)


class StateDirectory:
    """The directory that a running daemon has for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def take(self) -> None:
        """Create the directory when needed and lock it.

        Raises HardpointError when it cannot be used or another process has it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            remedy = "make it writable for the daemon's user, or set another state_dir"
            raise start_error(
                f"the state directory {self.path} cannot be used: {error.strerror}", remedy
            ) from error
        if not take(lock):
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            details = f"another agent (pid {holder}) uses the state directory {self.path}"
            raise start_error(details, "stop that agent, or give this one a state_dir of its own")
        self._lock = lock
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise self._unwritable(error) from error

    def release(self) -> None:
        """Let the next process have the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def last_port(self) -> int | None:
        """Return the port of the last `ready.json`, None without a readable one."""
        try:
            return msgspec.json.decode((self.path / READY_FILE).read_bytes(), type=Ready).port
        except (OSError, msgspec.DecodeError):
            return None

    def write_ready(self, listener: socket.socket, instance: str) -> Ready:
        """Say in `ready.json` where the daemon listens."""
        address, port = listener.getsockname()[:2]
        ready = Ready(os.getpid(), address, port, instance)
        try:
            write_durably(self.path / READY_FILE, msgspec.json.encode(ready), mode=0o644)
        except OSError as error:
            raise self._unwritable(error) from error
        return ready

    def _unwritable(self, error: OSError) -> HardpointError:
        remedy = "make room on its file system and see that it is writable"
        return start_error(f"nothing can be written to {self.path}: {error.strerror}", remedy)


def listen(address: str, port: int, last_port: int | None) -> socket.socket:
    """Return a listening socket; for port 0 it is `last_port` when that is free, else any.

    Raises HardpointError naming the address, the reason and what to do.
    """
    if port == 0 and last_port:
        try:
            return _bound(address, last_port)
        except OSError:
            pass
    try:
        return _bound(address, port)
    except OSError as error:
        raise _listen_error(address, port, error) from error


def _bound(address: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, name = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(name)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_error(address: str, port: int, error: OSError) -> HardpointError:
    where = f"{address} port {port}"
    if error.errno == errno.EADDRINUSE:
        remedy = f"stop what uses it (`ss -ltnp 'sport = :{port}'` shows it), or set another port"
        return start_error(f"{where} is taken by another process", remedy)
    if error.errno == errno.EACCES:
        return start_error(
            f"no permission to listen on {where}", "use a port above 1023 or grant CAP_NET_BIND_SERVICE"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return start_error(
            f"this machine has no address {address}", "set listen_address to an address it has"
        )
    return start_error(
        f"cannot listen on {where}: {error.strerror or error}", "correct listen_address and port"
    )
