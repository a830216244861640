"""A script's SSH channel as events: its two output streams, up to a cap here and whole in files."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass

import asyncssh

from mn.fleet.outputs import Kept, OutputFile, Stream

PREAMBLE_LIMIT_BYTES = 1 << 16
DRAIN_SILENCE_S = 1.0
PENDING_HIGH_BYTES = 1 << 18
"""Of a channel's output on its way to files: above this its host is held up until below half of it."""

Keep = Callable[[Stream, Callable[[], None]], OutputFile]
"""Gives the file for a stream that printed more than the cap."""


@dataclass(frozen=True, slots=True)
class Printed:
    """One stream of a script: its beginning as text, all bytes it had, and what is in its file, if any."""

    text: str = ""
    length: int = 0
    truncated: bool = False
    kept: Kept | None = None


class Capture:
    """One output stream: what follows the marker line, up to a cap; when more comes, all goes to a file."""

    def __init__(self, marker: bytes, cap: int, keep: Callable[[], OutputFile] | None) -> None:
        self._marker = marker
        self._cap = cap
        self._keep = keep
        self._head = bytearray()
        self._file: OutputFile | None = None
        self.preamble = b""
        self.started = False
        self.total = 0

    @property
    def pending(self) -> int:
        """Bytes that are not in the file yet."""
        return self._file.pending if self._file else 0

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        if not self.started:
            self.preamble, found, data = (self.preamble + data).partition(self._marker)
            if not found:
                self.preamble = self.preamble[-PREAMBLE_LIMIT_BYTES:]
                return
            self.started = True
        self.total += len(data)
        if self._keep is not None and self._file is None and self.total > self._cap:
            self._file = self._keep()
            self._file.feed(bytes(self._head))
        if self._file is not None:
            self._file.feed(data)
        self._head += data[: self._cap - len(self._head)]

    def abandon(self) -> None:
        """Close the file; what is on its way to it is dropped."""
        if self._file is not None:
            self._file.abandon()

    async def printed(self) -> Printed:
        """Return the stream once its file is written.

        What is not UTF-8 becomes U+FFFD, a character cut by the cap is left out.
        """
        truncated = self.total > self._cap
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text = decoder.decode(bytes(self._head), final=not truncated)
        kept = await self._file.finish() if self._file is not None else None
        return Printed(text, self.total, truncated, kept)


class ScriptSession(asyncssh.SSHClientSession[bytes]):
    """The channel. Data is taken as it comes; only a disk that does not keep up lets the host wait."""

    def __init__(self, token: str, cap: int, keep: Keep | None = None) -> None:
        marker = f"{token}\n".encode()
        self.stdout = Capture(marker, cap, keep and (lambda: keep("stdout", self._on_room)))
        self.stderr = Capture(marker, cap, keep and (lambda: keep("stderr", self._on_room)))
        self.pieces = 0
        self.code: int | None = None
        self.lost_reason = "the server closed the channel"
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._paused = False

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Take the channel."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Take output."""
        self.pieces += 1
        (self.stderr if datatype == asyncssh.EXTENDED_DATA_STDERR else self.stdout).feed(data)
        if self._pending > PENDING_HIGH_BYTES and not self._paused and self._channel is not None:
            self._paused = True
            self._channel.pause_reading()

    @property
    def _pending(self) -> int:
        return self.stdout.pending + self.stderr.pending

    def abandon(self) -> None:
        """Close the files of a script whose end nobody waits for."""
        self.stdout.abandon()
        self.stderr.abandon()

    def _on_room(self) -> None:
        self.pieces += 1  # a slow disk is no silence
        if self._paused and self._pending <= PENDING_HIGH_BYTES // 2 and self._channel is not None:
            self._paused = False
            self._channel.resume_reading()

    def eof_received(self) -> bool:
        """Leave the input open: its end would kill the script."""
        return True

    def exit_status_received(self, status: int) -> None:
        """Take the exit code."""
        self.code = status
        self.exited.set()

    def exit_signal_received(
        self,
        signal: str,
        core_dumped: bool,
        msg: str,
        lang: str,
    ) -> None:
        """Take a signal's end of the script as its exit code."""
        self.code = _signal_code(signal)
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the channel."""
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
            if pieces == self.pieces and not self._paused:
                return


def _signal_code(name: str) -> int:
    """Return 128+n for a signal's SSH name, 255 for one unknown here."""
    try:
        return 128 + signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 255
