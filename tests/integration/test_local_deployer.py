from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mn.fleet import local
from mn.fleet.ca import CertificateAuthority
from mn.fleet.deploy import Simulated, Target
from mn.fleet.local import LocalDeployer
from mn.fleet.processes import lock_holder, running_port, stop_agent, stop_process
from mn.fleet.simulators import SimulatorDeployer
from tests.sshd import wait_until

TARGET = Target("a" * 32, "127.0.0.1")
BEGINS = "time.sleep(0.5); runpy.run_module('{}', run_name='__main__')"


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


def _deployer(folder: Path) -> LocalDeployer:
    ca = CertificateAuthority(folder / "ca")
    return LocalDeployer(folder / "agents", ca, root=Path("/"), storage=folder, rescan_s=30)


@contextlib.contextmanager
def _begun(does: str, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that was started as a daemon and has not got as far as to lock its folder."""
    process = subprocess.Popen([sys.executable, "-c", f"import runpy, sys, time; {does}", "serve", *argv])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_an_agent_whose_deployment_is_given_up_while_it_starts_is_ended(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    deployer = _deployer(tmp_path)
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


@pytest.mark.parametrize(("owner", "step"), [(CertificateAuthority, "server"), (local, "spawn")])
async def test_a_deployment_that_is_given_up_while_it_prepares_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, step: str
) -> None:
    folder = tmp_path / "agents"
    deployer = _deployer(tmp_path)
    reached, released = threading.Event(), threading.Event()
    does = getattr(owner, step)

    def held(*arguments: object) -> object:
        reached.set()
        assert released.wait(60)
        return does(*arguments)

    monkeypatch.setattr(owner, step, held)
    deployment = asyncio.ensure_future(deployer.deploy(TARGET))
    await asyncio.to_thread(wait_until, reached.is_set, "the agent to be prepared")
    deployment.cancel()
    removal = asyncio.ensure_future(deployer.undeploy(TARGET))
    done, _ = await asyncio.wait([deployment, removal], timeout=0.2)
    assert not done, "nobody has the folder while a thread works on it"
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await deployment
    await removal
    await asyncio.to_thread(wait_until, lambda: not _starting(folder), "the agent to be gone")
    assert list(folder.iterdir()) == []


async def test_an_agent_that_a_killed_node_has_just_started_is_ended_with_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    home = folder / TARGET.host_uuid
    deployer = _deployer(tmp_path)
    await deployer.deploy(TARGET)
    with _begun("time.sleep(600)", "--config", str(home / "agent.toml")) as begun:
        await deployer.undeploy(TARGET)
        assert not psutil.pid_exists(begun.pid)
    assert list(folder.iterdir()) == []


async def test_an_agent_that_a_killed_node_has_just_started_is_the_only_one(tmp_path: Path) -> None:
    home = tmp_path / "agents" / TARGET.host_uuid
    deployer = _deployer(tmp_path)
    await deployer.deploy(TARGET)
    stop_agent(home)
    with _begun(BEGINS.format("kvmagent"), "--config", str(home / "agent.toml")) as begun:
        endpoint = await deployer.deploy(TARGET)
        assert lock_holder(home) == begun.pid
        assert endpoint.port == running_port(home)
        assert _starting(tmp_path) == [psutil.Process(begun.pid)]
        await deployer.undeploy(TARGET)


@pytest.mark.parametrize("does", ["sys.exit(3)", "time.sleep(600)"])
async def test_an_agent_that_a_killed_node_has_started_in_vain_is_followed_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    home = tmp_path / "agents" / TARGET.host_uuid
    deployer = _deployer(tmp_path)
    await deployer.deploy(TARGET)
    stop_agent(home)
    monkeypatch.setattr(local, "BEGUN_TIMEOUT_S", 1.0)
    with _begun(f"time.sleep(0.2); {does}", "--config", str(home / "agent.toml")) as begun:
        await deployer.deploy(TARGET)
        assert lock_holder(home) not in (None, begun.pid)
        assert [process.pid for process in _starting(tmp_path)] == [lock_holder(home)]
        await deployer.undeploy(TARGET)


async def test_an_agent_that_is_removed_is_not_started_again_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    deployer = _deployer(tmp_path)
    await deployer.deploy(TARGET)
    _, revived = await asyncio.gather(deployer.undeploy(TARGET), deployer.revive(TARGET))
    assert revived is None
    assert list(folder.iterdir()) == []
    assert _starting(folder) == []


async def test_a_simulator_that_a_killed_node_has_just_started_is_the_only_one(tmp_path: Path) -> None:
    folder = tmp_path / "simulator"
    target = Target(TARGET.host_uuid, "10.0.0.1", simulated=Simulated())
    ca = CertificateAuthority(tmp_path / "ca")
    await SimulatorDeployer(folder, ca).deploy(target)
    stop_process(lambda: lock_holder(folder))
    with _begun(BEGINS.format("simulator"), "--state", str(folder)) as begun:
        endpoint = await SimulatorDeployer(folder, ca).deploy(target)
        assert lock_holder(folder) == begun.pid
        assert endpoint.port == running_port(folder)
        assert _starting(folder) == [psutil.Process(begun.pid)]


def test_a_simulator_that_has_just_been_started_is_ended(tmp_path: Path) -> None:
    with _begun("time.sleep(600)", "--state", str(tmp_path)) as begun:
        assert stop_agent(tmp_path)
        assert not psutil.pid_exists(begun.pid)


def test_who_only_looks_at_an_agent_is_left_alone(tmp_path: Path) -> None:
    configuration = tmp_path / "agent.toml"
    configuration.touch()
    reader = subprocess.Popen(["tail", "-f", str(configuration)])
    try:
        assert not stop_agent(tmp_path)
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.wait()
