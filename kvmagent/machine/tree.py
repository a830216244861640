"""A machine's file tree below a root: reads answer None for what is missing and never leave the root."""

# An inventory is thousands of tiny reads; pathlib would take longer than the kernel does.
# ruff: noqa: PTH100, PTH110, PTH112, PTH115, PTH118, PTH208

from __future__ import annotations

import os

MAX_LINKS = 40
READ_LIMIT_BYTES = 4 * 2**20
FIRST_CHUNK_BYTES = 16 * 2**10
CHUNK_BYTES = 2**20
"""What is asked for at once: nearly all files are tiny, and /proc/sys refuses reads of more megabytes."""


class Tree:
    """The files below `root` as the machine that `root` stands for sees them.

    Paths are the machine's own, absolute ones (`/sys/class/net`). Symbolic links are followed inside the root
    only: an absolute target starts at the root again and `..` stops there. With the root `/` the kernel does
    the same by itself.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self.live = self.root == "/"
        self._links: dict[str, str | None] = {}

    def resolve(self, path: str) -> str | None:
        """Return `path` with all links followed, whether or not something is there; None when they loop."""
        pending = path.split("/")[::-1]
        done: list[str] = []
        followed = 0
        while pending:
            part = pending.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                del done[-1:]
                continue
            done.append(part)
            target = self._target("/".join(done))
            if target is None:
                continue
            followed += 1
            if followed > MAX_LINKS:
                return None
            done = [] if target.startswith("/") else done[:-1]
            pending.extend(target.split("/")[::-1])
        return "/" + "/".join(done)

    def link_name(self, path: str) -> str | None:
        """Return the last part of the target of the link `path`, None when it is no link."""
        parent, _, name = path.rpartition("/")
        real_parent = self.resolve(parent)
        target = None if real_parent is None else self._target(f"{real_parent}/{name}".strip("/"))
        return target.rstrip("/").rpartition("/")[2] if target else None

    def bytes(self, path: str, limit: int = READ_LIMIT_BYTES, offset: int = 0) -> bytes | None:
        """Return up to `limit` bytes of a file from `offset` on, None when it cannot be read."""
        where = self._where(path)
        if where is None:
            return None
        try:
            # Non-blocking, so that a FIFO or a terminal in a foreign tree cannot hold the reader.
            handle = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError):
            return None
        try:
            return _read(handle, limit, offset)
        except OSError:
            return None
        finally:
            os.close(handle)

    def text(self, path: str) -> str | None:
        """Return a file's text without surrounding white space, None when it is missing or empty."""
        data = self.bytes(path)
        if data is None:
            return None
        return data.decode("utf-8", "replace").strip("\0 \t\r\n") or None

    def lines(self, path: str) -> list[str]:
        """Return a file's lines, none when it is missing."""
        return (self.text(path) or "").splitlines()

    def int(self, path: str, base: int = 10) -> int | None:
        """Return a file's number, None when there is none."""
        text = self.text(path)
        try:
            return None if text is None else int(text, base)
        except ValueError:
            return None

    def flag(self, path: str) -> bool:
        """Say whether a file holds a number other than 0."""
        return bool(self.int(path))

    def names(self, path: str) -> list[str]:
        """Return the sorted names in a directory, none when it cannot be read."""
        where = self._where(path)
        try:
            return [] if where is None else sorted(os.listdir(where))
        except (OSError, ValueError):
            return []

    def exists(self, path: str) -> bool:
        """Say whether something is there, links followed."""
        where = self._where(path)
        return where is not None and os.path.exists(where)

    def is_dir(self, path: str) -> bool:
        """Say whether a directory is there, links followed."""
        where = self._where(path)
        return where is not None and os.path.isdir(where)

    def _target(self, path: str) -> str | None:
        """Return the target of the link at `path` (no leading slash, parents resolved), None for no link."""
        if path not in self._links:
            try:
                self._links[path] = os.readlink(os.path.join(self.root, path))
            except (OSError, ValueError):
                self._links[path] = None
        return self._links[path]

    def _where(self, path: str) -> str | None:
        """Return the real path to hand to the kernel."""
        if self.live:
            return path
        real = self.resolve(path)
        return None if real is None else self.root + real


def _read(handle: int, limit: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while limit > 0:
        part = os.pread(handle, min(limit, CHUNK_BYTES if parts else FIRST_CHUNK_BYTES), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        limit -= len(part)
    return b"".join(parts)
