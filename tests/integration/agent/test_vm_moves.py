"""A running VM goes from one libvirtd to another one, through the doors of two agents."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from agentkit.tls import ServerCredentials
from kvmagent.door import Door
from kvmagent.vms.domain_xml import Machine
from kvmagent.vms.libvirt import Libvirt
from kvmagent.vms.moving import LibvirtMoves
from kvmagent.vms.tunnel import tunnel
from tests.libvirtd import (
    IDLE,
    OBEY_POWER_BUTTON,
    another_libvirtd,
    libvirtd,
    libvirtd_elsewhere,
    one_libvirtd,
    small_domain,
)

__all__ = ["another_libvirtd", "libvirtd", "libvirtd_elsewhere", "one_libvirtd"]

WAIT_S = 60
TOKEN = "let me in"


@pytest.fixture
def start_agent(make_agent, pki, tmp_path):
    def start(name, daemon):
        config = tmp_path / f"{name}.toml"
        config.write_text(
            f'listen_address = "127.0.0.1"\nport = 0\ntransfer_port = 0\nstate_dir = "{tmp_path / name}"\n'
            f'certificate = "{pki.directory / "server.pem"}"\nkey = "{pki.directory / "server.key"}"\n'
            f'ca = "{pki.ca_file}"\nlibvirt_uri = "{daemon.uri}"\nemulate = true\n'
        )
        argv = [sys.executable, "-m", "kvmagent.server", "serve", "--config", str(config)]
        return make_agent(name, command=argv).start()

    return start


@pytest.fixture
def here(start_agent, libvirtd):
    return start_agent("here", libvirtd)


@pytest.fixture
def there(start_agent, libvirtd_elsewhere):
    return start_agent("there", libvirtd_elsewhere)


@pytest.fixture
def domain(tmp_path):
    return lambda code: small_domain(tmp_path, code)


async def task(mn, new_uuid, command: str, **parameters):
    status, report = await mn.task(new_uuid(), {"command": command, **parameters}, wait=WAIT_S)
    assert status == 200, report
    return report


async def done(mn, new_uuid, command: str, **parameters):
    report = await task(mn, new_uuid, command, **parameters)
    assert report["state"] == "Succeeded", report
    return report["result"]


async def admitted(mn, new_uuid, uuid: str) -> dict[str, str]:
    """Have a VM let in; returns what its host has to be told."""
    door = await done(mn, new_uuid, "admitVm", admissionUuid=uuid, token=TOKEN)
    url = f"https://127.0.0.1:{door['port']}{door['path']}"
    return {"url": url, "token": TOKEN, "consoleAddress": door["consoleAddress"]}


async def test_a_vm_runs_on_elsewhere_and_is_gone_here(
    here, there, libvirtd, libvirtd_elsewhere, domain, new_uuid
):
    async with here.client() as source, there.client() as target:
        wanted = domain(OBEY_POWER_BUTTON)
        uuid = wanted["uuid"]
        await done(source, new_uuid, "startVm", domain=wanted)
        way = await admitted(target, new_uuid, uuid)
        move = {"uuid": uuid, **way, "autoConverge": True, "downtimeMs": 500}
        assert await done(source, new_uuid, "migrateVm", **move) == {"vm": None}
        assert libvirtd.processes() == []
        moved = (await done(target, new_uuid, "getVm", uuid=uuid))["vm"]
        assert moved["state"] == "Running"
        assert moved["disks"] == [wanted["disks"][0]["volumeUuid"]]
        assert "secret12" in libvirtd_elsewhere.virsh("dumpxml", "--security-info", uuid).stdout
        assert await done(source, new_uuid, "migrateVm", **move) == {"vm": None}, "it has been moved"
        assert list(Path("/run").glob("hardpoint-*")) == []
        stopped = await done(target, new_uuid, "stopVm", uuid=uuid, patienceS=WAIT_S)
        assert stopped == {"forced": False}, "what ran in it runs on"


async def test_who_is_not_let_in_stays(here, there, libvirtd, domain, new_uuid):
    async with here.client() as source, there.client() as target:
        wanted = domain(IDLE)
        uuid = wanted["uuid"]
        await done(source, new_uuid, "startVm", domain=wanted)
        way = await admitted(target, new_uuid, uuid)
        wrong = await task(source, new_uuid, "migrateVm", uuid=uuid, **{**way, "token": "another"})
        assert wrong["error"]["code"] == "SYS.1006"
        assert "404" in wrong["error"]["details"]
        for _ in range(2):
            await done(target, new_uuid, "dismissVm", admissionUuid=uuid)
        late = await task(source, new_uuid, "migrateVm", uuid=uuid, **way)
        assert "404" in late["error"]["details"]
        assert (await done(source, new_uuid, "getVm", uuid=uuid))["vm"]["state"] == "Running"
        assert len(libvirtd.processes()) == 1
        for unknown in (uuid, new_uuid()):
            await done(source, new_uuid, "abortVmMigration", uuid=unknown)


async def test_a_vm_stays_when_the_other_agent_dies_on_the_way_and_can_be_moved_then(
    here, there, libvirtd, libvirtd_elsewhere, domain, new_uuid
):
    wanted = domain(IDLE)
    uuid = wanted["uuid"]
    async with here.client() as source:
        async with there.client() as target:
            await done(source, new_uuid, "startVm", domain=wanted)
            way = await admitted(target, new_uuid, uuid)
        os.kill(there.process.pid, signal.SIGSTOP)
        moving = asyncio.create_task(task(source, new_uuid, "migrateVm", uuid=uuid, **way))
        await asyncio.sleep(0.5)
        there.kill()
        report = await moving
        assert report["error"]["code"] == "SYS.1006"
        assert (await done(source, new_uuid, "getVm", uuid=uuid))["vm"]["state"] == "Running"
        assert libvirtd_elsewhere.processes() == []
        there.start()
        async with there.client() as target:
            way = await admitted(target, new_uuid, uuid)
            assert await done(source, new_uuid, "migrateVm", uuid=uuid, **way) == {"vm": None}
            assert (await done(target, new_uuid, "getVm", uuid=uuid))["vm"]["state"] == "Running"


async def test_a_host_that_lacks_what_a_coming_vm_needs_says_why_before_libvirt_is_asked(pki, tmp_path):
    credentials = ServerCredentials(pki.directory / "server.pem", pki.directory / "server.key", pki.ca_file)
    door = Door(tmp_path, credentials, "127.0.0.1", 0)
    moves = LibvirtMoves(
        Libvirt("qemu+unix:///system?socket=/nowhere", lambda _: None),
        None,
        lambda: Machine(False, "127.0.0.1"),
        door,
        pki.ca_file,
    )
    arrived = []

    async def arrive(uuid):
        arrived.append(uuid)
        raise HardpointError("SYS.1006", "Operation failed", "volume v is held by host id 2", remedy="wait")

    moves.arrive = arrive
    reply = await moves.admit("a" * 32, TOKEN)
    closing = asyncio.create_task(door.run())
    url = f"https://127.0.0.1:{reply.port}{reply.path}"
    try:
        async with tunnel(url, TOKEN, pki.ca_file) as way:
            reader, writer = await asyncio.open_unix_connection(way.socket)
            assert await reader.read() == b""
            writer.close()
            assert "volume v is held by host id 2" in way.failure
    finally:
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
    assert arrived == ["a" * 32]
