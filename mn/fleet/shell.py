"""Run a script on one host or many over SSH, with time limits and output caps (KvmRunShell, manual 4.3.10).

The script goes through the channel's standard input to a fixed command, `_RUNNER`, which keeps it in a
private file while `sh` runs it. The channel's input then stays open: its end tells the host to kill the
script, so a script also dies with the management node or the network. The script itself reads from /dev/null.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import asyncssh

from agentkit.errors import HardpointError
from mn.fleet import ssh_errors
from mn.fleet.outputs import Kept
from mn.fleet.script_session import Keep, ScriptSession
from mn.fleet.shares import Shares
from mn.fleet.ssh import SshLink, SshPool, SshTarget

_log = logging.getLogger(__name__)

OUTPUT_LIMIT_BYTES = 1 << 20
OPEN_TIMEOUT_S = 10.0
KILL_CONFIRM_S = 5.0
HOST_WATCHDOG_MARGIN_S = 15
WINDOW_BYTES = 1 << 19
"""Output that a host may send before it is taken: what a host that is held up costs in memory."""
NO_RETURN_CODE = -1
READ_MAX_BYTES = 4096
"""A shell reads byte by byte: up to here that costs a host less than a process to read with."""
_PLAIN = re.compile(rb"[\t\n -~]*")

# One line without single quote, backslash or "!" before a word: any login shell hands it to sh unharmed.
# Input: "token lines size limit\n", the script, then nothing until its end, which means kill. A script of
# some `lines` is read by the shell itself, which starts no process; with 0 of them `size` bytes are taken.
# The token as a line on both outputs divides what a login shell printed from the script's output; in the
# file's name, which must be new (set -C), it takes the place of a random one.
# Killing takes the script's process group, its descendants (one grep of /proc for each generation, before
# any of them dies and leaves orphans) and what inherited its environment, in rounds: it may fork.
_RUNNER_LINES = """
umask 077; set -C; exec 3<&0; f=; p=; late=;
clean() { [ -z "$f" ] || rm -f -- "$f"; };
tree() { all="$1"; set -- "$1";
  while [ $# -gt 0 ]; do
    n=; for e in "$@"; do n="$n -e PPid:.$e"; done;
    n=$(grep -slx $n /proc/[0-9]*/status); set --;
    for e in $n; do e=${e%/status}; set -- "$@" "${e#/proc/}"; done; all="$all $*";
  done; };
stop() { late=1; [ -n "$p" ] || return; tree "$p"; kill -s KILL -- "-$p"; kill -s KILL $all;
  for i in 1 2 3; do
    for e in $(grep -slF "HARDPOINT_RUN=$token" /proc/[0-9]*/environ); do
      e=${e%/environ}; kill -s KILL "${e#/proc/}";
    done;
  done; } 2>/dev/null;
trap clean EXIT; trap "stop; exit 143" HUP INT PIPE TERM; trap stop USR1;
take() { s=;
  [ "$lines" -gt 0 ] || { head -c "$size" <&3 && [ "$(wc -c <"$f")" -eq "$size" ]; return; };
  while [ "$lines" -gt 0 ]; do
    IFS= read -r l <&3 && printf %s "$s$l" || return; s=${IFS#??}; lines=$((lines - 1));
  done; };
read -r token lines size limit <&3 || exit 1;
for c in head wc grep setsid timeout; do
  command -v "$c" >/dev/null || { echo "the host has no command $c" >&2; exit 1; };
done;
f="${TMPDIR:-/tmp}/hardpoint.$token";
{ take || { echo "the script arrived incomplete" >&2; exit 1; }; } >"$f" || exit 1;
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
    script that merely returned non-zero; texts then hold what had arrived. A `kept` is what is in the file of
    a stream that was cut. `host_key`: once connected.
    """

    return_code: int = NO_RETURN_CODE
    stdout: str = ""
    stderr: str = ""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    stdout_kept: Kept | None = None
    stderr_kept: Kept | None = None
    error: HardpointError | None = None
    host_key: str | None = None


class _StaleLinkError(Exception):
    """A reused connection turned out dead before anything was sent on it."""


@contextlib.asynccontextmanager
async def _channel(link: SshLink, session: ScriptSession) -> AsyncIterator[asyncssh.SSHClientChannel[bytes]]:
    """Start the runner on a connection; the channel is closed at the end of the block."""
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            channel, _ = await link.connection.create_session(
                lambda: session, _RUNNER, encoding=None, window=WINDOW_BYTES
            )
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


async def _follow(channel: asyncssh.SSHClientChannel[bytes], session: ScriptSession, time_s: float) -> bool:
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


def _input(token: str, script: bytes, watchdog_s: int) -> bytes:
    """Return what the runner is given: short plain text as lines, which any shell's `read` leaves alone."""
    plain = len(script) <= READ_MAX_BYTES and _PLAIN.fullmatch(script)
    lines = script.count(b"\n") + 1 if plain else 0
    return f"{token} {lines} {len(script)} {watchdog_s}\n".encode() + script + (b"\n" if lines else b"")


async def _run_on(link: SshLink, script: bytes, limits: ScriptLimits, keep: Keep | None) -> ShellResult:
    """Run a script on an open connection."""
    token = secrets.token_hex(16)
    session = ScriptSession(token, limits.output_bytes, keep)
    watchdog_s = math.ceil(limits.time_s) + HOST_WATCHDOG_MARGIN_S
    try:
        async with _channel(link, session) as channel:
            with contextlib.suppress(BrokenPipeError):  # a command of the server's own has ended by now
                channel.write(_input(token, script, watchdog_s))
            killed = await _follow(channel, session, limits.time_s)
        if session.code is None:
            link.broken = True
        return await _result(link, session, _error_of(link, session, limits, killed=killed))
    except BaseException:
        session.abandon()
        raise


async def _result(link: SshLink, session: ScriptSession, error: HardpointError | None) -> ShellResult:
    """Return what a script has come to, once its files are written."""
    stdout, stderr = await session.stdout.printed(), await session.stderr.printed()
    for name, stream in ("stdout", stdout), ("stderr", stderr):
        if stream.kept and stream.kept.error and error is None:
            error = ssh_errors.output_not_kept(link.label, name, stream.kept.error)
    return ShellResult(
        return_code=NO_RETURN_CODE if session.code is None or not session.stdout.started else session.code,
        stdout=stdout.text,
        stderr=stderr.text,
        stdout_bytes=stdout.length,
        stderr_bytes=stderr.length,
        stdout_truncated=stdout.truncated,
        stderr_truncated=stderr.truncated,
        stdout_kept=stdout.kept,
        stderr_kept=stderr.kept,
        error=error,
        host_key=link.host_key,
    )


def _error_of(
    link: SshLink, session: ScriptSession, limits: ScriptLimits, *, killed: bool
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


async def _run_in(
    pool: SshPool, target: SshTarget, script: bytes, limits: ScriptLimits, keep: Keep | None
) -> ShellResult:
    """Run a script on a pooled connection, on a new one when the pooled one is dead."""
    try:
        async with pool.session(target) as link:
            return await _run_on(link, script, limits, keep)
    except _StaleLinkError:
        async with pool.session(target, fresh=True) as link:
            return await _run_on(link, script, limits, keep)


async def run_script(
    target: SshTarget,
    script: str | bytes,
    limits: ScriptLimits,
    *,
    pool: SshPool | None = None,
    keep: Keep | None = None,
) -> ShellResult:
    """Run a script with `sh` as the target's user; connect anew unless a pool is given.

    SSH failures and the time limit are in the result's `error`, not raised. Over the limit, everything the
    script started is killed (what runs as another user by sudo escapes, and what has dropped its environment
    and process group after its parent ended). After a normal end, background processes the script left stay.
    A stream that prints more than its cap goes whole to the file that `keep` gives.
    """
    if pool is None:
        async with SshPool(maximum=1) as own:
            return await run_script(target, script, limits, pool=own, keep=keep)
    try:
        data = script.encode("utf-8", "surrogateescape") if isinstance(script, str) else script
    except UnicodeEncodeError as error:
        return ShellResult(error=ssh_errors.script_not_text(str(error)))
    try:
        return await _run_in(pool, target, data, limits, keep)
    except HardpointError as error:
        return ShellResult(error=error)


async def fan_out(
    targets: Mapping[str, SshTarget],
    script: str | bytes,
    limits: ScriptLimits,
    turns: Shares,
    *,
    pool: SshPool | None = None,
    keep: Callable[[str], Keep] | None = None,
) -> dict[str, ShellResult]:
    """Run a script on many hosts, as many at a time as `turns` allows beside other calls.

    Each result is under its target's key, in their order. `keep` gives, for a target's key, the files of what
    it prints beyond the cap.
    """
    caller = object()

    async def run(name: str, target: SshTarget) -> ShellResult:
        async with turns.place(caller):
            try:
                return await run_script(target, script, limits, pool=pool, keep=keep and keep(name))
            except Exception as error:  # noqa: BLE001 (a fault of ours must not cancel the other hosts)
                _log.exception("running a script on %s failed", target.label)
                return ShellResult(error=ssh_errors.internal(target.label, error))

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(run(name, target)) for name, target in targets.items()}
    return {name: task.result() for name, task in tasks.items()}
