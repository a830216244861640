"""SSH logins to hosts: pinned host keys, password authentication, and connections that are kept for reuse."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import asyncssh

from agentkit.errors import HardpointError
from mn.fleet import ssh_errors

asyncssh.set_log_level("WARNING")  # it tells each packet of a login otherwise

CONNECT_TIMEOUT_S = 15.0
IDLE_LIMIT_S = 60.0
MAX_CONNECTIONS = 500
KEEPALIVE_INTERVAL_S = 5.0
KEEPALIVE_MISSES = 3

# Server keys only, no certificates: what is pinned is the key itself.
_HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
# The post-quantum default costs both sides several times the CPU.
_KEY_EXCHANGE = "^curve25519-sha256,curve25519-sha256@libssh.org"


@dataclass(frozen=True, slots=True)
class SshTarget:
    """Where and as whom to log in; `host_key`: the pinned OpenSSH line, None: trust on first use."""

    address: str
    port: int
    username: str
    password: str = field(repr=False)
    host_key: str | None = None

    @property
    def label(self) -> str:
        """`user@host:port`, the form error messages use."""
        host = self.host
        return f"{self.username}@{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def host(self) -> str:
        """The address without the brackets an IPv6 literal may carry."""
        return self.address.removeprefix("[").removesuffix("]")


class _Client(asyncssh.SSHClient):
    """Checks the host key and gives the password, once."""

    def __init__(self, target: SshTarget, pinned: asyncssh.SSHKey | None) -> None:
        self._password = target.password
        self._pinned = pinned
        self.password_sent = False
        self.seen: asyncssh.SSHKey | None = None
        self.connection: asyncssh.SSHClientConnection | None = None

    @property
    def greeted(self) -> bool:
        """Whether the peer proved to be an SSH server."""
        return self.connection is not None and bool(self.connection.get_extra_info("server_version"))

    @property
    def key_changed(self) -> bool:
        """Whether the host showed another key than the pinned one."""
        return self._pinned is not None and self.seen is not None and self.seen != self._pinned

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connection = conn

    def validate_host_public_key(
        self,
        host: str,
        addr: str,
        port: int,
        key: asyncssh.SSHKey,
    ) -> bool:
        self.seen = key
        return self._pinned is None or key == self._pinned

    def password_auth_requested(self) -> str | None:
        if self.password_sent:
            return None
        self.password_sent = True
        return self._password

    def kbdint_auth_requested(self) -> str | None:
        return None if self.password_sent else ""

    def kbdint_challenge_received(
        self,
        name: str,
        instructions: str,
        lang: str,
        prompts: Sequence[tuple[str, bool]],
    ) -> list[str] | None:
        if not prompts:
            return []
        # The wording of the prompt is up to PAM and its language; a single hidden one asks for the password.
        if len(prompts) == 1 and not prompts[0][1] and not self.password_sent:
            self.password_sent = True
            return [self._password]
        return None


@dataclass(slots=True, eq=False)
class SshLink:
    """One open, authenticated connection."""

    connection: asyncssh.SSHClientConnection
    key: asyncssh.SSHKey
    label: str
    reused: bool = False
    broken: bool = False
    expiry: asyncio.TimerHandle | None = None

    @property
    def host_key(self) -> str:
        """The host's key as an OpenSSH line without comment."""
        return key_line(self.key)

    @property
    def usable(self) -> bool:
        """Whether another session may be tried on it."""
        return not self.broken and not self.connection.is_closed()


def key_line(key: asyncssh.SSHKey) -> str:
    """Return a public key as `type base64`."""
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def parse_host_key(target: SshTarget) -> asyncssh.SSHKey | None:
    """Return the pinned key of a target; raises HOST.1003 when it is not an OpenSSH line."""
    if target.host_key is None:
        return None
    try:
        return asyncssh.import_public_key(target.host_key)
    except (asyncssh.KeyImportError, ValueError):
        raise ssh_errors.bad_pinned_key(target.label) from None


