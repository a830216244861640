"""Bridges in a network namespace of the test's own."""

import asyncio
import json
import os
import shutil
import subprocess
import uuid

import pytest

from agentkit.errors import HardpointError
from agentkit.runner import ProcessRunner
from kvmagent.network.keeper import PENDING_FILE, NetworkKeeper
from kvmagent.protocol_network import Bridge

FLAT = Bridge(name="br_up0", interface="up0")
ADDRESS = "192.0.2.11/24"


class Namespace:
    """A machine's network: runs commands there, as a Runner too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._runner = ProcessRunner()
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.boot()

    def boot(self) -> None:
        """Have one interface with an address and a way out, as after a boot."""
        for link in self.links():
            if link not in ("lo", "peer0"):
                self.ip("link", "del", link)
        self.ip("link", "add", "up0", "type", "veth", "peer", "name", "peer0")
        self.ip("link", "set", "peer0", "up")
        self.ip("link", "set", "up0", "up")
        self.ip("addr", "add", ADDRESS, "dev", "up0")
        self.ip("route", "add", "default", "via", "192.0.2.1")

    def ip(self, *argv: str) -> object:
        done = subprocess.run(["ip", "-n", self.name, "-j", *argv], capture_output=True, check=True)
        return json.loads(done.stdout or b"[]")

    def links(self) -> set[str]:
        return {link["ifname"] for link in self.ip("link")}

    def carrier_of(self, address: str = ADDRESS) -> list[str]:
        """Return which interfaces have the address."""
        wanted = address.partition("/")[0]
        return [
            link["ifname"]
            for link in self.ip("addr")
            if any(a.get("local") == wanted for a in link["addr_info"])
        ]

    def way_out(self) -> str:
        (route,) = self.ip("route", "show", "default")
        return f"{route['gateway']} {route['dev']}"

    async def run(self, argv, **more):
        return await self._runner.run(["ip", "netns", "exec", self.name, *argv], **more)


@pytest.fixture
def network():
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    name = f"hp-test-{uuid.uuid4().hex[:8]}"
    yield Namespace(name)
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def keeper(network, tmp_path):
    return NetworkKeeper(tmp_path, network, confirm_within_s=60)


async def test_a_confirmed_change_stays_and_is_taken_back_when_it_is_no_longer_wanted(network, keeper):
    assert await keeper.apply("c1", [FLAT])
    assert await keeper.apply("c1", [FLAT]), "the same again is the same change"
    await keeper.confirm("c1")
    await keeper.confirm("c1")
    assert network.carrier_of() == ["br_up0"]
    assert network.way_out() == "192.0.2.1 br_up0"
    assert network.links() == {"lo", "up0", "peer0", "br_up0"}
    assert not await keeper.apply("c2", [FLAT]), "there is nothing to change or to confirm"
    assert await keeper.apply("c3", [])
    await keeper.confirm("c3")
    assert network.links() == {"lo", "up0", "peer0"}
    assert (network.carrier_of(), network.way_out()) == (["up0"], "192.0.2.1 up0")


async def test_a_change_that_nobody_confirms_is_rolled_back(network, tmp_path):
    keeper = NetworkKeeper(tmp_path, network, confirm_within_s=0.2)
    assert await keeper.apply("c1", [FLAT])
    async with asyncio.timeout(60):
        while (tmp_path / PENDING_FILE).exists():
            await asyncio.sleep(0.02)
    assert network.links() == {"lo", "up0", "peer0"}
    assert (network.carrier_of(), network.way_out()) == (["up0"], "192.0.2.1 up0")
    with pytest.raises(HardpointError, match="rolled back"):
        await keeper.confirm("c1")


async def test_a_change_whose_agent_died_is_rolled_back_by_the_next_one(network, keeper, tmp_path):
    assert await keeper.apply("c1", [FLAT])
    await NetworkKeeper(tmp_path, network).prepare()
    assert network.links() == {"lo", "up0", "peer0"}
    assert (network.carrier_of(), network.way_out()) == (["up0"], "192.0.2.1 up0")


async def test_a_change_of_which_one_step_fails_changes_nothing(network, keeper):
    with pytest.raises(HardpointError, match="br_far_too_long_a_name"):
        await keeper.apply("c1", [FLAT, Bridge(name="br_far_too_long_a_name", interface="peer0")])
    assert network.links() == {"lo", "up0", "peer0"}
    assert (network.carrier_of(), network.way_out()) == (["up0"], "192.0.2.1 up0")


async def test_bridges_are_back_after_a_reboot(network, keeper, tmp_path):
    assert await keeper.apply("c1", [FLAT])
    await keeper.confirm("c1")
    network.boot()
    assert network.links() == {"lo", "up0", "peer0"}
    await NetworkKeeper(tmp_path, network).prepare()
    assert (network.carrier_of(), network.way_out()) == (["br_up0"], "192.0.2.1 br_up0")


async def test_a_bridge_with_a_vm_on_it_is_not_removed(network, keeper):
    await keeper.apply("c1", [FLAT])
    await keeper.confirm("c1")
    network.ip("tuntap", "add", "vnic1", "mode", "tap")
    network.ip("link", "set", "vnic1", "master", "br_up0")
    with pytest.raises(HardpointError, match="in use by vnic1"):
        await keeper.apply("c2", [])
    assert network.carrier_of() == ["br_up0"]
