from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from mn.rest import throttle as module
from mn.rest.operation import Login, Reply
from mn.rest.services import Call
from mn.rest.throttle import FORGET_AFTER_S, LoginGate, LoginThrottle
from mn.settings import Settings

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> LoginThrottle:
    return LoginThrottle(5, 1.0, 60.0, clock)


def fail(throttle: LoginThrottle, times: int, address: str = HERE, account: str = "admin") -> None:
    for _ in range(times):
        throttle.failed(address, account)


def test_the_first_failures_cost_nothing(throttle: LoginThrottle) -> None:
    fail(throttle, 4)
    throttle.check(HERE, "admin")


def test_from_the_fifth_on_each_failure_doubles_the_wait(throttle: LoginThrottle, clock: Clock) -> None:
    fail(throttle, 4)
    for wait_s in (1, 2, 4, 8, 16, 32, 60, 60):
        fail(throttle, 1)
        assert throttle.wait_s(HERE, "admin") == wait_s
        clock.now += wait_s - 0.5
        with pytest.raises(HardpointError, match="failed too often") as refused:
            throttle.check(HERE, "admin")
        assert refused.value.code == "ID.1004"
        assert refused.value.remedy
        clock.now += 0.5
        throttle.check(HERE, "admin")


def test_an_address_that_guesses_many_accounts_has_to_wait(throttle: LoginThrottle) -> None:
    for n in range(5):
        throttle.failed(HERE, f"account-{n}")
    assert throttle.wait_s(HERE, "another") > 0
    assert throttle.wait_s(THERE, "another") == 0


def test_an_account_that_is_guessed_from_many_addresses_has_to_wait(throttle: LoginThrottle) -> None:
    for n in range(5):
        throttle.failed(f"192.0.2.{n}", "admin")
    assert throttle.wait_s("198.51.100.1", "admin") > 0
    assert throttle.wait_s("198.51.100.1", "other") == 0


def test_nobody_is_locked_out_from_elsewhere(throttle: LoginThrottle) -> None:
    throttle.succeeded(HERE, "admin")
    for n in range(50):
        throttle.failed(f"198.51.100.{n}", "admin")
    throttle.check(HERE, "admin")
    assert throttle.wait_s(THERE, "admin") > 0


def test_success_resets(throttle: LoginThrottle) -> None:
    fail(throttle, 7)
    throttle.succeeded(HERE, "admin")
    fail(throttle, 4)
    throttle.check(HERE, "admin")


def test_failures_are_forgotten_after_an_hour(throttle: LoginThrottle, clock: Clock) -> None:
    fail(throttle, 20)
    clock.now += FORGET_AFTER_S + 1
    throttle.check(HERE, "admin")
    fail(throttle, 4)
    throttle.check(HERE, "admin")


def test_the_addresses_of_one_ipv6_network_are_one(throttle: LoginThrottle) -> None:
    for n in range(5):
        throttle.failed(f"2001:db8::{n + 1}", f"a{n}")
    assert throttle.wait_s("2001:db8::ffff", "x") > 0
    assert throttle.wait_s("2001:db8:0:1::1", "x") == 0


def test_the_memory_is_bounded(throttle: LoginThrottle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES_MAX", 100)
    for n in range(1000):
        throttle.failed(f"10.0.{n // 250}.{n % 250}", f"account-{n}")
        throttle.succeeded(f"10.1.{n // 250}.{n % 250}", f"account-{n}")
    assert len(throttle._failures) <= 100
    assert len(throttle._trusted) <= 100


class _Guess(Login):
    """A login that fails; it registers nothing, having no path."""

    name: str = "admin"

    def login_name(self) -> str:
        return self.name

    async def answer(self, call: Call) -> Reply:
        await asyncio.sleep(0.001)
        raise HardpointError("ID.1000", "Authentication failed", "wrong account name or password")


async def test_many_guesses_at_once_get_no_more_answers_than_in_turn(tmp_path: Path) -> None:
    gate = LoginGate(Settings(state_dir=tmp_path, login_wait_s=60.0))

    async def guess() -> str:
        try:
            await gate.pass_through(HERE, _Guess(), None)  # type: ignore[arg-type]
        except HardpointError as error:
            return error.code
        return "in"

    codes = await asyncio.gather(*(guess() for _ in range(50)))
    assert codes.count("ID.1000") == 5
    assert codes.count("ID.1004") == 45
    assert 30 < gate.retry_after_s(HERE, _Guess()) <= 60
