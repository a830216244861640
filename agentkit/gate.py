"""TLS in front of the HTTP server: accepts connections, shakes hands, says whom it refused and why.

asyncio's own TLS server keeps failed handshakes to itself. Here each connection is accepted first and its
handshake awaited, so that the reason is at hand; the HTTP protocol gets the connection when it is through.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
REFUSAL_WINDOW_S = 600.0
CONNECTIONS_MAX = 512
HANDSHAKES_PER_PEER_MAX = 32
_REFUSALS_MAX = 256
_DEAD_PEER_MS = 30_000
_ACCEPT_PAUSE_S = 1.0
_SHUTDOWN_TIMEOUT_S = 5.0

ProtocolFactory = Callable[[], asyncio.BaseProtocol]

_VERIFY_REASONS = {
    9: "the peer's certificate is not valid yet",
    10: "the peer's certificate has expired",
    18: "the peer's certificate is signed by itself, not by the CA that this agent trusts",
    19: "the peer's certificate is of another CA than the one this agent trusts",
    20: "the peer's certificate is of another CA than the one this agent trusts",
    21: "the peer's certificate is of another CA than the one this agent trusts",
    7: "the peer's certificate bears a signature that the trusted CA did not make",
    26: "the peer's certificate is not meant for TLS clients",
}
_TLS_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no client certificate",
    "HTTP_REQUEST": "the peer speaks plain HTTP, not TLS",
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "the peer's TLS is older than 1.2",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust the CA of this agent's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refuses this agent's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer refuses this agent's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer holds that this agent's certificate has expired",
}


def reason_in_words(error: OSError) -> str:
    """Return why a TLS handshake failed, as a person would say it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        other = f"the peer's certificate is refused: {error.verify_message}"
        return _VERIFY_REASONS.get(error.verify_code, other)
    if isinstance(error, ssl.SSLError):
        return _TLS_REASONS.get(error.reason or "", f"the TLS handshake failed: {error.reason or error}")
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return "the peer did not finish the TLS handshake in time"
    return "the peer hung up during the TLS handshake"


class RefusalLog:
    """Logs a refused peer once per (address, reason) and window; bounded however many peers knock."""

    def __init__(
        self, window_s: float = REFUSAL_WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._clock = clock
        self._seen: OrderedDict[tuple[str, str], list[float]] = OrderedDict()

    def refused(self, peer: str, reason: str) -> None:
        """Note that `peer` was refused."""
        now = self._clock()
        while self._seen and now - next(iter(self._seen.values()))[0] >= self._window_s:
            (old_peer, old_reason), (_, count) = self._seen.popitem(last=False)
            if count > 1:
                extra = {"peer": old_peer, "reason": old_reason, "times": int(count)}
                log.info("connections refused again", extra=extra)
        if (peer, reason) not in self._seen and len(self._seen) >= _REFUSALS_MAX:
            peer, reason = "many", "too many different peers to name each"
        entry = self._seen.setdefault((peer, reason), [now, 0])
        entry[1] += 1
        if entry[1] == 1:
            log.warning("connection refused", extra={"peer": peer, "reason": reason})


class Gate:
    """Accepts on listening sockets and hands connections with a proper client certificate to `factory`."""

    def __init__(
        self,
        factory: ProtocolFactory,
        context: ssl.SSLContext,
        *,
        connections_max: int = CONNECTIONS_MAX,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        refusals: RefusalLog | None = None,
    ) -> None:
        self._factory = factory
        self._context = context
        self._connections_max = connections_max
        self._handshake_timeout_s = handshake_timeout_s
        self._refusals = refusals or RefusalLog()
        self._shaking: Counter[str] = Counter()
        self._admitting: set[asyncio.Task[None]] = set()
        self._through: set[asyncio.BaseTransport] = set()
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []

    @property
    def connections(self) -> int:
        """How many connections are open, those shaking hands included."""
        self._through = {transport for transport in self._through if not transport.is_closing()}
        return len(self._through) + self._shaking.total()

    def start(self, listener: socket.socket) -> None:
        """Accept on `listener` (bound, listening) until `close`, which closes it too."""
        listener.setblocking(False)
        self._listeners.append(listener)
        accepting = accept_on(listener, self.take, self._refusals)
        self._accepting.append(asyncio.get_running_loop().create_task(accepting, name="gate"))

    async def close(self) -> None:
        """Stop accepting; connections that are through stay open."""
        tasks = [*self._accepting, *self._admitting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        self._accepting.clear()
        self._listeners.clear()

    def abort(self) -> None:
        """Cut all connections off, as a process does that is killed."""
        for task in self._admitting:
            task.cancel()
        for transport in self._through:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
        self._through.clear()

    def take(self, connection: socket.socket, peer: str) -> None:
        """Have an accepted connection shake hands with `peer`; refused when there are too many already."""
        reason = ""
        if self.connections >= self._connections_max:
            reason = f"there are {self._connections_max} connections already"
        elif self._shaking[peer] >= HANDSHAKES_PER_PEER_MAX:
            reason = f"the peer has {HANDSHAKES_PER_PEER_MAX} unfinished TLS handshakes"
        if reason:
            connection.close()
            self._refusals.refused(peer, reason)
            return
        # The peer of a long stream may lose its power: without this the kernel waits a quarter of an hour.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_MS)
        self._shaking[peer] += 1
        task = asyncio.get_running_loop().create_task(self._admit(connection, peer))
        self._admitting.add(task)
        task.add_done_callback(self._admitting.discard)

    async def _admit(self, connection: socket.socket, peer: str) -> None:
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                self._factory,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_timeout_s,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
            )
            self._through.add(transport)
        except OSError as error:
            self._refusals.refused(peer, reason_in_words(error))
        finally:
            self._shaking[peer] -= 1
            if not self._shaking[peer]:
                del self._shaking[peer]


async def accept_on(
    listener: socket.socket, take: Callable[[socket.socket, str], None], refusals: RefusalLog
) -> None:
    """Give connections with the address of their peer to `take`, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, address = await loop.sock_accept(listener)
        except OSError as error:
            if error.errno != errno.ECONNABORTED:
                refusals.refused("any", f"the agent cannot accept connections: {error.strerror}")
                await asyncio.sleep(_ACCEPT_PAUSE_S)
            continue
        take(connection, str(address[0]))
