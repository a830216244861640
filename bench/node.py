"""A real management node on a scratch state folder, for the measurements that go through HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.common import json_file, running, until

DEFAULT_PASSWORD = hashlib.sha512(b"password").hexdigest()


@dataclass(frozen=True)
class Node:
    """A node that serves; `session` is admin's."""

    pid: int
    base: str
    session: str

    @property
    def headers(self) -> dict[str, str]:
        """What each request carries."""
        return {"Authorization": f"OAuth {self.session}"}


@contextlib.contextmanager
def node(state: Path) -> Iterator[Node]:
    """Run `mn serve` for the block's duration."""
    log = state.with_name(f"{state.name}.log")
    with running(["-m", "mn", "serve", "--state", str(state), "--port", "0"], log) as process:
        lock = state / "mn.lock"
        url = until(lambda: _url(lock, process.pid), f"mn serves (see {log})", process)
        base = f"{url}/zstack/v1"
        yield Node(process.pid, base, _log_in(base))


def _url(lock: Path, pid: int) -> str | None:
    """Return where the process serves; the lock file may be that of the process before."""
    content = json_file(lock)
    return content.get("url") if content.get("pid") == pid else None


def _log_in(base: str) -> str:
    body = {"logInByAccount": {"accountName": "admin", "password": DEFAULT_PASSWORD}}
    request = urllib.request.Request(f"{base}/accounts/login", json.dumps(body).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(json.loads(response.read())["inventory"]["uuid"])
