"""Login throttling: who fails to log in too often has to wait, twice as long each time."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network

from agentkit.errors import Blame, HardpointError
from mn.rest.addresses import plain
from mn.rest.operation import Login, Reply
from mn.rest.services import Call
from mn.settings import Settings

ENTRIES_MAX = 10_000
"""Addresses, accounts and pairs of them that are remembered at the most; the oldest go first."""
FORGET_AFTER_S = 3600.0
TOO_MANY = "ID.1004"


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0


class LoginThrottle:
    """Counts failed logins by address and by account name. Times are seconds of `clock`.

    An address that has logged in to an account before is not held up by what others do to that account, so
    nobody can be locked out from elsewhere.
    """

    def __init__(
        self,
        free: int,
        first_wait_s: float,
        longest_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free, self._first_s, self._longest_s = free, first_wait_s, longest_wait_s
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._trusted: OrderedDict[tuple[str, str], None] = OrderedDict()

    def check(self, address: str, account: str) -> None:
        """Raise HardpointError (ID.1004) when the address or the account has to wait."""
        wait_s = self.wait_s(address, account)
        if wait_s > 0:
            raise HardpointError(
                "ID.1004",
                "Too many failed logins",
                f"logins from {address} or to this account have failed too often; the next one is looked at"
                f" in {wait_s:.0f} s",
                remedy="wait, then send the right password; each further failure doubles the wait",
                blame=Blame.CALLER,
            )

    def wait_s(self, address: str, account: str) -> float:
        """Return the seconds until a login is looked at, 0 when it is now."""
        now = self._clock()
        waits = [0.0]
        for key in self._keys(address, account):
            known = self._failures.get(key)
            if known and now - known.last > max(FORGET_AFTER_S, self._longest_s):
                del self._failures[key]
            elif known and known.count >= self._free:
                longest = self._first_s * 2.0 ** min(known.count - self._free, 60)
                waits.append(known.last + min(longest, self._longest_s) - now)
        return max(waits)

    def failed(self, address: str, account: str) -> None:
        """Count a failed login."""
        for key in self._keys(address, account):
            known = self._failures.pop(key, None) or _Failures()
            known.count += 1
            known.last = self._clock()
            self._failures[key] = known
        while len(self._failures) > ENTRIES_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, address: str, account: str) -> None:
        """Forget the failures of an address and an account."""
        for key in self._keys(address, account):
            self._failures.pop(key, None)
        pair = (_block(address), account)
        self._trusted.pop(pair, None)
        self._trusted[pair] = None
        while len(self._trusted) > ENTRIES_MAX:
            self._trusted.popitem(last=False)

    def _keys(self, address: str, account: str) -> Iterator[tuple[str, str]]:
        block = _block(address)
        yield "address", block
        if (block, account) not in self._trusted:
            yield "account", account


class LoginGate:
    """Lets logins through, one at a time from an address: many at once are throttled like many in turn."""

    def __init__(self, settings: Settings) -> None:
        self._throttle = LoginThrottle(
            settings.login_failures, settings.login_wait_s, settings.login_wait_max_s
        )
        self._lines: dict[str, _Line] = {}

    async def pass_through(self, address: str, login: Login, call: Call) -> Reply:
        """Return the answer of a login. Raises HardpointError (ID.1004) when it has to wait, and its own."""
        block, account = _block(address), login.login_name()
        line = self._lines.setdefault(block, _Line())
        line.length += 1
        try:
            async with line.lock:
                self._throttle.check(address, account)
                try:
                    reply = await login.answer(call)
                except HardpointError as error:
                    if error.code == "ID.1000":
                        self._throttle.failed(address, account)
                    raise
                self._throttle.succeeded(address, account)
                return reply
        finally:
            line.length -= 1
            if not line.length:
                self._lines.pop(block, None)

    def retry_after_s(self, address: str, login: Login) -> int:
        """Return the whole seconds until a login is looked at."""
        return math.ceil(self._throttle.wait_s(address, login.login_name()))


@dataclass
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


def _block(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        known = plain(address)
    except ValueError:
        return address
    return str(IPv6Network((known, 64), strict=False) if isinstance(known, IPv6Address) else known)
