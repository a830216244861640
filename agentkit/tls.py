"""TLS contexts of both sides: each shows a certificate and each checks the other's against the fleet's CA."""

from __future__ import annotations

import asyncio.sslproto
import ssl
from pathlib import Path

from agentkit.errors import HardpointError
from agentkit.files import sync_directory, write_durably

READ_BUFFER_BYTES = 16 * 1024
_REMEDY = "put the file in place, readable by the daemon's user, or correct its path in the configuration"


def server_context(
    certificate: Path, key: Path, ca: Path, *, client_certificates: bool = True
) -> ssl.SSLContext:
    """Return the context of a server that lets in only clients with a certificate of `ca`.

    Without `client_certificates` it lets in those that show none as well: what they may do is for the HTTP
    side to say. A certificate that is shown must be of `ca` either way.

    Raises HardpointError naming the file when one is missing, unreadable or does not fit the others.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, ca)
    context.verify_mode = ssl.CERT_REQUIRED if client_certificates else ssl.CERT_OPTIONAL
    # A resumed session would skip the look at the client's certificate, which may have expired since.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


class ServerCredentials:
    """A server's certificate, key and CA; another certificate can be installed while the server runs.

    An installed certificate stands in one file together with its key, so that no crash can part the two. That
    file is `installed`, by default the certificate's; once it holds a key it wins over the given pair.
    `client_certificates` is as `server_context` has it.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        ca: Path,
        installed: Path | None = None,
        *,
        client_certificates: bool = True,
    ) -> None:
        self._client_certificates = client_certificates
        self._certificate = certificate
        self._key = key
        self._ca = ca
        self._installed = installed or certificate
        self._context: ssl.SSLContext | None = None
        self._open_context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return the server's context, made at the first call; raises as `server_context` does."""
        if self._context is None:
            certificate, key = self._pair()
            self._context = server_context(
                certificate, key, self._ca, client_certificates=self._client_certificates
            )
        return self._context

    def open_context(self) -> ssl.SSLContext:
        """Return the context of a door that lets in clients without a certificate, made at the first call.

        Who is let in there has to show something else. Raises as `server_context` does.
        """
        if self._open_context is None:
            self._open_context = _context(ssl.PROTOCOL_TLS_SERVER, *self._pair(), self._ca)
        return self._open_context

    def install(self, certificate: str, key: str) -> None:
        """Use another pair (PEM) from the next connection on and keep it on disk; blocks on the disk.

        Raises HardpointError when the two do not belong together; then nothing has changed.
        """
        candidate = self._installed.with_name(self._installed.name + ".candidate")
        write_durably(candidate, f"{certificate}\n{key}\n".encode())
        try:
            server_context(candidate, candidate, self._ca)
        except HardpointError:
            candidate.unlink()
            raise
        candidate.replace(self._installed)
        sync_directory(self._installed.parent)
        self.context().load_cert_chain(self._installed, password=_no_password)
        if self._open_context is not None:
            self._open_context.load_cert_chain(self._installed, password=_no_password)

    def _pair(self) -> tuple[Path, Path]:
        """Return the files of the certificate and its key."""
        try:
            combined = b"PRIVATE KEY" in self._installed.read_bytes()
        except OSError:
            combined = False
        return (self._installed, self._installed) if combined else (self._certificate, self._key)


def client_context(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Return the context of a client that shows `certificate` and checks the server's name and `ca`.

    Raises HardpointError naming the file when one is missing, unreadable or does not fit the others.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, ca)
    context.check_hostname = True
    return context


def lower_read_buffer() -> None:
    """Make asyncio's TLS connections of this process read 16 KiB (one TLS record) at a time, not 256 KiB.

    asyncio allocates that buffer for each connection and has no setting for it but this class attribute; a
    Python without the attribute is left as it is.
    """
    protocol = asyncio.sslproto.SSLProtocol
    if getattr(protocol, "max_size", 0) > READ_BUFFER_BYTES:
        protocol.max_size = READ_BUFFER_BYTES


def _context(purpose: int, certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    for what, path in (("certificate", certificate), ("key", key), ("CA certificate", ca)):
        _check_readable(what, path)
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise _unusable(certificate, key, error) from error
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise _tls_error(
            f"the CA certificate {ca} is not a PEM certificate: {error.reason or error}"
        ) from error
    return context


def _check_readable(what: str, path: Path) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise _tls_error(f"the {what} {path} cannot be read: {error.strerror}") from error


def _no_password() -> str:
    # Without this OpenSSL asks for the password of an encrypted key on the terminal, and waits.
    raise ValueError("the key is protected by a password")


def _unusable(certificate: Path, key: Path, error: Exception) -> HardpointError:
    reason = getattr(error, "reason", None) or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return _tls_error(f"the key {key} does not belong to the certificate {certificate}")
    return _tls_error(f"the certificate {certificate} and key {key} cannot be used: {reason}")


def _tls_error(details: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=_REMEDY)
