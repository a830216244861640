"""The Ceph agent as a process beside a real cluster."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import subprocess
import sys
import uuid as uuids
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.ceph.cluster import Cluster
from tests.integration.agent.conftest import Agent
from tests.integration.agent.test_storageagent import FLEET, IMAGE, MIB, Web, web

__all__ = ["web"]

SHA256 = hashlib.sha256(IMAGE).hexdigest()


def new_uuid() -> str:
    return uuids.uuid4().hex


@pytest.fixture
def agent(make_agent: Callable[..., Agent], cluster: Cluster, tmp_path: Path) -> Agent:
    made = make_agent("ceph")
    made.state_dir.mkdir()
    made.environment = {"PATH": cluster.programs.path()}
    config = {
        "listen_address": "127.0.0.1",
        "port": 0,
        "state_dir": str(made.state_dir),
        "certificate": str(made.pki.directory / "server.pem"),
        "key": str(made.pki.directory / "server.key"),
        "ca": str(made.pki.ca_file),
        "ceph_configuration": str(cluster.configuration),
        "look_every_s": 1.0,
    }
    file = tmp_path / "agent.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items()))
    made.command = [sys.executable, "-m", "cephagent", "serve", "--config", str(file)]
    return made.start()


async def tell(agent: Agent, command: str, task: str | None = None, **parameters: Any) -> dict[str, Any]:
    """Have the agent do something; return its report."""
    uuid = task or new_uuid()
    async with agent.client() as client:
        status, report = await client.task(uuid, {"command": command, **parameters}, wait=0)
        while status == 200 and report["state"] == "Running":
            status, report = await client.ask("GET", f"/v1/tasks/{uuid}?wait=10")
        assert status == 200, report
        return report


async def done(agent: Agent, command: str, task: str | None = None, **parameters: Any) -> Any:
    report = await tell(agent, command, task, **parameters)
    assert report["state"] == "Succeeded", report
    return report.get("result")


async def refused(agent: Agent, command: str, **parameters: Any) -> dict[str, Any]:
    report = await tell(agent, command, **parameters)
    assert report["state"] == "Failed", report
    error: dict[str, Any] = report["error"]
    return error


def image(url: str, disk_format: str = "raw") -> dict[str, Any]:
    return {"uuid": new_uuid(), "name": "an image", "format": disk_format, "url": url}


async def fetched(agent: Agent, grant: dict[str, Any], **headers: str) -> tuple[int, bytes]:
    connector = aiohttp.TCPConnector(ssl=agent.pki.client())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(agent.url + grant["path"], headers=headers) as response,
    ):
        return response.status, await response.read()


async def test_it_reports_the_cluster_and_its_monitors(agent: Agent, cluster: Cluster, pool: str) -> None:
    await asyncio.to_thread(cluster.wait_for_quorum)
    reply = await done(agent, "connect", hostUuid=new_uuid(), fleetUuid=FLEET)
    report = reply["inventory"]
    assert report["fsid"] == cluster.fsid
    assert {(m["address"], m["port"], m["inQuorum"]) for m in report["mons"]} == {
        (monitor.address, monitor.port + 1, True) for monitor in cluster.monitors
    }
    (found,) = [each for each in report["pools"] if each["name"] == pool]
    assert found["replicatedSize"] == 1
    assert found["availableBytes"] > 0
    assert report["totalBytes"] >= report["availableBytes"] > 0


async def test_a_pool_is_made_once_and_only_its_maker_removes_it(agent: Agent, cluster: Cluster) -> None:
    made = await done(agent, "addPool", pool="made", owner="a", create=True)
    assert made["pool"]["replicatedSize"] == 1
    await done(agent, "addPool", pool="made", owner="a", create=True)
    assert (
        "there is a pool made"
        in (await refused(agent, "addPool", pool="made", owner="b", create=True))["details"]
    )
    await done(agent, "addPool", pool="made", owner="b", create=False)
    error = await refused(agent, "addPool", pool="nothing", owner="b", create=False)
    assert (error["code"], "there is no pool nothing" in error["details"]) == ("SYS.1006", True)
    assert (await done(agent, "removePool", pool="made", owner="b")) == {"removed": False}
    assert (await done(agent, "removePool", pool="made", owner="a")) == {"removed": True}
    assert "made" not in cluster.pools()


async def test_a_key_opens_the_pools_it_is_for_and_nothing_else(
    agent: Agent, cluster: Cluster, make_pool: Callable[[], str], tmp_path: Path
) -> None:
    mine, readable, other = make_pool(), make_pool(), make_pool()
    given = await done(agent, "giveKey", user="hosts", pools=[mine], readable=[readable])
    assert (await done(agent, "giveKey", user="hosts", pools=[mine], readable=[readable])) == given
    keyring = tmp_path / "keyring"
    keyring.write_text(f"[client.hosts]\nkey = {given['key']}\n")

    def rbd(*words: str) -> int:
        argv = [cluster.programs.bin / "rbd", "-m", " ".join(given["mons"]), "--id", "hosts"]
        argv += ["--keyring", str(keyring), "-c", "/dev/null", *words]
        return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode

    assert rbd("create", "--size", "8M", f"{mine}/disk") == 0
    assert rbd("ls", readable) == 0
    assert rbd("create", "--size", "8M", f"{readable}/disk") != 0
    assert rbd("ls", other) != 0
    for _ in range(2):
        await done(agent, "takeKey", user="hosts")
    assert "client.hosts" not in cluster.users()
    assert given["key"] not in "".join(agent.lines)


async def test_a_raw_image_comes_by_http_and_goes_out_by_its_token(agent: Agent, web: Web, pool: str) -> None:
    web.break_after = 5 * MIB
    wanted = image(web.url)
    stored = await done(agent, "importImage", pool=pool, image=wanted)
    assert (stored["sha256"], stored["sizeBytes"], stored["virtualBytes"]) == (SHA256, len(IMAGE), len(IMAGE))
    assert "hunter2" not in json.dumps(stored)
    grant = await done(agent, "grantDownload", pool=pool, imageUuid=wanted["uuid"], lifetimeS=60)
    assert await fetched(agent, grant) == (200, IMAGE)
    assert await fetched(agent, grant, Range=f"bytes={9 * MIB - 7}-") == (206, IMAGE[9 * MIB - 7 :])
    assert (await fetched(agent, {"path": grant["path"][:-1]}))[0] != 200
    assert [each["image"]["uuid"] for each in (await done(agent, "listImages", pool=pool))["images"]] == [
        wanted["uuid"]
    ]


async def test_a_qcow2_image_becomes_raw(agent: Agent, cluster: Cluster, pool: str, tmp_path: Path) -> None:
    raw, qcow2 = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    content = bytes(2 * MIB) + random.Random(3).randbytes(3 * MIB) + bytes(3 * MIB)
    raw.write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2)], check=True)
    wanted = image(f"file://{qcow2}", "qcow2")
    stored = await done(agent, "importImage", pool=pool, image=wanted)
    assert (stored["image"]["format"], stored["sha256"]) == ("raw", hashlib.sha256(content).hexdigest())
    assert cluster.names(pool) == [wanted["uuid"]]
    (snapshot,) = cluster.rbd("snap", "ls", f"{pool}/{wanted['uuid']}")
    assert (snapshot["name"], snapshot["protected"]) == (wanted["uuid"], "true")


async def test_what_is_no_image_leaves_nothing(
    agent: Agent, cluster: Cluster, pool: str, tmp_path: Path
) -> None:
    backed = tmp_path / "overlay.qcow2"
    base = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "1M"], check=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(backed)], check=True
    )
    error = await refused(agent, "importImage", pool=pool, image=image(f"file://{backed}", "qcow2"))
    assert "backing file" in error["details"]
    error = await refused(agent, "importImage", pool=pool, image=image(f"file://{tmp_path}/none"))
    assert error["code"] == "SYS.1006"
    assert cluster.names(pool) == []


async def test_a_killed_agent_goes_on_with_an_import(
    agent: Agent, cluster: Cluster, web: Web, pool: str
) -> None:
    wanted, task = image(web.url), new_uuid()
    web.go_on.clear()
    web.break_after = 6 * MIB
    asking = asyncio.create_task(tell(agent, "importImage", task, pool=pool, image=wanted))
    await asyncio.to_thread(web.paused.wait, 20)
    asking.cancel()
    agent.kill()
    web.go_on.set()
    agent.start()
    stored = await done(agent, "importImage", task, pool=pool, image=wanted)
    assert stored["sha256"] == SHA256
    assert cluster.names(pool) == [wanted["uuid"]]


async def test_a_dropped_image_waits_in_the_trash_until_nothing_stands_on_it(
    agent: Agent, cluster: Cluster, web: Web, pool: str
) -> None:
    wanted = image(web.url)
    uuid = wanted["uuid"]
    await done(agent, "importImage", pool=pool, image=wanted)
    cluster.run("rbd", "clone", f"{pool}/{uuid}@{uuid}", f"{pool}/volume")
    await done(agent, "dropImage", pool=pool, imageUuid=uuid, keptS=0)
    assert cluster.names(pool) == ["volume"]
    assert (await done(agent, "purgeTrash", pool=pool))["removed"] == 0
    cluster.run("rbd", "flatten", f"{pool}/volume", "--no-progress")
    assert (await done(agent, "purgeTrash", pool=pool)) == {"removed": 1, "freedBytes": len(IMAGE)}
    assert cluster.rbd("trash", "ls", "-p", pool) == []
    await done(agent, "dropImage", pool=pool, imageUuid=uuid, keptS=0)


async def test_an_image_is_kept_in_the_trash_for_its_time(
    agent: Agent, cluster: Cluster, web: Web, pool: str
) -> None:
    wanted = image(web.url)
    await done(agent, "importImage", pool=pool, image=wanted)
    await done(agent, "dropImage", pool=pool, imageUuid=wanted["uuid"], keptS=3600)
    assert (await done(agent, "purgeTrash", pool=pool))["removed"] == 0
    assert [each["name"] for each in cluster.rbd("trash", "ls", "-p", pool)] == [wanted["uuid"]]


async def test_a_full_cluster_is_told_and_loses_nothing(
    agent: Agent, cluster: Cluster, web: Web, pool: str
) -> None:
    there = image(web.url)
    await done(agent, "importImage", pool=pool, image=there)
    cluster.be_full(full=True)
    try:
        error = await refused(agent, "importImage", pool=pool, image=image(web.url))
        assert (error["code"], "full" in error["details"]) == ("BS.1003", True)
    finally:
        cluster.be_full(full=False)
    grant = await done(agent, "grantDownload", pool=pool, imageUuid=there["uuid"], lifetimeS=60)
    assert await fetched(agent, grant) == (200, IMAGE)


async def test_a_stopped_monitor_is_told_and_found_again(agent: Agent, cluster: Cluster) -> None:
    await done(agent, "connect", hostUuid=new_uuid(), fleetUuid=FLEET)

    async def lost() -> set[str]:
        report = (await done(agent, "takeInventory"))["inventory"]
        if report.get("reason") is not None:  # while the monitors elect
            return {"no answer"}
        return {mon["name"] for mon in report["mons"] if not mon["inQuorum"]}

    async def when(wanted: set[str]) -> None:
        for _ in range(60):
            if await lost() == wanted:
                return
            await asyncio.sleep(0.5)
        pytest.fail(f"lost monitors never were {wanted}")

    cluster.stop_monitor("b")
    try:
        await when({"b"})
    finally:
        cluster.start_monitor("b")
    await when(set())
