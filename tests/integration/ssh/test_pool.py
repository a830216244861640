"""Connections on a real sshd are kept, reused, bounded and given up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncssh
import pytest

from agentkit.errors import HardpointError
from mn.fleet.shell import ScriptLimits, run_script
from mn.fleet.ssh import SshPool, SshTarget
from tests.sshd import Sshd, wait_until

LIMITS = ScriptLimits(time_s=30)


async def sessions_become(sshd: Sshd, wanted: int) -> None:
    """Return when sshd has the processes of `wanted` connections (two each: the monitor and its child)."""
    await asyncio.to_thread(wait_until, lambda: len(sshd.sessions()) == 2 * wanted, f"{wanted} sessions")


async def test_one_login_serves_many_scripts(target: SshTarget, sshd: Sshd, pool: SshPool) -> None:
    for number in range(10):
        result = await run_script(target, f"echo {number}", LIMITS, pool=pool)
        assert result.stdout == f"{number}\n"
    assert sshd.logins() == 1


async def test_a_call_without_a_pool_leaves_no_connection(target: SshTarget, sshd: Sshd) -> None:
    await run_script(target, "true", LIMITS)
    await sessions_become(sshd, 0)


async def test_an_idle_connection_is_closed_after_its_limit(target: SshTarget, sshd: Sshd) -> None:
    async with SshPool(idle_s=0.2) as pool:
        await run_script(target, "true", LIMITS, pool=pool)
        assert pool.idle_count == 1
        await sessions_become(sshd, 0)
        assert pool.idle_count == 0
        assert (await run_script(target, "echo back", LIMITS, pool=pool)).stdout == "back\n"
    assert sshd.logins() == 2


async def test_a_full_pool_gives_up_its_oldest_idle_connection(target: SshTarget, sshd: Sshd) -> None:
    async with SshPool(maximum=2) as pool:
        others = [replace(target, address=address) for address in ("127.0.0.1", "localhost", "127.0.0.001")]
        for other in others:
            await run_script(other, "true", LIMITS, pool=pool)
        assert pool.idle_count == 2
        await run_script(others[2], "true", LIMITS, pool=pool)
        await run_script(others[1], "true", LIMITS, pool=pool)
        assert sshd.logins() == 3


async def test_borrowers_beyond_the_maximum_wait(target: SshTarget, sshd: Sshd) -> None:
    async with SshPool(maximum=2) as pool:
        calls = [run_script(target, "echo served", LIMITS, pool=pool) for _ in range(6)]
        results = await asyncio.gather(*calls)
    assert [result.stdout for result in results] == ["served\n"] * 6
    assert sshd.logins() == 2


async def test_the_key_of_an_unpinned_host_is_reported_once(target: SshTarget, sshd: Sshd) -> None:
    seen: list[tuple[SshTarget, str]] = []
    unpinned = replace(target, host_key=None)
    async with SshPool(on_host_key=lambda whose, key: seen.append((whose, key))) as pool:
        for each in (unpinned, unpinned, target):
            assert (await run_script(each, "true", LIMITS, pool=pool)).host_key == sshd.host_key
    assert seen == [(unpinned, sshd.host_key)]


async def test_a_kept_connection_does_not_outlive_a_changed_pin(target: SshTarget, pool: SshPool) -> None:
    await run_script(target, "true", LIMITS, pool=pool)
    other_key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    result = await run_script(replace(target, host_key=other_key), "true", LIMITS, pool=pool)
    assert result.error is not None
    assert "the host key changed" in result.error.details


async def test_a_kept_connection_is_not_lent_for_another_password(target: SshTarget, pool: SshPool) -> None:
    await run_script(target, "true", LIMITS, pool=pool)
    result = await run_script(replace(target, password="wrong"), "true", LIMITS, pool=pool)
    assert result.error is not None
    assert result.error.code == "HOST.1012"


async def test_a_closed_pool_closes_its_connections_and_lends_none(target: SshTarget, sshd: Sshd) -> None:
    pool = SshPool()
    await run_script(target, "true", LIMITS, pool=pool)
    await pool.close()
    await sessions_become(sshd, 0)
    with pytest.raises(HardpointError, match="shutting down"):
        async with pool.session(target):
            pass
