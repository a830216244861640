"""Types of parameters, each with its bounds and the words that describe it."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from mn.db.schema import DESCRIPTION_LENGTH, NAME_LENGTH
from mn.db.vault import Vault

# Controls of ASCII and Latin-1. What follows "$" is for Python, where it also matches before a last newline.
NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)"

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=NAME_LENGTH,
        pattern=NO_CONTROLS,
        description=f"a text of 1 to {NAME_LENGTH} characters, none of them a control character",
    ),
]
Description = Annotated[
    str, Meta(max_length=DESCRIPTION_LENGTH, description=f"a text of up to {DESCRIPTION_LENGTH} characters")
]
Text = Annotated[str, Meta(min_length=1, description="a text that is not empty")]
StorageUrl = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        pattern=NO_CONTROLS,
        description="a directory or host:/export, a text of 1 to 1024 characters",
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535, description="a whole number from 1 to 65535")]
Ref = Annotated[str, Meta(min_length=1, max_length=64, description="the uuid of a resource")]
Uuid = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="a uuid of 32 lower-case hex digits")]
ResourceUuid = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{12}[1-5][0-9a-f]{3}[89ab][0-9a-f]{15}$",
        description="a uuid of 32 lower-case hex digits without hyphens",
    ),
]
Tags = list[Annotated[str, Meta(min_length=1, max_length=2048)]]

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?\Z")


class _Word:
    """A text of a kind of its own: no dataclass, since msgspec would take those for objects."""

    __slots__ = ("text",)
    description: ClassVar[str] = "a text"

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Word) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


class HostAddress(_Word):
    """An IP address or a host name, as a person wrote it; IP addresses in their shortest form.

    `::ffff:192.0.2.1` is 192.0.2.1.
    """

    __slots__ = ()
    description = "an IPv4 or IPv6 address or a host name"

    @classmethod
    def parse(cls, text: str) -> HostAddress:
        """Return the address. Raises ValueError when it is none."""
        try:
            address = ipaddress.ip_address(text.strip("[]"))
            return cls(str(getattr(address, "ipv4_mapped", None) or address))
        except ValueError:
            if not _HOST_NAME.match(text) or re.fullmatch(r"[\d.]+", text):
                raise ValueError(text) from None
            return cls(text.rstrip(".").lower())


class StateEvent(_Word):
    """What is to become of a state: `enable`, `disable`..., or the state's own name in any case."""

    __slots__ = ()
    description = "a state event such as enable or disable"

    @classmethod
    def parse(cls, text: str) -> StateEvent:
        """Return the event. Raises ValueError when it is none."""
        return cls(_STATE_EVENTS[text.lower()])


class HostStateEvent(StateEvent):
    """What is to become of a host's state."""

    __slots__ = ()
    description = "a state event: enable, disable or maintain"


class StorageStateEvent(StateEvent):
    """What is to become of a storage's state."""

    __slots__ = ()
    description = "a state event: enable, disable, maintain or deleting"


_STATE_EVENTS = {
    "enable": "enable",
    "enabled": "enable",
    "disable": "disable",
    "disabled": "disable",
    "maintain": "maintain",
    "maintenance": "maintain",
    "deleting": "deleting",
}


class Secret(_Word):
    """A text that is never shown: its repr is stars, and it goes into the journal sealed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(*****)"


_SEAL_PURPOSE = "parameter of a job"


def decoder_hook(kind: type, value: object) -> object:
    """Turn what a client sent into HostAddress and Secret (msgspec `dec_hook`)."""
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - msgspec reports ValueError as a validation error
    if kind is HostAddress:
        return HostAddress.parse(value)
    if issubclass(kind, StateEvent):
        return kind.parse(value)
    if kind is Secret:
        if not value:
            raise ValueError(value)
        return Secret(value)
    raise NotImplementedError(kind)


class RequestCodec:
    """Writes operations for the journal and reads them back; secrets are sealed in between."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def encode(self, operation: msgspec.Struct) -> str:
        """Return an operation as JSON with its secrets sealed."""
        return msgspec.json.encode(operation, enc_hook=self._encode_hook).decode()

    def digest(self, operation: msgspec.Struct) -> str:
        """Return what is equal for equal requests; keyed, so it says nothing of the secrets in them."""
        plain = msgspec.json.encode(operation, enc_hook=_plain_hook, order="sorted")
        return self._vault.digest(type(operation).__name__.encode() + plain)

    def decode(self, kind: Any, encoded: str) -> Any:
        """Return the operation that `encode` wrote."""
        return msgspec.json.decode(encoded, type=kind, dec_hook=self._decode_hook)

    def _encode_hook(self, value: object) -> object:
        if isinstance(value, Secret):
            return self._vault.seal(value.text, _SEAL_PURPOSE)
        return _plain_hook(value)

    def _decode_hook(self, kind: type, value: object) -> object:
        if kind is Secret:
            return Secret(self._vault.open(str(value), _SEAL_PURPOSE))
        return decoder_hook(kind, value)


def _plain_hook(value: object) -> object:
    if isinstance(value, _Word):
        return value.text
    raise NotImplementedError(type(value))
