"""Keeps a daemon small: aiohttp without its client's trust store, one malloc arena for all threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_M_ARENA_MAX = -8
_TRUST_STORE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@contextmanager
def _without_trust_store() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _TRUST_STORE_VARIABLES}
    os.environ.update(dict.fromkeys(_TRUST_STORE_VARIABLES, "/dev/null"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# aiohttp's client reads all public CAs when it is imported: 2 MB and 30 ms for a process that only serves.
# Where aiohttp was imported before, nothing changes; a client has to bring its own context (agentkit.tls).
with _without_trust_store():
    from aiohttp import web

__all__ = ["share_one_arena", "web"]


def share_one_arena() -> None:
    """Let all threads of this process share one malloc arena; to be called before the first thread starts.

    glibc gives each thread an arena of its own, and what a thread that read an inventory leaves in it is not
    given back: 8 MB after twenty readings. Does nothing on another libc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
