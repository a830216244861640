"""The login that is kept between calls: the session in the keyring where one works, else in a file of mode
0600.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

DEFAULT_URL = "http://127.0.0.1:8080"
SERVICE = "hardpoint"
FILE = "login.json"
IN_KEYRING = "keyring"


@dataclass(frozen=True)
class Login:
    """A node, and who is logged in there."""

    url: str
    account: str = ""
    session: str | None = None

    def __repr__(self) -> str:
        return (
            f"Login(url={self.url!r}, account={self.account!r}, session={'*****' if self.session else None})"
        )


def state_folder() -> Path:
    """Return the folder that the client keeps its files in."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "hardpoint"


class Logins:
    """Keeps one login."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or state_folder()
        self._path = self._folder / FILE

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder

    def load(self) -> Login | None:
        """Return the login that is kept; a file that others could have written is left aside."""
        try:
            status = self._path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            content = json.loads(self._path.read_text())
            login = Login(str(content["url"]), str(content.get("account", "")), content.get("session"))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if content.get("store") == IN_KEYRING:
            return replace(login, session=_from_keyring(login))
        return login

    def save(self, login: Login) -> str:
        """Keep a login; return where its session is: `keyring`, or the file's path."""
        in_keyring = login.session is not None and _to_keyring(login)
        content = {**asdict(login), "store": IN_KEYRING if in_keyring else "file"}
        if in_keyring:
            del content["session"]
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{FILE}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
        temporary.replace(self._path)
        return IN_KEYRING if in_keyring else str(self._path)

    def forget(self) -> None:
        """Forget the session; the node and the account stay known."""
        login = self.load()
        if login is not None:
            _drop_from_keyring(login)
            self.save(replace(login, session=None))


def chosen_url(given: str | None, login: Login | None) -> str:
    """Return the node to talk to: the one given, of the environment, of the login, or this machine's."""
    url = given or os.environ.get("HARDPOINT_URL") or (login.url if login else "") or DEFAULT_URL
    url = url if "://" in url else f"http://{url}"
    return url.rstrip("/")


def _entry(login: Login) -> str:
    return f"{login.account}@{login.url}"


def _keyring() -> Any:
    """Return the keyring, None when no backend works here."""
    try:
        import keyring  # late: it is slow, and most calls do without it

        backend = keyring.get_keyring()
        return keyring if backend.priority >= 1 else None
    except Exception:  # noqa: BLE001 - backends fail in ways of their own
        return None


def _to_keyring(login: Login) -> bool:
    ring = _keyring()
    if ring is None:
        return False
    try:
        ring.set_password(SERVICE, _entry(login), login.session)
        return bool(ring.get_password(SERVICE, _entry(login)) == login.session)
    except Exception:  # noqa: BLE001 - backends fail in ways of their own
        return False


def _from_keyring(login: Login) -> str | None:
    ring = _keyring()
    try:
        found = ring.get_password(SERVICE, _entry(login)) if ring else None
    except Exception:  # noqa: BLE001 - backends fail in ways of their own
        return None
    return str(found) if found else None


def _drop_from_keyring(login: Login) -> None:
    if login.session and (ring := _keyring()):
        with contextlib.suppress(Exception):
            ring.delete_password(SERVICE, _entry(login))
