"""What operations return: replies and inventories whose fields are attributes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from mnclient.description import suggestion
from mnclient.errors import ErrorCode, OperationError

HIDDEN = "*****"
_SECRET = re.compile("password|secret|token|privatekey", re.IGNORECASE)


class Value:
    """A JSON object: its fields are attributes and items; one that the node left out is None when the
    type has it.
    """

    _item: type[Value] | None = None
    """The type of `inventory` and of the items of `inventories`."""

    def __init__(self, raw: dict[str, Any], item: type[Value] | None = None) -> None:
        self.__dict__["_raw"] = raw
        self.__dict__["_item"] = item

    def __getattr__(self, name: str) -> Any:
        raw: dict[str, Any] = self.__dict__.get("_raw", {})
        if name in raw:
            return _wrapped(raw[name], self._item if name in ("inventory", "inventories") else None)
        if name in self._fields():
            return None
        known = [*raw, *self._fields()]
        raise AttributeError(f"{type(self).__name__} has no field '{name}'{suggestion(name, known)}")

    def __getitem__(self, name: str) -> Any:
        return _wrapped(self._raw[name], self._item if name in ("inventory", "inventories") else None)

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and other._raw == self._raw

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_shown(self._raw)})"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as it came."""
        raw: dict[str, Any] = self._raw
        return raw

    @classmethod
    def _fields(cls) -> set[str]:
        return {name for kind in cls.__mro__ for name in getattr(kind, "__annotations__", {})} - {"_item"}


class Inventory(Value):
    """A resource as the node holds it."""


I = TypeVar("I", bound=Value)  # noqa: E741 - an inventory
V = TypeVar("V", bound=Value)


class One(Value, Generic[I]):
    """A reply with one inventory."""

    inventory: I


class Many(Value, Generic[I]):
    """A reply with inventories; `total` when it was asked for."""

    inventories: list[I]
    total: int | None


class Result(Generic[V]):
    """What a call came to: `value`, or `error` when the node refused or failed."""

    def __init__(self, value: V | None, error: ErrorCode | None) -> None:
        self._value = value
        self.error = error

    @property
    def value(self) -> V:
        """The reply. Raises OperationError when there is none."""
        if self._value is None:
            self.throw_if_error()
            raise AttributeError("the result has no value")
        return self._value

    def throw_if_error(self) -> Result[V]:
        """Raise OperationError when the operation failed; return the result itself."""
        if self.error is not None:
            raise OperationError(self.error)
        return self

    throwExceptionIfError = throw_if_error  # noqa: N815 - the public SDK's name

    def __repr__(self) -> str:
        return f"Result(error={self.error!s})" if self.error else f"Result(value={self._value!r})"


def _wrapped(value: Any, item: type[Value] | None) -> Any:
    if isinstance(value, dict):
        return (item or Value)(value)
    if isinstance(value, list):
        return [_wrapped(each, item) for each in value]
    return value


def hide_secrets(raw: Any) -> Any:
    """Return JSON with passwords and session uuids as stars."""
    if isinstance(raw, list):
        return [hide_secrets(item) for item in raw]
    if not isinstance(raw, dict):
        return raw
    is_session = "expiredDate" in raw
    return {
        key: HIDDEN if _SECRET.search(key) or (is_session and key == "uuid") else hide_secrets(value)
        for key, value in raw.items()
    }


def _shown(raw: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in hide_secrets(raw).items())
