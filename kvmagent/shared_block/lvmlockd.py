"""Whether lvmlockd answers.

`lvmlockctl --info` does not tell: what it asks for is sent to one address that all who ask share, so that one
of two that ask at once waits for ever. A greeting is what each client of the daemon begins with.
"""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

_GREETING = b'request = "hello"\n\n##\n'
_END = b"\n##\n"
_WELL = b'response = "OK"'
_PAUSE_S = 0.05


async def lvmlockd_answers(address: Path, limit_s: float) -> bool:
    """Greet the daemon at its socket; say whether it has answered in time."""
    return await asyncio.to_thread(_greet, str(address), time.monotonic() + limit_s)


def _greet(address: str, until: float) -> bool:
    said = b""
    try:
        with _connected(address, until) as connection:
            connection.sendall(_GREETING)
            while _END not in said:
                connection.settimeout(max(_PAUSE_S, until - time.monotonic()))
                came = connection.recv(4096)
                if not came:
                    return False
                said += came
    except OSError:
        return False
    return _WELL in said


def _connected(address: str, until: float) -> socket.socket:
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(max(_PAUSE_S, until - time.monotonic()))
        try:
            connection.connect(address)
        except BlockingIOError:  # it has yet to take in those who came before
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)
        except OSError:
            connection.close()
            raise
        else:
            return connection
