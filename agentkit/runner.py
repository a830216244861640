"""Runs commands on the host: argv lists, a time limit, capped output, nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shlex
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentkit.errors import HardpointError
from agentkit.logs import MASK

log = logging.getLogger(__name__)

OUTPUT_CAP_BYTES = 1024 * 1024
TERM_GRACE_S = 2.0
KILL_GRACE_S = 5.0
DRAIN_S = 0.5
"""How long to wait for output after the command has ended: a process it left behind may hold the pipes."""

_STDERR_LINES = 5
_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
_NOT_FOR_CHILDREN = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)


@dataclass(frozen=True)
class Completed:
    """A command that has ended; `returncode` is negative for a signal, `argv` has secrets masked.

    `stdout` is the first `output_cap` bytes, `stderr` the last; `truncated` says that one of them is not all.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    truncated: bool
    duration_s: float
    redact: tuple[str, ...] = field(default=(), repr=False)

    def check(self) -> Completed:
        """Return this, or raise CommandError when the exit code is not 0."""
        if self.returncode == 0:
            return self
        ended = f"exit code {self.returncode}"
        if self.returncode < 0:
            ended = f"killed by signal {-self.returncode}"
        raise CommandError(self, f"`{shlex.join(self.argv)}` failed: {ended}{last_lines(self)}")


class CommandError(HardpointError):
    """A command that failed, could not be started or took too long; `completed` is what is known of it."""

    def __init__(
        self, completed: Completed, details: str, remedy: str = "see what the command says of the reason"
    ) -> None:
        super().__init__("SYS.1006", "Operation failed", details, remedy=remedy)
        self.completed = completed


def last_lines(completed: Completed) -> str:
    """Return the last lines of stderr for an error text, secrets masked; empty when there are none."""
    text = _masked(completed.stderr.decode(errors="replace"), completed.redact)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ": " + " | ".join(lines[-_STDERR_LINES:])[-2000:] if lines else ""


