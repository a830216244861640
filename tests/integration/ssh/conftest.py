from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mn.fleet.ssh import SshPool, SshTarget
from tests.sshd import Sshd


@pytest.fixture
def target(sshd: Sshd) -> SshTarget:
    return SshTarget(sshd.address, sshd.port, sshd.account.name, sshd.account.password, sshd.host_key)


@pytest.fixture
async def pool() -> AsyncIterator[SshPool]:
    async with SshPool() as pool:
        yield pool
