"""Who may have an image's content: tokens that expire, and exports that last until they are deleted.

A token says what it is for and until when, and is signed with a key of this agent; nothing of it is kept. An
export has a token of its own that is kept, so that it can be renewed and taken back.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import msgspec

from agentkit.errors import Blame, HardpointError
from agentkit.files import write_durably

KEY_FILE, EXPORTS_FILE = "grants.key", "exports.json"


class Use(StrEnum):
    """What a token is for."""

    DOWNLOAD = "download"
    UPLOAD = "upload"


class Export(msgspec.Struct, frozen=True):
    """An exported image."""

    token: str
    expires: float


class Grants:
    """Gives and checks tokens; its methods block on the disk."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.time) -> None:
        """Read the key and the exports. Raises HardpointError when they cannot be understood."""
        self._clock = clock
        self._key_path = state_dir / KEY_FILE
        self._path = state_dir / EXPORTS_FILE
        self._key: bytes | None = None
        self._exports: dict[str, Export] = {}
        try:
            self._exports = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Export])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            details = f"{self._path} does not say what is exported: {error}"
            remedy = "remove the file, then export the images again"
            raise HardpointError("SYS.1000", "Internal error", details, remedy=remedy) from error

    def give(self, use: Use, image_uuid: str, lifetime_s: float) -> tuple[str, float]:
        """Return a token and when it expires."""
        expires = int(self._clock() + lifetime_s)
        return f"{expires}.{self._signature(use, image_uuid, expires)}", expires

    def export(self, image_uuid: str, lifetime_s: float) -> Export:
        """Return the image's export, from now on for `lifetime_s`; its token stays the same."""
        known = self._exports.get(image_uuid)
        token = known.token if known else f"x.{secrets.token_urlsafe(24)}"
        export = Export(token, self._clock() + lifetime_s)
        self._save({**self._exports, image_uuid: export})
        return export

    def end_export(self, image_uuid: str) -> None:
        """Take an export back; one that is not there is no fault."""
        if image_uuid in self._exports:
            self._save({uuid: e for uuid, e in self._exports.items() if uuid != image_uuid})

    def end_all(self) -> None:
        """Take back all exports."""
        self._save({})

    def check(self, use: Use, image_uuid: str, token: str) -> None:
        """Raise HardpointError (ID.1000) for a token that is none, of another image, or expired."""
        export = self._exports.get(image_uuid)
        if use is Use.DOWNLOAD and export and hmac.compare_digest(export.token.encode(), token.encode()):
            if export.expires > self._clock():
                return
            raise _refused(image_uuid, "it has expired")
        until, _, signature = token.partition(".")
        wanted = self._signature(use, image_uuid, int(until)) if until.isascii() and until.isdigit() else ""
        if not wanted or not hmac.compare_digest(wanted.encode(), signature.encode()):
            raise _refused(image_uuid, f"it is no token for the {use.value} of this image")
        if int(until) <= self._clock():
            raise _refused(image_uuid, "it has expired")

    def _signature(self, use: Use, image_uuid: str, expires: int) -> str:
        if self._key is None:
            self._key = self._read_key()
        text = f"{use.value} {image_uuid} {expires}".encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()

    def _read_key(self) -> bytes:
        try:
            return self._key_path.read_bytes()
        except FileNotFoundError:
            key = secrets.token_bytes(32)
            write_durably(self._key_path, key)
            return key

    def _save(self, exports: dict[str, Export]) -> None:
        write_durably(self._path, msgspec.json.encode(exports))
        self._exports = exports


def _refused(image_uuid: str, reason: str) -> HardpointError:
    return HardpointError(
        "ID.1000",
        "Authentication failed",
        f"the token given for image {image_uuid} does not open it: {reason}",
        remedy="export the image again (ExportImageFromBackupStorage)",
        blame=Blame.CALLER,
    )
