"""Run a script on one host or many over SSH, with time limits and output caps (KvmRunShell, manual 4.3.10).

The script goes through the channel's standard input to a fixed command, `_RUNNER`, which keeps it in a
private file while `sh` runs it. The channel's input then stays open: its end tells the host to kill the
script, so a script also dies with the management node or the network. The script itself reads from /dev/null.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import logging
import math
import secrets
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import asyncssh

from agentkit.errors import HardpointError
from mn.fleet import ssh_errors
from mn.fleet.ssh import SshLink, SshPool, SshTarget

_log = logging.getLogger(__name__)

OUTPUT_LIMIT_BYTES = 1 << 20
OPEN_TIMEOUT_S = 10.0
KILL_CONFIRM_S = 5.0
DRAIN_SILENCE_S = 1.0
HOST_WATCHDOG_MARGIN_S = 15
PREAMBLE_LIMIT_BYTES = 1 << 16
NO_RETURN_CODE = -1

# One line without single quote, backslash or "!" before a word: any login shell hands it to sh unharmed.
# Input: "token size limit\n", `size` bytes of script, then nothing until its end, which means kill.
# The token as a line on both outputs divides what a login shell printed from the script's output.
# Killing takes the script's process group and what else inherited its environment, in rounds: it may fork.
_RUNNER_LINES = """
umask 077; exec 3<&0; f=; p=; late=;
clean() { [ -z "$f" ] || rm -f -- "$f"; };
stop() { late=1; [ -n "$p" ] || return; kill -s KILL -- "-$p";
  for i in 1 2 3; do
    for e in $(grep -slF "HARDPOINT_RUN=$token" /proc/[0-9]*/environ); do
      e=${e%/environ}; kill -s KILL "${e#/proc/}";
    done;
  done; } 2>/dev/null;
trap clean EXIT; trap "stop; exit 143" HUP INT PIPE TERM; trap stop USR1;
read -r token size limit <&3 || exit 1;
for c in mktemp head wc grep setsid timeout; do
  command -v "$c" >/dev/null || { echo "the host has no command $c" >&2; exit 1; };
done;
f=$(mktemp "${TMPDIR:-/tmp}/hardpoint.XXXXXXXXXX") || exit 1;
head -c "$size" <&3 >"$f" || exit 1;
[ "$(wc -c <"$f")" -eq "$size" ] || { echo "the script arrived incomplete" >&2; exit 1; };
echo "$token"; echo "$token" >&2;
HARDPOINT_RUN=$token setsid sh "$f" </dev/null 3<&- & p=$! ;
{ timeout "$limit" cat <&3; kill -s USR1 $$; } >/dev/null 2>&1 & w=$! ;
wait "$p" 2>/dev/null; s=$?; { kill -s KILL "$w"; wait "$w"; } 2>/dev/null; [ -z "$late" ] || s=137; exit "$s"
"""
_RUNNER = f"exec /bin/sh -c '{' '.join(_RUNNER_LINES.split())}'"


@dataclass(frozen=True, slots=True)
class ScriptLimits:
    """What one host may take: `time_s` seconds from the script's start, `output_bytes` kept per stream."""

    time_s: float
    output_bytes: int = OUTPUT_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class ShellResult:
    """What a script did on one host.

    `return_code` is the script's own (128+n when signal n killed it), NO_RETURN_CODE when there is none.
    `stdout_bytes` and `stderr_bytes` are what was printed; when more than the cap, the texts are cut there
    and the `truncated` flags set. `error` is set when SSH failed or the time limit was hit, never for a
    script that merely returned non-zero; texts then hold what had arrived. `host_key`: once connected.
    """

    return_code: int = NO_RETURN_CODE
    stdout: str = ""
    stderr: str = ""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    error: HardpointError | None = None
    host_key: str | None = None


class _StaleLinkError(Exception):
    """A reused connection turned out dead before anything was sent on it."""


class _Capture:
    """One output stream: what follows the marker line, kept up to a cap and counted beyond."""

    def __init__(self, marker: bytes, cap: int) -> None:
        self._marker = marker
        self._cap = cap
        self._kept = bytearray()
        self.preamble = b""
        self.started = False
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        if not self.started:
            self.preamble, found, data = (self.preamble + data).partition(self._marker)
            if not found:
                self.preamble = self.preamble[-PREAMBLE_LIMIT_BYTES:]
                return
            self.started = True
        self.total += len(data)
        self._kept += data[: self._cap - len(self._kept)]

    @property
    def truncated(self) -> bool:
        """Whether more came than was kept."""
        return self.total > self._cap

    def text(self) -> str:
        """Return what was kept; what is not UTF-8 becomes U+FFFD, a character cut by the cap is left out."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return decoder.decode(bytes(self._kept), final=not self.truncated)


class _ScriptSession(asyncssh.SSHClientSession[bytes]):
    """The channel as events. Data is taken as it comes, so the host never blocks on a full window."""

    def __init__(self, token: str, cap: int) -> None:
        marker = f"{token}\n".encode()
        self.stdout = _Capture(marker, cap)
        self.stderr = _Capture(marker, cap)
        self.pieces = 0
        self.code: int | None = None
        self.lost_reason = "the server closed the channel"
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.pieces += 1
        (self.stderr if datatype == asyncssh.EXTENDED_DATA_STDERR else self.stdout).feed(data)

    def eof_received(self) -> bool:
        return True  # the input stays open: its end would kill the script

    def exit_status_received(self, status: int) -> None:
        self.code = status
        self.exited.set()

    def exit_signal_received(
        self,
        signal: str,
        core_dumped: bool,
        msg: str,
        lang: str,
    ) -> None:
        self.code = _signal_code(signal)
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.lost_reason = str(exc)
        self.exited.set()
        self.closed.set()

    async def drain(self) -> None:
        """Wait for the end of the output, which may trail the exit code.

        A process that the script left in the background holds the channel open; silence ends the wait then.
        """
        while not self.closed.is_set():
            pieces = self.pieces
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.closed.wait(), DRAIN_SILENCE_S)
            if pieces == self.pieces:
                return

    def result(self, error: HardpointError | None, host_key: str) -> ShellResult:
        """Return what has been seen so far."""
        return ShellResult(
            return_code=NO_RETURN_CODE if self.code is None or not self.stdout.started else self.code,
            stdout=self.stdout.text(),
            stderr=self.stderr.text(),
            stdout_bytes=self.stdout.total,
            stderr_bytes=self.stderr.total,
            stdout_truncated=self.stdout.truncated,
            stderr_truncated=self.stderr.truncated,
            error=error,
            host_key=host_key,
        )


def _signal_code(name: str) -> int:
    """Return 128+n for a signal's SSH name, 255 for one unknown here."""
    try:
        return 128 + signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 255


