from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mn.fleet.ca import CertificateAuthority
from mn.fleet.deploy import Target
from mn.fleet.local import LocalDeployer
from tests.sshd import wait_until

TARGET = Target("a" * 32, "127.0.0.1")


def _starting(folder: Path) -> list[psutil.Process]:
    """Return the agents of a folder that are running or stopped."""
    found = []
    for process in psutil.Process().children():
        try:
            mine = any(argument.startswith(str(folder)) for argument in process.cmdline())
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


async def test_an_agent_whose_deployment_is_given_up_while_it_starts_is_ended(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    ca = CertificateAuthority(tmp_path / "ca")
    deployer = LocalDeployer(folder, ca, root=Path("/"), storage=tmp_path, rescan_s=30)
    deployment = asyncio.ensure_future(deployer.deploy(TARGET))
    await asyncio.to_thread(wait_until, lambda: bool(_starting(folder)), "the agent to be started")
    (agent,) = _starting(folder)
    agent.send_signal(signal.SIGSTOP)  # it never becomes ready
    done, _ = await asyncio.wait([deployment], timeout=0.2)
    assert not done
    deployment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deployment
    await asyncio.to_thread(wait_until, lambda: not _starting(folder), "the agent to be gone")
    await deployer.undeploy(TARGET)
    assert list(folder.iterdir()) == []


async def test_an_agent_that_a_killed_node_has_just_started_is_ended_with_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    home = folder / TARGET.host_uuid
    deployer = LocalDeployer(
        folder, CertificateAuthority(tmp_path / "ca"), root=Path("/"), storage=tmp_path, rescan_s=30
    )
    await deployer.deploy(TARGET)
    argv = [
        sys.executable,
        "-c",
        "import time; time.sleep(600)",
        "serve",
        "--config",
        str(home / "agent.toml"),
    ]
    begun = subprocess.Popen(argv)  # it has not got as far as to lock the folder
    try:
        await deployer.undeploy(TARGET)
        assert not psutil.pid_exists(begun.pid)
    finally:
        begun.kill()
        begun.wait()
    assert list(folder.iterdir()) == []


async def test_an_agent_that_is_removed_is_not_started_again_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    deployer = LocalDeployer(
        folder, CertificateAuthority(tmp_path / "ca"), root=Path("/"), storage=tmp_path, rescan_s=30
    )
    await deployer.deploy(TARGET)
    _, revived = await asyncio.gather(deployer.undeploy(TARGET), deployer.revive(TARGET))
    assert revived is None
    assert list(folder.iterdir()) == []
    assert _starting(folder) == []
