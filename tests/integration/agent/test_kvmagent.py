"""The agent itself on the machine that the tests run on."""

import json
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("kvmagent.inventory")

RSS_MAX_KB = 60_000


@pytest.fixture
def kvmagent(make_agent, pki, tmp_path):
    config = tmp_path / "kvmagent.toml"
    config.write_text(
        f'listen_address = "127.0.0.1"\nport = 0\nstate_dir = "{tmp_path / "agent"}"\n'
        f'certificate = "{pki.directory / "server.pem"}"\nkey = "{pki.directory / "server.key"}"\n'
        f'ca = "{pki.ca_file}"\n'
    )
    return make_agent(command=[sys.executable, "-m", "kvmagent.server", "serve", "--config", str(config)])


async def test_a_host_is_connected_refused_to_another_fleet_and_released(kvmagent, new_uuid):
    kvmagent.start()
    mine = {"hostUuid": "h1", "fleetUuid": "f1"}
    async with kvmagent.client() as mn:
        status, report = await mn.task(new_uuid(), {"command": "connect", **mine}, wait=30)
        assert (status, report["state"]) == (200, "Succeeded"), report
        inventory = report["result"]["inventory"]
        hello = (await mn.ask("GET", "/v1/hello"))[1]
        assert (hello["hostUuid"], hello["inventoryHash"]) == ("h1", inventory["hash"])
        _, report = await mn.task(new_uuid(), {"command": "connect", "hostUuid": "h1", "fleetUuid": "f2"}, 30)
        assert report["error"]["code"] == "HOST.1003"
    kvmagent.kill()
    kvmagent.start()
    async with kvmagent.client() as mn:
        assert (await mn.ask("GET", "/v1/hello"))[1]["hostUuid"] == "h1"
        _, report = await mn.task(new_uuid(), {"command": "release", **mine})
        assert report["state"] == "Succeeded"
        assert (await mn.ask("GET", "/v1/hello"))[1]["hostUuid"] is None


async def test_it_stays_below_60_mb_after_twenty_readings(kvmagent, new_uuid, record_property):
    started = time.monotonic()
    kvmagent.start()
    ready_s = time.monotonic() - started
    async with kvmagent.client() as mn:
        for _ in range(20):
            uuid = new_uuid()
            await mn.task(uuid, {"command": "takeInventory"}, wait=30)
            await mn.ask("DELETE", f"/v1/tasks/{uuid}")
    pid = json.loads((kvmagent.state_dir / "ready.json").read_bytes())["pid"]
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    rss_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    record_property("figures", f"ready after {ready_s:.2f} s, {rss_kb} KB")
    assert rss_kb < RSS_MAX_KB
