"""A client of SPICE screens, as far as tests need one: links channels and reads what comes first on them.

The protocol is spice-protocol's (`spice/protocol.h`): a link message, the server's RSA key, the password
sealed by it, a result; then messages, each with its type and size before it.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_der_public_key

MAGIC, MAJOR, MINOR = b"REDQ", 2, 2
MAIN, USB_REDIRECTION = 1, 9
MAIN_INIT, VMC_DATA = 103, 101
OK, PERMISSION_DENIED = 0, 7
PUBLIC_KEY_BYTES = 162
LIMIT_S = 60.0


class SpiceError(Exception):
    """The server has not let a channel in; `code` is the protocol's."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the SPICE server answers a link with {code}")
        self.code = code


class Channel:
    """A linked channel of a screen."""

    def __init__(self, address: str, port: int, password: str, kind: int, session: int = 0) -> None:
        self._socket = socket.create_connection((address, port), LIMIT_S)
        try:
            self._link(password, kind, session)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def message(self, wanted: int) -> bytes:
        """Return the body of the next message of a type, passing over others."""
        while True:
            _serial, kind, size, _sub = struct.unpack("<QHII", self._read(18))
            body = self._read(size)
            if kind == wanted:
                return body

    def _link(self, password: str, kind: int, session: int) -> None:
        wanted = struct.pack("<IBBIII", session, kind, 0, 0, 0, 18)
        self._socket.sendall(struct.pack("<4sIII", MAGIC, MAJOR, MINOR, len(wanted)) + wanted)
        magic, major, _minor, size = struct.unpack("<4sIII", self._read(16))
        assert (magic, major) == (MAGIC, MAJOR)
        reply = self._read(size)
        self._check(reply[:4])
        key = load_der_public_key(reply[4 : 4 + PUBLIC_KEY_BYTES])
        assert isinstance(key, RSAPublicKey)
        padding = OAEP(MGF1(SHA1()), SHA1(), None)
        self._socket.sendall(key.encrypt(password.encode() + b"\0", padding))
        self._check(self._read(4))

    def _check(self, said: bytes) -> None:
        (code,) = struct.unpack("<I", said)
        if code != OK:
            raise SpiceError(code)

    def _read(self, size: int) -> bytes:
        said = b""
        while len(said) < size:
            more = self._socket.recv(size - len(said))
            if not more:
                raise ConnectionError("the SPICE server has closed the channel")
            said += more
        return said


def usb_hello(address: str, port: int, password: str) -> bytes:
    """Connect as who is at the screen does, and return what a USB controller of the VM says first."""
    with Channel(address, port, password, MAIN) as main:
        (session,) = struct.unpack("<I", main.message(MAIN_INIT)[:4])
        with Channel(address, port, password, USB_REDIRECTION, session) as redirection:
            return redirection.message(VMC_DATA)