class Runner(Protocol):
    """What runs commands: the real thing, or a script of what they would say."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        input: bytes | None = None,  # noqa: A002 as in subprocess
        env: Mapping[str, str] | None = None,
        redact: Sequence[str] = (),
        output_cap: int = OUTPUT_CAP_BYTES,
    ) -> Completed:
        """Run `argv` and return how it ended, whatever its exit code (`check` turns that into an error).

        `env` adds to the daemon's environment; each text in `redact` is masked in what is logged or raised.
        Raises CommandError when it cannot be started or has not ended after `timeout_s`; it and its process
        group are killed then, and likewise when the caller is cancelled.
        """
        ...


class ProcessRunner:
    """The real runner.

    With `linked` commands die with the daemon, however that ends. They create files with `umask`; None: the
    daemon's own.
    """

    def __init__(self, *, linked: bool = False, umask: int | None = None) -> None:
        self._linked = linked
        self._umask = umask

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        input: bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        redact: Sequence[str] = (),
        output_cap: int = OUTPUT_CAP_BYTES,
    ) -> Completed:
        """See Runner."""
        secrets = tuple(secret for secret in redact if secret)
        shown = tuple(_masked(word, secrets) for word in argv)
        started = time.monotonic()
        process = _Process(output_cap)
        environment = _environment(env)
        umask = -1 if self._umask is None else self._umask
        try:
            started_as = linked_argv(argv, environment.get("PATH")) if self._linked else argv
            transport = await _start(process, started_as, environment, umask, has_input=input is not None)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            failed = Completed(shown, 127, b"", b"", False, 0.0, secrets)
            details = f"`{shlex.join(shown)}` cannot be started: {reason}"
            remedy = f"install the package of {shown[0]} on the host, or see that it may be run"
            raise CommandError(failed, details, remedy) from error
        try:
            timed_out = await _converse(process, transport, input, timeout_s)
        finally:
            transport.close()
        completed = process.completed(shown, transport, time.monotonic() - started, secrets)
        if timed_out:
            details = f"`{shlex.join(shown)}` had not ended after {timeout_s:g} s and was killed"
            raise CommandError(completed, details + last_lines(completed))
        return completed


class _Capture:
    """The first (or last) `cap` bytes of a stream; the rest is thrown away so that nothing blocks."""

    def __init__(self, cap: int, *, keep_end: bool) -> None:
        self.kept = bytearray()
        self.truncated = False
        self._cap = cap
        self._keep_end = keep_end

    def add(self, chunk: bytes) -> None:
        self.truncated = self.truncated or len(self.kept) + len(chunk) > self._cap
        if not self._keep_end:
            self.kept += chunk[: self._cap - len(self.kept)]
            return
        self.kept += chunk
        if len(self.kept) > self._cap:
            del self.kept[: len(self.kept) - self._cap]


class _Process(asyncio.SubprocessProtocol):
    def __init__(self, output_cap: int) -> None:
        loop = asyncio.get_running_loop()
        self.stdout = _Capture(output_cap, keep_end=False)
        self.stderr = _Capture(output_cap, keep_end=True)
        self.exited: asyncio.Future[None] = loop.create_future()
        self.silent: asyncio.Future[None] = loop.create_future()
        self._open = {1, 2}

    def completed(
        self,
        shown: tuple[str, ...],
        transport: asyncio.SubprocessTransport,
        took_s: float,
        redact: tuple[str, ...],
    ) -> Completed:
        code = transport.get_returncode()
        returncode = -signal.SIGKILL if code is None else code
        out, err = self.stdout, self.stderr
        truncated = out.truncated or err.truncated
        return Completed(shown, returncode, bytes(out.kept), bytes(err.kept), truncated, took_s, redact)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        (self.stdout if fd == 1 else self.stderr).add(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open and not self.silent.done():
            self.silent.set_result(None)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


def linked_argv(argv: Sequence[str], path: str | None = None) -> list[str]:
    """Return the argv of a command that the kernel kills when its parent dies.

    `path` is what the command is looked for in, else PATH. Raises OSError when there is none.
    """
    found = shutil.which(argv[0], path=path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    return [*_WITH_PARENT, found, *argv[1:]]


async def _start(
    process: _Process, argv: Sequence[str], environment: Mapping[str, str], umask: int, *, has_input: bool
) -> asyncio.SubprocessTransport:
    """Start the process. A caller that is cancelled meanwhile is let go when it has started and is killed.

    asyncio's own start does not take a cancellation: it kills the leader alone, or waits for ever.
    """
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            lambda: process,
            *argv,
            stdin=asyncio.subprocess.PIPE if has_input else asyncio.subprocess.DEVNULL,
            env=environment,
            umask=umask,
            start_new_session=True,
        )
    )
    try:
        transport, _ = await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_kill_started)
        await asyncio.wait({starting})
        raise
    return transport


def _kill_started(starting: asyncio.Future[tuple[asyncio.SubprocessTransport, _Process]]) -> None:
    if starting.cancelled() or starting.exception():
        return
    transport, _ = starting.result()
    _signal_group(transport.get_pid(), signal.SIGKILL)
    transport.close()


async def _converse(
    process: _Process, transport: asyncio.SubprocessTransport, data: bytes | None, timeout_s: float
) -> bool:
    """Feed the process, wait for its end, and say whether it had to be killed for taking too long."""
    if data is not None:
        stdin = transport.get_pipe_transport(0)
        if isinstance(stdin, asyncio.WriteTransport):
            stdin.write(data)
            stdin.close()
    try:
        done, _ = await asyncio.wait({process.exited}, timeout=timeout_s)
        if done:
            await asyncio.wait({process.silent}, timeout=DRAIN_S)
            return False
    except BaseException:
        _signal_group(transport.get_pid(), signal.SIGKILL)
        raise
    await _end_group(process, transport.get_pid())
    return True


async def _end_group(process: _Process, group: int) -> None:
    try:
        _signal_group(group, signal.SIGTERM)
        await asyncio.wait({process.exited}, timeout=TERM_GRACE_S)
    finally:
        # Also after the leader has gone: a child of it may have ignored the first signal.
        _signal_group(group, signal.SIGKILL)
    done, _ = await asyncio.wait({process.exited}, timeout=KILL_GRACE_S)
    if not done:
        log.error(
            "a killed command does not end (stuck in the kernel?) and is left behind", extra={"pid": group}
        )


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
    return {**inherited, "LC_ALL": "C", **(extra or {})}


def _masked(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


@dataclass(frozen=True)
class Answer:
    """What a scripted command says."""

    stdout: bytes = b""
    stderr: bytes = b""
    returncode: int = 0


class ScriptedRunner:
    """Answers commands from a table and keeps what was run; for tests and simulated hosts.

    The key of the table is a beginning of the argv; the longest one that fits is taken.
    """

    def __init__(self, answers: Mapping[tuple[str, ...], Answer]) -> None:
        self.answers = dict(answers)
        self.ran: list[tuple[str, ...]] = []

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        input: bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        redact: Sequence[str] = (),
        output_cap: int = OUTPUT_CAP_BYTES,
    ) -> Completed:
        """See Runner."""
        words = tuple(argv)
        self.ran.append(words)
        shown = tuple(_masked(word, redact) for word in words)
        fitting = [start for start in self.answers if words[: len(start)] == start]
        if not fitting:
            unknown = Completed(shown, 127, b"", b"", False, 0.0, tuple(redact))
            raise CommandError(unknown, f"`{shlex.join(shown)}` is not in the script")
        answer = self.answers[max(fitting, key=len)]
        out, err = answer.stdout[:output_cap], answer.stderr[-output_cap:]
        cut = len(out) < len(answer.stdout) or len(err) < len(answer.stderr)
        return Completed(shown, answer.returncode, out, err, cut, 0.0, tuple(redact))
