"""Logins on a real sshd: each way to fail has its own error, and nothing comes from ~/.ssh."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from agentkit.errors import Blame, HardpointError
from mn.fleet import ssh_errors
from mn.fleet.ssh import SshTarget, check_login
from tests.helpers import wait_until
from tests.sshd import Account, Sshd, free_port, has_ipv6


async def refusal(target: SshTarget, timeout_s: float = 10) -> HardpointError:
    """Return the error of a login that must fail; it names where and a remedy and never the password."""
    with pytest.raises(HardpointError) as caught:
        await check_login(target, timeout_s)
    error = caught.value
    assert error.details.startswith(f"{target.label}: ")
    assert error.remedy
    assert target.password not in error.details + error.remedy + repr(target)
    return error


@contextlib.asynccontextmanager
async def serving(
    reply: bytes, *, close: bool = True, family: socket.AddressFamily = socket.AF_INET
) -> AsyncIterator[int]:
    """Yield the port of a server that says `reply` to whoever connects."""
    talks: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        current = asyncio.current_task()
        assert current is not None
        talks.append(current)
        writer.write(reply)
        with contextlib.suppress(OSError):
            if not close:
                await reader.read()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, family=family)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*talks)


async def test_a_good_login_returns_the_host_key(target: SshTarget, sshd: Sshd) -> None:
    assert await check_login(replace(target, host_key=None), 10) == sshd.host_key
    assert await check_login(target, 10) == sshd.host_key


async def test_a_wrong_password_is_said_to_be_rejected(target: SshTarget) -> None:
    error = await refusal(replace(target, password="wrong-password"))
    assert (error.code, error.summary, error.blame) == ("HOST.1012", "password changed", Blame.CALLER)
    assert error.details == f"{target.label}: the SSH server rejected the user name or password"


async def test_an_unknown_user_is_told_like_a_wrong_password(target: SshTarget) -> None:
    error = await refusal(replace(target, username="nobody-here"))
    assert error.code == "HOST.1012"


async def test_a_wrong_password_is_tried_once(target: SshTarget, sshd: Sshd) -> None:
    await refusal(replace(target, password="wrong-password"))
    await asyncio.to_thread(wait_until, lambda: "Failed password" in sshd.log(), "the failure to be logged")
    assert sshd.log().count("Failed password") == 1


async def test_an_account_with_too_many_failures_has_its_own_error(
    start_sshd: Callable[..., Sshd], ssh_account: Account
) -> None:
    server = start_sshd(options={"MaxAuthTries": "1"})
    error = await refusal(SshTarget(server.address, server.port, ssh_account.name, "wrong-password"))
    assert error.code == "HOST.1012"
    assert "ended the connection over failed logins: Too many authentication failures" in error.details


async def test_a_server_without_password_logins_is_named_so(
    start_sshd: Callable[..., Sshd], ssh_account: Account
) -> None:
    server = start_sshd(options={"PasswordAuthentication": "no", "PubkeyAuthentication": "yes"})
    target = SshTarget(server.address, server.port, ssh_account.name, ssh_account.password)
    error = await refusal(target)
    assert error.code == "HOST.1003"
    assert error.details == f"{target.label}: the SSH server accepts no password logins"


async def test_a_closed_port_is_refused(target: SshTarget) -> None:
    error = await refusal(replace(target, port=free_port()))
    assert error.code == "HOST.1003"
    assert error.details.endswith(": the port is closed (connection refused)")


async def test_a_closed_port_of_a_name_with_two_addresses_is_refused_too() -> None:
    error = await refusal(SshTarget("localhost", free_port(), "root", "secret-word"))
    assert error.details.endswith(": the port is closed (connection refused)")


async def test_a_name_that_does_not_resolve_is_named_so() -> None:
    error = await refusal(SshTarget("no-such-host.invalid", 22, "root", "secret-word"))
    assert (error.code, error.blame) == ("HOST.1003", Blame.CALLER)
    assert ": the host name does not resolve: " in error.details


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH])
def test_a_missing_route_is_unreachable(number: int) -> None:
    error = ssh_errors.from_os_error("root@192.0.2.1:22", OSError(number, os.strerror(number)))
    assert error.code == "HOST.1003"
    assert error.details == f"root@192.0.2.1:22: the host is unreachable: {os.strerror(number)}"


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"SSH-1.5-old\r\n", b"x" * 20000]
)
async def test_another_service_is_not_an_ssh_server(reply: bytes) -> None:
    async with serving(reply) as port:
        error = await refusal(SshTarget("127.0.0.1", port, "root", "secret-word"))
    assert error.code == "HOST.1003"
    assert ": not an SSH server: " in error.details


async def test_a_server_that_stops_in_the_middle_of_the_login_is_named_so() -> None:
    async with serving(b"SSH-2.0-Broken\r\n") as port:
        error = await refusal(SshTarget("127.0.0.1", port, "root", "secret-word"))
    assert error.code == "HOST.1003"
    assert ": the SSH connection ended during the login: " in error.details


async def test_a_port_that_never_speaks_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = await refusal(SshTarget("127.0.0.1", silent.getsockname()[1], "root", "secret-word"), 3)
    assert error.code == "HOST.1003"
    assert error.details.endswith(
        ": timed out: the port accepts connections but sent no SSH greeting within 3 s"
    )


async def test_a_host_that_drops_packets_times_out() -> None:
    with contextlib.ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # fill the queue: the kernel then answers no further SYN
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        error = await refusal(SshTarget("127.0.0.1", full.getsockname()[1], "root", "secret-word"), 3)
    assert error.details.endswith(": timed out: no answer to the TCP connection within 3 s")


async def test_a_server_that_hangs_after_its_greeting_times_out() -> None:
    async with serving(b"SSH-2.0-Slow\r\n", close=False) as port:
        error = await refusal(SshTarget("127.0.0.1", port, "root", "secret-word"), 3)
    assert error.details.endswith(": timed out: the SSH server did not finish the login within 3 s")


@pytest.mark.parametrize("key_type", ["ed25519", "rsa", "ecdsa"])
async def test_a_changed_host_key_is_refused_with_both_fingerprints(
    target: SshTarget, sshd: Sshd, key_type: str
) -> None:
    pinned = sshd.fingerprint
    sshd.restart(new_host_key=True, key_type=key_type)
    error = await refusal(target)
    assert sshd.fingerprint != pinned
    assert error.code == "HOST.1003"
    assert error.details == (
        f"{target.label}: the host key changed: pinned {pinned}, the host presented {sshd.fingerprint}; "
        "the connection was refused"
    )
    assert "forgotten" in error.remedy
    assert "Failed" not in sshd.log()
    assert "Accepted" not in sshd.log()


async def test_a_pinned_key_is_found_among_the_keys_of_a_host(
    start_sshd: Callable[..., Sshd], ssh_account: Account, tmp_path: Path
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    other.write_private_key(tmp_path / "other")
    (tmp_path / "other").chmod(0o600)
    server = start_sshd(key_type="rsa")
    server.stop()
    server.options = {"HostKey": f"{tmp_path / 'other'}\nHostKey {server.directory / 'host_key'}"}
    server.start()
    target = SshTarget(server.address, server.port, ssh_account.name, ssh_account.password)
    assert (await check_login(target, 10)).startswith("ssh-ed25519 ")
    assert await check_login(replace(target, host_key=server.host_key), 10) == server.host_key


async def test_a_stored_key_that_is_no_key_is_named_so(target: SshTarget) -> None:
    error = await refusal(replace(target, host_key="rubbish"))
    assert "the pinned host key is not an OpenSSH public key line" in error.details


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize("address", ["::1", "[::1]"])
async def test_an_ipv6_literal_works_with_and_without_brackets(
    target: SshTarget, sshd: Sshd, address: str
) -> None:
    six = replace(target, address=address)
    assert six.label == f"{target.username}@[::1]:{target.port}"
    assert await check_login(six, 10) == sshd.host_key


async def test_the_files_and_agent_of_the_user_who_runs_mn_are_ignored(
    target: SshTarget, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile ~/.ssh that would break or divert the login if any of it was read."""
    home = tmp_path / ".ssh"
    home.mkdir()
    (home / "config").write_text(
        "Host *\n  User other\n  Port 1\n  HostName 192.0.2.1\n  ProxyCommand false\n"
    )
    wrong = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    (home / "known_hosts").write_text(f"@revoked * {sshd.host_key}\n* {wrong}\n")
    (home / "id_ed25519").write_text("not a key\n")
    asked: list[bytes] = []

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1))
        writer.close()

    listener = await asyncio.start_unix_server(agent, tmp_path / "agent")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    assert await check_login(replace(target, host_key=None), 10) == sshd.host_key
    listener.close()
    assert asked == []
    assert "publickey" not in sshd.log()


class _Interactive(asyncssh.SSHServer):
    """A server that asks in a language of its own, as PAM does, and keeps what it was told."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def password_auth_supported(self) -> bool:
        return False

    def public_key_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, list[tuple[str, bool]]]:
        return ("", "", "", [("Kennwort: ", False)])

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        self._told.extend(responses)
        return list(responses) == ["the-password"]


async def test_keyboard_interactive_is_answered_with_the_password_once() -> None:
    told: list[str] = []
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=lambda: _Interactive(told), server_host_keys=[key]
    )
    target = SshTarget("127.0.0.1", server.get_port(), "root", "the-password")
    await check_login(target, 10)
    error = await refusal(replace(target, password="other-password"))
    server.close()
    assert error.code == "HOST.1012"
    assert told == ["the-password", "other-password"]
