"""Contents that flow into and out of RBD images: `rbd import` and `rbd export` with a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from agentkit.errors import HardpointError
from agentkit.image_formats import HEADER_BYTES, Disk, describe
from agentkit.working import in_thread
from cephagent.cluster import Ceph, full

BLOCK_BYTES = 4 * 1024 * 1024
FULL = "No space left on device"
_SAID_BYTES = 4096
_END_LIMIT_S = 600.0


@asynccontextmanager
async def process(argv: Sequence[str], **pipes: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command that ends when this does, at the latest when the agent does."""
    started = await asyncio.create_subprocess_exec(
        "setpriv",
        "--pdeathsig",
        "KILL",
        *argv,
        stdin=pipes.get("stdin", asyncio.subprocess.DEVNULL),
        stdout=pipes.get("stdout", asyncio.subprocess.DEVNULL),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
        start_new_session=True,
        limit=BLOCK_BYTES,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            await started.wait()


class RbdSink:
    """Takes in a content as an image of a pool; what has arrived is lost when it begins anew."""

    def __init__(self, ceph: Ceph, pool: str, name: str, disk_format: str) -> None:
        self._ceph = ceph
        self._pool = pool
        self._name = name
        self._format = disk_format
        self._tag = ""
        self._offset = 0
        self._header = b""
        self._digest = hashlib.sha256()
        self._running = contextlib.AsyncExitStack()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def offset(self) -> int:
        """How many bytes have been taken in."""
        return self._offset

    @property
    def tag(self) -> str:
        """What tells that the source is still the same."""
        return self._tag

    @property
    def sha256(self) -> str:
        """The digest of what has been taken in."""
        return self._digest.hexdigest()

    async def begin(self, tag: str) -> None:
        """Forget what has arrived and begin."""
        await self.close()
        if self._offset:
            await self._ceph.rbd("rm", f"{self._pool}/{self._name}")
        self._tag, self._offset, self._header, self._digest = tag, 0, b"", hashlib.sha256()
        argv = self._ceph.rbd_argv("import", "-", f"{self._pool}/{self._name}", "--no-progress")
        pipe = asyncio.subprocess.PIPE
        self._process = await self._running.enter_async_context(process(argv, stdin=pipe))

    async def write(self, block: bytes) -> None:
        """Take in what comes next."""
        if len(self._header) < HEADER_BYTES:
            self._header += block[: HEADER_BYTES - len(self._header)]
            if len(self._header) == HEADER_BYTES:
                describe(self._header, self._offset + len(block), self._format)
        await in_thread(self._digest.update, block)
        stdin = self._stdin()
        try:
            stdin.write(block)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise await self._failed() from error
        self._offset += len(block)

    async def finish(self) -> Disk:
        """Wait until all of it is on the cluster; return what it is."""
        found = describe(self._header, self._offset, self._format)
        stdin = self._stdin()
        stdin.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await stdin.wait_closed()
        if self._process is None:
            raise AssertionError("nothing was begun")
        if await self._process.wait() != 0:
            raise await self._failed()
        await self.close()
        return found

    async def close(self) -> None:
        """End what runs."""
        await self._running.aclose()
        self._process = None

    def _stdin(self) -> asyncio.StreamWriter:
        if self._process is None or self._process.stdin is None:
            raise AssertionError("nothing was begun")
        return self._process.stdin

    async def _failed(self) -> HardpointError:
        said = ""
        if self._process is not None and self._process.stderr is not None:
            said = (await self._process.stderr.read(_SAID_BYTES)).decode(errors="replace").strip()
        return import_error(self._pool, said)


def import_error(pool: str, said: str) -> HardpointError:
    """Return the error of an image that could not be written to a pool."""
    if FULL in said:
        return full(f"pool {pool} takes no more data")
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"the image could not be written to pool {pool}: {said[-1000:] or 'rbd gives no reason'}",
        remedy="see `ceph status` on the monitor, then add the image again",
    )


async def blocks(ceph: Ceph, pool: str, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
    """Yield an image's content from `start` to `end`; raises HardpointError (SYS.1006) when it breaks off.

    `rbd export` begins at the beginning: what comes before `start` is read and passed over.
    """
    argv = ceph.rbd_argv("export", f"{pool}/{name}", "-", "--no-progress")
    async with process(argv, stdout=asyncio.subprocess.PIPE) as running:
        if running.stdout is None or running.stderr is None:
            raise AssertionError("the command has no output")
        at = 0
        while at < end:
            block = await running.stdout.read(BLOCK_BYTES)
            if not block:
                said = (await running.stderr.read(_SAID_BYTES)).decode(errors="replace").strip()
                raise HardpointError(
                    "SYS.1006",
                    "Operation failed",
                    f"image {pool}/{name} cannot be read at byte {at}: {said or 'it ends there'}",
                    remedy="see `ceph status` on the monitor",
                )
            before, at = at, at + len(block)
            if at > start:
                yield block[max(start - before, 0) : end - before]


async def sha256_of(ceph: Ceph, pool: str, name: str, size: int) -> str:
    """Return the SHA-256 of an image's content."""
    digest = hashlib.sha256()
    async with contextlib.aclosing(blocks(ceph, pool, name, 0, size)) as found:
        async for block in found:
            await in_thread(digest.update, block)
    return digest.hexdigest()