async def _open_socket(target: SshTarget) -> socket.socket:
    """Connect to the first address of the host that answers; raises the OSError of the last that does not.

    Not left to `loop.create_connection`, whose error for a name with two addresses has no errno.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for family, kind, protocol, _, address in found:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _options(target: SshTarget, client: _Client, pinned: asyncssh.SSHKey | None) -> dict[str, object]:
    """Return options that take nothing from the files, agent or tickets of the user who runs mn."""
    wanted = pinned.get_algorithm() if pinned else ""
    family = "rsa-sha2-" if wanted == "ssh-rsa" else wanted
    # A host with keys of several types shows the pinned one when asked for that type first.
    algorithms = sorted(_HOST_KEY_ALGORITHMS, key=lambda name: not (family and name.startswith(family)))
    return {
        "config": None,
        "client_factory": lambda: client,
        # An empty value would mean ~/.ssh/known_hosts; three empty lists leave the decision to `_Client`.
        "known_hosts": ([], [], []),
        "server_host_key_algs": algorithms,
        "x509_trusted_certs": None,
        "x509_trusted_cert_paths": [],
        "kex_algs": _KEY_EXCHANGE,
        "username": target.username,
        "client_keys": None,
        "agent_path": None,
        "host_based_auth": False,
        "public_key_auth": False,
        "gss_host": None,
        "gss_kex": False,
        "gss_auth": False,
        "preferred_auth": ["password", "keyboard-interactive"],
        "keepalive_interval": KEEPALIVE_INTERVAL_S,
        "keepalive_count_max": KEEPALIVE_MISSES,
    }


def _login_error(
    target: SshTarget, client: _Client, pinned: asyncssh.SSHKey | None, error: Exception
) -> HardpointError:
    """Return what a failure after the TCP connect means."""
    reason = getattr(error, "reason", "") or str(error) or type(error).__name__
    if client.key_changed and pinned and client.seen:
        fingerprints = pinned.get_fingerprint(), client.seen.get_fingerprint()
        return ssh_errors.host_key_changed(target.label, *fingerprints)
    if not client.greeted:
        return ssh_errors.not_an_ssh_server(target.label)
    if isinstance(error, asyncssh.PermissionDenied):
        named = ssh_errors.password_rejected if client.password_sent else ssh_errors.password_login_off
        return named(target.label)
    if client.password_sent and "authentication failures" in reason.lower():
        return ssh_errors.too_many_failures(target.label, reason)
    return ssh_errors.login_ended(target.label, reason)


def _timeout_error(
    target: SshTarget, client: _Client, timeout_s: float, *, connected: bool
) -> HardpointError:
    """Return the time-out of the stage that was reached."""
    if not connected:
        return ssh_errors.no_tcp_answer(target.label, timeout_s)
    if not client.greeted:
        return ssh_errors.no_greeting(target.label, timeout_s)
    return ssh_errors.login_timed_out(target.label, timeout_s)


async def open_link(target: SshTarget, timeout_s: float = CONNECT_TIMEOUT_S) -> SshLink:
    """Connect and log in within `timeout_s` seconds; raises a HardpointError of `ssh_errors`."""
    pinned = parse_host_key(target)
    client = _Client(target, pinned)
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(timeout_s):
            sock = await _open_socket(target)
            connection = await asyncssh.connect(sock=sock, **_options(target, client, pinned))
    except TimeoutError:
        raise _timeout_error(target, client, timeout_s, connected=sock is not None) from None
    except (OSError, asyncssh.Error, ValueError) as error:
        if isinstance(error, OSError) and sock is None:
            raise ssh_errors.from_os_error(target.label, error) from error
        raise _login_error(target, client, pinned, error) from error
    finally:
        if sock is not None and client.connection is None:
            sock.close()
    key = connection.get_server_host_key()
    if key is None:
        connection.abort()
        raise ssh_errors.login_ended(target.label, "the server showed no host key")
    return SshLink(connection, key, target.label)


async def close_link(link: SshLink) -> None:
    """Close a connection; returns when it is closed."""
    if link.expiry is not None:
        link.expiry.cancel()
    link.connection.close()
    try:
        async with asyncio.timeout(1.0):
            await link.connection.wait_closed()
    except TimeoutError:
        link.connection.abort()


async def check_login(target: SshTarget, timeout_s: float = CONNECT_TIMEOUT_S) -> str:
    """Log in on a new connection and return the host's key as an OpenSSH line.

    Raises HOST.1012 for a wrong user or password, HOST.1003 for everything before that.
    """
    link = await open_link(target, timeout_s)
    await close_link(link)
    return link.host_key


_PoolKey = tuple[str, int, str, str]


class SshPool:
    """Connections that are kept and reused, each by one borrower at a time.

    `on_host_key` is called with the target and the key's OpenSSH line after the first login of a target that
    has no pinned key, for the caller to store. At most `maximum` connections are open; borrowers beyond wait.
    """

    def __init__(
        self,
        *,
        on_host_key: Callable[[SshTarget, str], None] | None = None,
        idle_s: float = IDLE_LIMIT_S,
        maximum: int = MAX_CONNECTIONS,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._on_host_key = on_host_key
        self._idle_s = idle_s
        self._maximum = maximum
        self._connect_timeout_s = connect_timeout_s
        self._borrowers = asyncio.Semaphore(maximum)
        self._borrowed: set[SshLink] = set()
        self._idle: dict[SshLink, _PoolKey] = {}  # oldest first
        self._leases = 0  # lent, or being opened to be lent
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def idle_count(self) -> int:
        """How many connections wait for their next use."""
        return len(self._idle)

    @contextlib.asynccontextmanager
    async def session(self, target: SshTarget, *, fresh: bool = False) -> AsyncIterator[SshLink]:
        """Lend a connection to `target`, a new one when none is idle or `fresh` is asked for.

        Raises HardpointError as `open_link` does. When the block raises, the connection is not used again.
        """
        async with self._borrowers:
            self._leases += 1
            try:
                link = None if fresh else self._take(target)
                async with self._lend(link or await self._open(target), target) as lent:
                    yield lent
            finally:
                self._leases -= 1

    @contextlib.asynccontextmanager
    async def _lend(self, link: SshLink, target: SshTarget) -> AsyncIterator[SshLink]:
        self._borrowed.add(link)
        try:
            yield link
        except BaseException:
            link.broken = True
            raise
        finally:
            self._borrowed.discard(link)
            self._give_back(link, target)

    async def close(self) -> None:
        """Close every connection, borrowed ones too."""
        self._closed = True
        links = [*self._idle, *self._borrowed]
        self._idle.clear()
        await asyncio.gather(*(close_link(link) for link in links))

    async def _open(self, target: SshTarget) -> SshLink:
        if self._closed:
            raise ssh_errors.connection_error(
                f"{target.label}: the management node is shutting down", "Try again when it runs."
            )
        while self._idle and len(self._idle) + self._leases > self._maximum:
            self._drop(next(iter(self._idle)))
        link = await open_link(target, self._connect_timeout_s)
        if target.host_key is None and self._on_host_key is not None:
            self._on_host_key(target, link.host_key)
        return link

    def _take(self, target: SshTarget) -> SshLink | None:
        """Return the most recently used idle connection, so that surplus ones reach their idle limit."""
        pinned = parse_host_key(target)
        key = _pool_key(target)
        for link in [link for link, owner in reversed(self._idle.items()) if owner == key]:
            if link.usable and (pinned is None or pinned == link.key):
                del self._idle[link]
                if link.expiry is not None:
                    link.expiry.cancel()
                link.reused = True
                return link
            self._drop(link)
        return None

    def _give_back(self, link: SshLink, target: SshTarget) -> None:
        if self._closed or not link.usable:
            link.connection.abort()
            return
        self._idle[link] = _pool_key(target)
        link.expiry = asyncio.get_running_loop().call_later(self._idle_s, self._drop, link)

    def _drop(self, link: SshLink) -> None:
        self._idle.pop(link, None)
        if link.expiry is not None:
            link.expiry.cancel()
        link.connection.close()


def _pool_key(target: SshTarget) -> _PoolKey:
    return (target.host, target.port, target.username, target.password)
