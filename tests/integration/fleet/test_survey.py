from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from agentkit.errors import HardpointError
from mn.fleet.ssh import SshPool, SshTarget
from mn.fleet.survey import take_survey
from tests.helpers import free_port
from tests.sshd import Sshd


def target_of(server: Sshd) -> SshTarget:
    return SshTarget(server.address, server.port, server.account.name, server.account.password)


async def test_a_survey_sees_the_host_behind_one_login(sshd: Sshd) -> None:
    async with SshPool() as pool:
        found = await take_survey(pool, target_of(sshd))
    assert found.host_key == sshd.host_key
    assert sshd.logins() == 1
    assert abs(found.clock_offset_s) < 1.0
    assert (found.root, found.admin, found.owner_fleet_uuid) == (False, False, None)
    assert found.python is not None
    assert found.distribution


async def test_a_survey_leaves_nothing_behind(sshd: Sshd) -> None:
    async with SshPool() as pool:
        await take_survey(pool, target_of(sshd))
    sshd.account.wait_for_no_processes()
    assert sshd.account.scripts() == []


async def test_a_wrong_password_is_said_so(sshd: Sshd) -> None:
    async with SshPool() as pool:
        with pytest.raises(HardpointError) as caught:
            await take_survey(pool, dataclasses.replace(target_of(sshd), password="wrong"))
    assert caught.value.code == "HOST.1012"


async def test_a_changed_host_key_and_a_closed_port_are_said_so(sshd: Sshd) -> None:
    pinned = dataclasses.replace(target_of(sshd), host_key=sshd.host_key)
    sshd.restart(new_host_key=True)
    async with SshPool() as pool:
        with pytest.raises(HardpointError, match="host key changed") as changed:
            await take_survey(pool, pinned)
        with pytest.raises(HardpointError, match="port is closed") as closed:
            await take_survey(pool, dataclasses.replace(pinned, port=free_port()))
    assert (changed.value.code, closed.value.code) == ("HOST.1003", "HOST.1003")


async def test_a_login_that_runs_no_commands_is_an_error_with_its_words(
    start_sshd: Callable[..., Sshd],
) -> None:
    server = start_sshd(options={"ForceCommand": "echo 'This account is for file transfers only.'"})
    async with SshPool() as pool:
        with pytest.raises(HardpointError, match="file transfers only"):
            await take_survey(pool, target_of(server))
