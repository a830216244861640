"""A small synchronous client of the REST API: log in, call, wait for jobs."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

REQUEST_TIMEOUT_S = 30.0
POLL_FIRST_S, POLL_MOST_S = 0.02, 1.0


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
        self._base = f"{url}/zstack/v1"
        self.session: str | None = None
        self.notice: str | None = None
        """What the node wants the user to know since the login."""

    def log_in(self, account: str, password: str) -> None:
        """Open a session. Raises ApiError (ID.1000) when account or password is wrong."""
        digest = hashlib.sha512(password.encode()).hexdigest()
        body = {"logInByAccount": {"accountName": account, "password": digest}}
        reply, headers = self._request("PUT", f"{self._base}/accounts/login", body)
        self.session = reply["inventory"]["uuid"]
        self.notice = headers.get("X-Hardpoint-Notice")

    def resume(self, session: str) -> None:
        """Go on with a session that was opened before."""
        self.session = session

    def log_out(self) -> None:
        """End the session."""
        if self.session:
            self._request("DELETE", f"{self._base}/accounts/sessions/{self.session}", None)
            self.session = None

    def query(self, path: str, *conditions: str, **options: str) -> list[dict[str, Any]]:
        """Return the inventories of a query: `query("/hosts", "name=h1", sort="+name")`."""
        pairs = [*(("q", c) for c in conditions), *options.items()]
        reply, _ = self._request("GET", f"{self._base}{path}?{urllib.parse.urlencode(pairs)}", None)
        inventories: list[dict[str, Any]] = reply["inventories"]
        return inventories

    def run(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float = 600.0
    ) -> dict[str, Any]:
        """Call an asynchronous operation and return its result. Raises ApiError, or TimeoutError."""
        return self.wait(self.submit(method, path, body), timeout_s)

    def submit(self, method: str, path: str, body: dict[str, Any] | None, job_uuid: str | None = None) -> str:
        """Begin an asynchronous operation and return its job's location; `job_uuid` names the job."""
        headers = {"X-Job-UUID": job_uuid} if job_uuid else {}
        reply, _ = self._request(method, f"{self._base}{path}", body, headers)
        return str(reply["location"])

    def poll(self, location: str) -> dict[str, Any] | None:
        """Return a job's result, None while it runs. Raises ApiError when it failed or is not known."""
        url = location if "://" in location else f"{self._base}{location}"
        reply, headers = self._request("GET", url, None)
        return None if headers[":status"] == "202" else reply

    def wait(self, location: str, timeout_s: float = 600.0) -> dict[str, Any]:
        """Return a job's result once it has one. Raises ApiError, or TimeoutError."""
        pause, deadline = POLL_FIRST_S, time.monotonic() + timeout_s
        while (result := self.poll(location)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {location} did not end in {timeout_s:.0f} s")
            time.sleep(pause)
            pause = min(pause * 1.5, POLL_MOST_S)
        return result

    def _request(
        self, method: str, url: str, body: dict[str, Any] | None, more: dict[str, str] | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        headers = {"Content-Type": "application/json", **(more or {})}
        if self.session:
            headers["Authorization"] = f"OAuth {self.session}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, method=method, data=data, headers=headers)  # noqa: S310 - http(s) by the caller
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:  # noqa: S310
                return json.loads(response.read()), {
                    **dict(response.headers),
                    ":status": str(response.status),
                }
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, _error(error.read())) from error


def _error(raw: bytes) -> dict[str, Any]:
    try:
        error = json.loads(raw)["error"]
    except (ValueError, KeyError, TypeError):
        return {"details": raw.decode(errors="replace")[:500]}
    return error if isinstance(error, dict) else {"details": str(error)}
