"""Secrets at rest: AES-256-GCM under a key file that only the daemon's user can read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentkit.errors import HardpointError

_PREFIX = "v1:"
_NONCE_BYTES = 12


class Vault:
    """Seals and opens short texts; a sealed text is bound to its `purpose`, so that it cannot be
    moved elsewhere.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(hashlib.sha256(b"seal" + key).digest())
        self._digest_key = hashlib.sha256(b"digest" + key).digest()

    @classmethod
    def open_file(cls, path: Path) -> Vault:
        """Return the vault of a key file, made (mode 0600) when there is none.

        Raises HardpointError when the file is readable by others, too short or not accessible.
        """
        try:
            if not path.exists():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(32))
                    file.flush()
                    os.fsync(descriptor)
            mode = path.stat().st_mode
            key = path.read_bytes()
        except OSError as error:
            raise _key_error(
                path, f"cannot be used: {error.strerror}", "run as the user that owns it"
            ) from error
        if mode & 0o077:
            raise _key_error(path, f"has mode {mode & 0o777:o}, others could read it", f"chmod 600 {path}")
        if len(key) < 32:
            raise _key_error(path, f"holds {len(key)} bytes, not 32", "restore it from your backup")
        return cls(key)

    def seal(self, text: str, purpose: str) -> str:
        """Return `text` encrypted for `purpose`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), purpose.encode())
        return _PREFIX + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, purpose: str) -> str:
        """Return the text that `seal` encrypted. Raises HardpointError when the key is another one."""
        try:
            raw = base64.b64decode(sealed.removeprefix(_PREFIX), validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], purpose.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise HardpointError(
                "SYS.1000",
                "Internal error",
                f"the stored {purpose} was encrypted with another key file",
                remedy="restore the key file that belongs to this database, or set the secret anew",
            ) from error

    def digest(self, data: bytes) -> str:
        """Return a keyed digest: equal for equal data, telling nothing to who lacks the key."""
        return hmac.new(self._digest_key, data, hashlib.sha256).hexdigest()


def _key_error(path: Path, reason: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1000", "Internal error", f"the key file {path} {reason}", remedy=remedy)
