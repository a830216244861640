"""Processes that begin as forks of one which has loaded the management node: 0.1 s instead of 2 s of a core.

`popen` is `subprocess.Popen` for Python programs: each is a process of its own, with its own environment, log
and end. Each network namespace has its zygote; they end with the tests.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

REPOSITORY = Path(__file__).parents[1]
START_TIMEOUT_S = 120.0
_MESSAGE_MAX = 1 << 20

_sockets: dict[str, str] = {}  # network namespace -> its zygote's socket
_guard = threading.Lock()


class Process:
    """A process that a zygote has forked; what tests use of subprocess.Popen."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal that ended it), None while it runs."""
        return self._read(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code. Raises subprocess.TimeoutExpired."""
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def _read(self, timeout_s: float | None) -> int | None:
        if self.returncode is None:
            # A timeout of 0 makes a socket non-blocking, and one without data then raises BlockingIOError
            self._connection.settimeout(timeout_s)
            with contextlib.suppress(TimeoutError, BlockingIOError):
                said = self._connection.recv(64)
                assert said, "the zygote has ended"
                self.returncode = int(said)
                self._connection.close()
        return self.returncode


def popen(argv: Sequence[str], *, log: IO[bytes] | None, env: Mapping[str, str], cwd: str = "/") -> Process:
    """Start what `python *argv` would; `log` gets both outputs, None: nobody does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(_zygote())
    request = json.dumps({"argv": list(argv), "env": dict(env), "cwd": cwd}).encode()
    with Path(os.devnull).open("wb") if log is None else contextlib.nullcontext(log) as output:
        socket.send_fds(connection, [request], [output.fileno()])
    return Process(int(connection.recv(64)), connection)


def _zygote() -> str:
    namespace = str(Path("/proc/thread-self/ns/net").readlink())
    with _guard:
        if namespace not in _sockets:
            _sockets[namespace] = _start()
        return _sockets[namespace]


def _start() -> str:
    path = str(Path(tempfile.mkdtemp(prefix="zygote-")) / "socket")
    keep, given = os.pipe()  # closed when this process ends, however it does
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.zygote", path, str(keep)],
        stdin=subprocess.DEVNULL,
        env=environment,
        pass_fds=[keep],
    )
    os.close(keep)
    os.set_inheritable(given, False)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not Path(path).exists():
        assert process.poll() is None, "the zygote has ended"
        assert time.monotonic() < deadline, "the zygote does not start"
        time.sleep(0.02)
    return path


class _Zygote:
    """Forks when asked, and tells who asked how the process ended."""

    def __init__(self, path: str, owner: int) -> None:
        self._path = path
        self._owner = owner
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, tuple[int, socket.socket]] = {}  # pidfd -> pid, who asked

    def serve(self) -> None:
        """Serve until the owner has ended."""
        self._listening.bind(self._path + ".new")
        self._listening.listen(64)
        Path(self._path + ".new").rename(self._path)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._owner, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._owner:
                    Path(self._path).unlink()
                    Path(self._path).parent.rmdir()
                    return
                if key.fileobj is self._listening:
                    self._fork()
                else:
                    self._ended(key.fd)

    def _fork(self) -> None:
        connection, _ = self._listening.accept()
        request, outputs, _, _ = socket.recv_fds(connection, _MESSAGE_MAX, 1)
        if not request:
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            _become(json.loads(request), outputs[0])
        os.close(outputs[0])
        child = os.pidfd_open(pid)
        self._children[child] = (pid, connection)
        self._selector.register(child, selectors.EVENT_READ)
        connection.send(str(pid).encode())

    def _ended(self, child: int) -> None:
        self._selector.unregister(child)
        os.close(child)
        pid, connection = self._children.pop(child)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError), connection:  # who asked may be gone
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, Any], output: int) -> NoReturn:
    """Be the program that was asked for."""
    code = 1
    try:
        gc.unfreeze()
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.closerange(3, max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 1)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        first, *argv = request["argv"]
        if first == "-m":
            sys.argv = argv
            runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [first, *argv]
            runpy.run_path(first, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Load what a management node loads, then serve."""
    import mn.serve  # noqa: F401
    from mn import facilities

    facilities.load()
    gc.collect()
    gc.freeze()
    _Zygote(sys.argv[1], int(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
