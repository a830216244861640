from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring

from mnclient.shell.login import DEFAULT_URL, Login, Logins, chosen_url

LOGIN = Login("http://127.0.0.1:8080", "admin", "s" * 32)


class MemoryKeyring(KeyringBackend):
    priority = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class BrokenKeyring(MemoryKeyring):
    def set_password(self, service: str, username: str, password: str) -> None:
        raise RuntimeError("the bus is gone")


@pytest.fixture(autouse=True)
def _own_keyring() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(NoKeyring())
    yield
    keyring.set_keyring(before)


@pytest.mark.parametrize("backend", [NoKeyring, BrokenKeyring])
def test_without_a_working_keyring_the_session_is_in_a_file_of_its_owner(
    tmp_path: Path, backend: type[KeyringBackend]
) -> None:
    keyring.set_keyring(backend())
    logins = Logins(tmp_path / "hardpoint")
    where = logins.save(LOGIN)
    assert where == str(tmp_path / "hardpoint" / "login.json")
    assert stat.S_IMODE(Path(where).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(where).parent.stat().st_mode) == 0o700
    assert logins.load() == LOGIN


def test_a_working_keyring_holds_the_session_and_the_file_does_not(tmp_path: Path) -> None:
    ring = MemoryKeyring()
    keyring.set_keyring(ring)
    logins = Logins(tmp_path)
    assert logins.save(LOGIN) == "keyring"
    assert LOGIN.session not in (tmp_path / "login.json").read_text()
    assert logins.load() == LOGIN
    logins.forget()
    assert ring.kept == {}


def test_a_logout_forgets_the_session_and_keeps_the_node(tmp_path: Path) -> None:
    logins = Logins(tmp_path)
    logins.save(LOGIN)
    logins.forget()
    assert logins.load() == Login(LOGIN.url, LOGIN.account, None)


def test_a_file_that_others_may_write_is_left_aside(tmp_path: Path) -> None:
    logins = Logins(tmp_path)
    logins.save(LOGIN)
    (tmp_path / "login.json").chmod(0o666)
    assert logins.load() is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": null', "\x00"])
def test_a_damaged_file_is_no_login(tmp_path: Path, content: str) -> None:
    (tmp_path / "login.json").write_text(content)
    (tmp_path / "login.json").chmod(0o600)
    assert Logins(tmp_path).load() is None


def test_the_node_is_the_one_given_then_the_environments_then_the_logins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HARDPOINT_URL", raising=False)
    assert chosen_url(None, None) == DEFAULT_URL
    assert chosen_url(None, LOGIN) == LOGIN.url
    monkeypatch.setitem(os.environ, "HARDPOINT_URL", "http://other:1/")
    assert chosen_url(None, LOGIN) == "http://other:1"
    assert chosen_url("node:8080", LOGIN) == "http://node:8080"


def test_a_session_is_in_no_repr() -> None:
    assert "sss" not in repr(LOGIN)
