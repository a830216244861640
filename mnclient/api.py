"""A small client of the REST API by paths, for `hardpoint up` and for tests: log in, call, wait for jobs."""

from __future__ import annotations

import json
import time
import urllib.parse
from typing import Any

from mnclient.protocol import FIRST_PAUSE_S, PAUSE_GROWTH, Answer, Request
from mnclient.sdk import sha512
from mnclient.transport import Node, Transport

PREFIX = "/zstack/v1"
POLL_MOST_S = 1.0


class ApiError(Exception):
    """An error that the API answered; `status` is the HTTP status, `error` the manual's ErrorCode."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('code', status)}: {error.get('details', 'no details')}")
        self.status = status
        self.error = error

    @property
    def code(self) -> str:
        """The error code, `SYS.1007`."""
        return str(self.error.get("code", ""))


class Client:
    """Talks to one management node; `url` is without path, `http://127.0.0.1:8080`."""

    def __init__(self, url: str) -> None:
        self._transport = Transport(Node(url))
        self.session: str | None = None
        self.notice: str | None = None
        """What the node wants the user to know since the login."""

    def log_in(self, account: str, password: str) -> None:
        """Open a session. Raises ApiError (ID.1000) when account or password is wrong."""
        body = {"logInByAccount": {"accountName": account, "password": sha512(password)}}
        answer = self._request("PUT", "/accounts/login", body)
        self.session = answer.body["inventory"]["uuid"]
        self.notice = answer.headers.get("x-hardpoint-notice")

    def resume(self, session: str) -> None:
        """Go on with a session that was opened before."""
        self.session = session

    def log_out(self) -> None:
        """End the session."""
        if self.session:
            self._request("DELETE", f"/accounts/sessions/{self.session}", None)
            self.session = None

    def query(self, path: str, *conditions: str, **options: str) -> list[dict[str, Any]]:
        """Return the inventories of a query: `query("/hosts", "name=h1", sort="+name")`."""
        pairs = [*(("q", c) for c in conditions), *options.items()]
        answer = self._request("GET", f"{path}?{urllib.parse.urlencode(pairs)}", None)
        inventories: list[dict[str, Any]] = answer.body["inventories"]
        return inventories

    def count(self, path: str, *conditions: str) -> int:
        """Return how many a query finds."""
        pairs = [*(("q", c) for c in conditions), ("count", "true")]
        return int(self._request("GET", f"{path}?{urllib.parse.urlencode(pairs)}", None).body["total"])

    def run(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float = 600.0
    ) -> dict[str, Any]:
        """Call an asynchronous operation and return its result. Raises ApiError, or TimeoutError."""
        return self.wait(self.submit(method, path, body), timeout_s)

    def submit(self, method: str, path: str, body: dict[str, Any] | None, job_uuid: str | None = None) -> str:
        """Begin an asynchronous operation and return its job's location; `job_uuid` names the job."""
        headers = {"X-Job-UUID": job_uuid} if job_uuid else {}
        return str(self._request(method, path, body, headers).body["location"])

    def poll(self, location: str) -> dict[str, Any] | None:
        """Return a job's result, None while it runs. Raises ApiError when it failed or is not known."""
        answer = self._request("GET", urllib.parse.urlsplit(location).path.removeprefix(PREFIX), None)
        return None if answer.status == 202 else answer.body

    def wait(self, location: str, timeout_s: float = 600.0) -> dict[str, Any]:
        """Return a job's result once it has one. Raises ApiError, or TimeoutError."""
        pause, deadline = FIRST_PAUSE_S, time.monotonic() + timeout_s
        while (result := self.poll(location)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {location} did not end in {timeout_s:.0f} s")
            time.sleep(pause)
            pause = min(pause * PAUSE_GROWTH, POLL_MOST_S)
        return result

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None, more: dict[str, str] | None = None
    ) -> Answer:
        headers = {"Content-Type": "application/json", **(more or {})}
        if self.session:
            headers["Authorization"] = f"OAuth {self.session}"
        data = json.dumps(body).encode() if body is not None else None
        answer = self._transport.send(Request(method, f"{PREFIX}{path}", headers, data))
        if answer.status not in (200, 202):
            raise ApiError(answer.status, _error(answer.body))
        return answer


def _error(body: Any) -> dict[str, Any]:
    error = body.get("error", body) if isinstance(body, dict) else body
    return error if isinstance(error, dict) else {"details": str(error)[:500]}