@contextlib.asynccontextmanager
async def _channel(link: SshLink, session: _ScriptSession) -> AsyncIterator[asyncssh.SSHClientChannel[bytes]]:
    """Start the runner on a connection; the channel is closed at the end of the block."""
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            channel, _ = await link.connection.create_session(lambda: session, _RUNNER, encoding=None)
    except (TimeoutError, OSError, asyncssh.Error) as error:
        link.broken = True
        if link.reused:
            raise _StaleLinkError from error
        reason = str(error) or f"no answer within {OPEN_TIMEOUT_S:g} s"
        raise ssh_errors.session_refused(link.label, reason) from error
    try:
        yield channel
    finally:
        channel.abort()


async def _follow(channel: asyncssh.SSHClientChannel[bytes], session: _ScriptSession, time_s: float) -> bool:
    """Wait for the script; return whether it had to be killed."""
    try:
        async with asyncio.timeout(time_s):
            await session.exited.wait()
            await session.drain()
    except TimeoutError:
        if session.exited.is_set():
            return False
        channel.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_CONFIRM_S):
                await session.exited.wait()
                await session.drain()
        return True
    return False


async def _run_on(link: SshLink, script: bytes, limits: ScriptLimits) -> ShellResult:
    """Run a script on an open connection."""
    token = secrets.token_hex(16)
    session = _ScriptSession(token, limits.output_bytes)
    watchdog_s = math.ceil(limits.time_s) + HOST_WATCHDOG_MARGIN_S
    async with _channel(link, session) as channel:
        channel.write(f"{token} {len(script)} {watchdog_s}\n".encode() + script)
        killed = await _follow(channel, session, limits.time_s)
    if session.code is None:
        link.broken = True
    return session.result(_error_of(link, session, limits, killed=killed), link.host_key)


def _error_of(
    link: SshLink, session: _ScriptSession, limits: ScriptLimits, *, killed: bool
) -> HardpointError | None:
    """Return why a run is not the script's own ending, None when it is."""
    if killed:
        return ssh_errors.script_timed_out(link.label, limits.time_s, confirmed=session.code is not None)
    if session.code is None:
        return ssh_errors.connection_lost(link.label, session.lost_reason)
    if not session.stdout.started:
        said = session.stderr.preamble or session.stdout.preamble
        tail = said.decode("utf-8", "replace").strip()[-500:]
        return ssh_errors.script_not_started(link.label, session.code, tail)
    return None


async def _run_in(pool: SshPool, target: SshTarget, script: bytes, limits: ScriptLimits) -> ShellResult:
    """Run a script on a pooled connection, on a new one when the pooled one is dead."""
    try:
        async with pool.session(target) as link:
            return await _run_on(link, script, limits)
    except _StaleLinkError:
        async with pool.session(target, fresh=True) as link:
            return await _run_on(link, script, limits)


async def run_script(
    target: SshTarget, script: str | bytes, limits: ScriptLimits, *, pool: SshPool | None = None
) -> ShellResult:
    """Run a script with `sh` as the target's user; connect anew unless a pool is given.

    SSH failures and the time limit are in the result's `error`, not raised. Over the limit, everything the
    script started is killed (what runs as another user by sudo or has dropped its environment and its process
    group escapes). After a normal end, background processes the script left stay.
    """
    if pool is None:
        async with SshPool(maximum=1) as own:
            return await run_script(target, script, limits, pool=own)
    try:
        data = script.encode("utf-8", "surrogateescape") if isinstance(script, str) else script
    except UnicodeEncodeError as error:
        return ShellResult(error=ssh_errors.script_not_text(str(error)))
    try:
        return await _run_in(pool, target, data, limits)
    except HardpointError as error:
        return ShellResult(error=error)


async def fan_out(
    targets: Mapping[str, SshTarget],
    script: str | bytes,
    limits: ScriptLimits,
    at_once: int = 50,
    *,
    pool: SshPool | None = None,
) -> dict[str, ShellResult]:
    """Run a script on many hosts, `at_once` at a time; each result under its target's key, in their order."""
    places = asyncio.Semaphore(at_once)

    async def run(target: SshTarget) -> ShellResult:
        async with places:
            try:
                return await run_script(target, script, limits, pool=pool)
            except Exception as error:  # noqa: BLE001 (a fault of ours must not cancel the other hosts)
                _log.exception("running a script on %s failed", target.label)
                return ShellResult(error=ssh_errors.internal(target.label, error))

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(run(target)) for name, target in targets.items()}
    return {name: task.result() for name, task in tasks.items()}
