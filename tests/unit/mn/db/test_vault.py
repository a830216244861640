from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import HardpointError
from mn.db.vault import Vault

VAULT = Vault(b"k" * 32)


@given(st.text(max_size=50), st.text(max_size=10))
def test_what_was_sealed_is_opened_for_the_same_purpose(secret: str, purpose: str) -> None:
    sealed = VAULT.seal(secret, purpose)
    assert VAULT.open(sealed, purpose) == secret
    assert sealed != VAULT.seal(secret, purpose)


@given(st.text(min_size=4, max_size=50))
def test_a_sealed_text_does_not_show_the_secret(secret: str) -> None:
    raw = base64.b64decode(VAULT.seal(secret, "p").removeprefix("v1:"))
    assert secret.encode() not in raw


@pytest.mark.parametrize("vault", [Vault(b"l" * 32), Vault(b"k" * 33)])
def test_another_key_does_not_open_it(vault: Vault) -> None:
    with pytest.raises(HardpointError) as caught:
        vault.open(VAULT.seal("hunter2", "password of a host"), "password of a host")
    assert caught.value.code == "SYS.1000"
    assert caught.value.details == "the stored password of a host was encrypted with another key file"


def test_a_sealed_text_cannot_be_moved_to_another_purpose() -> None:
    with pytest.raises(HardpointError):
        VAULT.open(VAULT.seal("hunter2", "password of a host"), "password of a mon")


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_sealed_text_that_was_changed_anywhere_is_refused(position: int, change: int) -> None:
    raw = bytearray(base64.b64decode(VAULT.seal("hunter2", "p").removeprefix("v1:")))
    raw[position % len(raw)] ^= change
    with pytest.raises(HardpointError):
        VAULT.open("v1:" + base64.b64encode(raw).decode(), "p")


@pytest.mark.parametrize("sealed", ["", "v1:", "v1:!", "hunter2", "v1:" + "A" * 8, "v2:" + "A" * 80, "ä"])
def test_what_never_was_sealed_is_refused(sealed: str) -> None:
    with pytest.raises(HardpointError):
        VAULT.open(sealed, "p")


def test_a_key_file_is_made_for_its_owner_alone_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    sealed = Vault.open_file(path).seal("hunter2", "p")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == 32
    assert Vault.open_file(path).open(sealed, "p") == "hunter2"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_key_file_that_others_could_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret.key"
    Vault.open_file(path)
    path.chmod(mode)
    with pytest.raises(HardpointError) as caught:
        Vault.open_file(path)
    assert f"has mode {mode:o}" in caught.value.details
    assert caught.value.remedy == f"chmod 600 {path}"


@pytest.mark.parametrize("length", [0, 31])
def test_a_key_file_that_is_too_short_is_refused_and_left_alone(tmp_path: Path, length: int) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(b"k" * length)
    path.chmod(0o600)
    with pytest.raises(HardpointError, match=f"holds {length} bytes, not 32"):
        Vault.open_file(path)
    assert len(path.read_bytes()) == length


@pytest.mark.parametrize("place", ["absent/secret.key", "."])
def test_a_key_file_that_cannot_be_used_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(HardpointError) as caught:
        Vault.open_file(tmp_path / place)
    assert caught.value.code == "SYS.1000"


def test_a_digest_tells_equal_from_different_only_with_the_key() -> None:
    assert VAULT.digest(b"a") == Vault(b"k" * 32).digest(b"a")
    assert len({VAULT.digest(b"a"), VAULT.digest(b"b"), Vault(b"l" * 32).digest(b"a")}) == 3
