import asyncio
import os
import threading
import time

import pytest

from agentkit.commands import Release
from agentkit.errors import HardpointError
from agentkit.events import EventHub
from agentkit.owner import Ownership
from agentkit.runner import ScriptedRunner
from agentkit.tls import ServerCredentials
from kvmagent.door import Door
from kvmagent.handlers import Context, connect, release, take_inventory
from kvmagent.host_iommu.keeper import IommuKeeper
from kvmagent.network.keeper import NoNetworks
from kvmagent.os_update.follower import OsUpdates
from kvmagent.passthrough.keeper import PciKeeper
from kvmagent.protocol import (
    Connect,
    DeviceAction,
    DeviceEvent,
    HostFacts,
    Inventory,
    NetworkInterface,
    TakeInventory,
)
from kvmagent.stock import Stocktaker, pause_s
from kvmagent.storage.handling import StoragePlace, make_storages
from simulator.iscsi import SimulatedIscsi
from simulator.passthrough import SimulatedDrivers
from simulator.usb import SimulatedUsb
from simulator.vms import SimulatedMoves, SimulatedVms

FACTS = HostFacts(
    hostname="h",
    machine_id=None,
    boot_id=None,
    architecture="x86_64",
    kernel="6",
    distribution="debian",
    distribution_version="12",
    distribution_name="Debian",
    cpu_model="c",
    cpu_vendor="v",
    cpu_num=1,
    cpu_sockets=1,
    cpu_cores=1,
    cpu_mhz=None,
    memory_bytes=1,
    virtualisation=None,
    kvm=False,
    iommu=False,
    system_vendor=None,
    system_product=None,
    system_serial=None,
)


def interface(name):
    return NetworkInterface(
        name=name,
        kind="physical",
        mac=None,
        mtu=1500,
        state="up",
        speed_mbit=None,
        driver=None,
        pci_address=None,
        master=None,
        addresses=[],
        default_route=False,
    )


class Machine:
    """A machine whose devices are the files of a directory."""

    def __init__(self, directory):
        self.directory = directory
        self.reads = 0
        self.threads = set()
        self.events = []
        self.asked = 0
        self.subsystem = "usb"
        self.readable, self.writable = os.pipe()

    def fileno(self):
        return self.readable

    def drain(self):
        os.read(self.readable, 1000)
        return {self.subsystem}

    def plug(self, name):
        (self.directory / name).touch()
        os.write(self.writable, b"x")

    def read(self, netlink):
        self.reads += 1
        self.netlink = netlink
        self.threads.add(threading.current_thread())
        names = sorted(file.name for file in self.directory.iterdir())
        network = [interface(name) for name in names]
        return Inventory(facts=FACTS, pci=[], usb=[], block=[], network=network, hash=",".join(names))

    def diff(self, old, new):
        known = {each.name for each in old.network}
        for each in new.network:
            if each.name not in known:
                yield DeviceEvent(action=DeviceAction.ADDED, inventory_hash=new.hash, network=each)

    def stocktaker(self, **keys):
        async def ask():
            self.asked += 1
            if self.asked > 2:
                raise HardpointError("SYS.1006", "Operation failed", "no netlink")
            return self.asked

        return Stocktaker(ask, self.read, self.diff, self.events.append, watch=self, **keys)


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "tree").mkdir()
    made = Machine(tmp_path / "tree")
    yield made
    os.close(made.readable)
    os.close(made.writable)


async def until(condition, limit_s=60):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.005)


async def test_a_burst_of_udev_events_makes_one_reading_and_one_event_a_device(machine):
    stock = machine.stocktaker(rescan_s=60, debounce_s=0.2)
    running = asyncio.create_task(stock.run())
    assert await stock.hash() == ""
    for name in ("a", "b", "c"):
        machine.plug(name)
    await until(lambda: len(machine.events) == 3)
    assert machine.reads == 2
    assert [event.network.name for event in machine.events] == ["a", "b", "c"]
    assert await stock.hash() == "a,b,c"
    assert threading.main_thread() not in machine.threads
    running.cancel()


async def test_network_state_is_asked_for_again_only_when_it_may_have_changed(machine, caplog):
    stock = machine.stocktaker(rescan_s=60)
    running = asyncio.create_task(stock.run())
    await stock.hash()
    steps = (("usb", 1, 2), ("net", 2, 4), ("block", 2, 5), ("net", 3, 7))
    for number, (subsystem, asked, reads) in enumerate(steps):
        machine.subsystem = subsystem
        machine.plug(f"device{number}")
        await until(lambda reads=reads: machine.reads == reads)
        await until(lambda number=number: len(machine.events) == number + 1)
        assert machine.asked == asked
    assert machine.netlink == 2
    assert "network state is not up to date" in caplog.text
    running.cancel()


async def test_devices_are_read_without_the_network_state_that_was_heard_of(machine):
    stock = machine.stocktaker(rescan_s=60)
    await stock.take_devices()
    assert machine.asked == 1, "it is not known at all before"
    machine.plug("a")
    assert [nic.name for nic in (await stock.take_devices()).network] == ["a"]
    assert machine.asked == 1
    assert [event.network.name for event in machine.events] == ["a"]


async def test_a_device_is_shown_before_the_network_state_is_asked_for(machine):
    stock = machine.stocktaker(rescan_s=60)
    running = asyncio.create_task(stock.run())
    await stock.hash()
    answered, ask = asyncio.Event(), stock._ask

    async def slow_ask():
        await answered.wait()
        return await ask()

    stock._ask = slow_ask
    machine.subsystem = "net"
    machine.plug("card")
    await until(lambda: machine.events)
    machine.plug("card of the next second")
    await until(lambda: len(machine.events) == 2)
    assert (machine.asked, machine.netlink) == (1, 1)
    answered.set()
    await until(lambda: machine.netlink == 2)
    running.cancel()


async def test_what_udev_did_not_tell_is_found_by_the_rescan(machine):
    stock = machine.stocktaker(rescan_s=0.05)
    running = asyncio.create_task(stock.run())
    assert await stock.hash() == ""
    (machine.directory / "silent").touch()
    await until(lambda: machine.events)
    running.cancel()


@pytest.mark.parametrize(("took_s", "expected"), [(0, 30), (0.3, 30), (1.5, 30), (6, 120)])
def test_a_slow_host_is_read_less_often(took_s, expected):
    assert pause_s(30, took_s) == expected


async def test_how_long_a_rescan_took_counts_for_the_next(machine):
    stock = machine.stocktaker(rescan_s=0.01)
    ask = stock._ask

    async def slow_ask():
        await asyncio.sleep(0.1)
        return await ask()

    stock._ask = slow_ask
    running = asyncio.create_task(stock.run())
    await stock.hash()
    await asyncio.sleep(0.5)
    assert machine.asked == 1
    running.cancel()


async def test_a_reading_that_fails_is_tried_again(machine, caplog):
    machine.directory.rmdir()
    stock = machine.stocktaker(rescan_s=0.05)
    running = asyncio.create_task(stock.run())
    assert await stock.hash() == ""
    machine.directory.mkdir()
    (machine.directory / "back").touch()
    reads = machine.reads
    await until(lambda: machine.reads > reads + 1)
    assert await stock.hash() == "back"
    assert "cannot be read" in caplog.text
    running.cancel()


async def test_the_loop_turns_while_the_machine_is_slow(machine):
    free = threading.Event()
    quick = machine.read
    machine.read = lambda asked: free.wait(10) and quick(asked)
    taking = asyncio.create_task(machine.stocktaker().take())
    await asyncio.sleep(0)
    free.set()
    assert (await taking).hash == ""


@pytest.fixture
def context(machine, tmp_path):
    credentials = ServerCredentials(tmp_path / "no.pem", tmp_path / "no.key", tmp_path / "no.ca")
    iommu = IommuKeeper(tmp_path, tmp_path, ScriptedRunner({}))
    updates = OsUpdates(tmp_path, tmp_path, ScriptedRunner({}))
    vms = SimulatedVms(tmp_path, lambda _uuid: None)
    door = Door(tmp_path, credentials, "127.0.0.1", 0)
    place = StoragePlace(tmp_path, tmp_path / "no.ca")
    storages = make_storages(place, ScriptedRunner({}), door, EventHub("x"), lambda: "host", list)
    ownership, taker = Ownership(tmp_path), machine.stocktaker()
    drivers = SimulatedDrivers()
    return Context(
        ownership=ownership,
        credentials=credentials,
        stock=taker,
        iommu=iommu,
        os_updates=updates,
        storages=storages,
        vms=vms,
        moves=SimulatedMoves(vms),
        networks=NoNetworks(),
        usb=SimulatedUsb(vms, taker),
        pci=PciKeeper(tmp_path, drivers, taker.take_devices, drivers.read, vms.get),
        iscsi=SimulatedIscsi(tmp_path),
    )


async def test_a_host_is_taken_once_and_again_by_the_same_fleet(context, machine, tmp_path):
    (machine.directory / "eth0").touch()
    ask = Connect(host_uuid="h1", fleet_uuid="f1")
    assert (await connect(context, ask)).inventory.hash == "eth0"
    assert (await connect(context, ask)).inventory.hash == "eth0"
    assert Ownership(tmp_path).owner == context.ownership.owner
    assert (tmp_path / "owner.json").read_bytes() == b'{"hostUuid":"h1","fleetUuid":"f1"}'


@pytest.mark.parametrize(("host", "fleet"), [("h1", "f2"), ("h2", "f1")])
async def test_a_host_of_another_is_refused_with_both_fleets_named(context, host, fleet):
    await connect(context, Connect(host_uuid="h1", fleet_uuid="f1"))
    for ask in (connect(context, Connect(host_uuid=host, fleet_uuid=fleet)),):
        with pytest.raises(HardpointError) as caught:
            await ask
        assert caught.value.code == "HOST.1003"
        assert f"fleet {fleet} asks for this host as {host}" in caught.value.details
        assert "belongs to fleet f1 as host h1" in caught.value.details
    with pytest.raises(HardpointError, match=r"HOST\.1003"):
        await release(context, Release(host_uuid=host, fleet_uuid=fleet))


async def test_two_fleets_that_ask_at_once_do_not_both_get_it(context):
    asks = [connect(context, Connect(host_uuid=f"h{n}", fleet_uuid=f"f{n}")) for n in range(5)]
    answers = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(answer, HardpointError) for answer in answers) == 4


async def test_a_host_that_cannot_be_read_is_not_taken(context, machine, tmp_path):
    machine.directory.rmdir()
    with pytest.raises(FileNotFoundError):
        await connect(context, Connect(host_uuid="h1", fleet_uuid="f1"))
    assert not (tmp_path / "owner.json").exists()


async def test_a_released_host_is_free_and_may_be_released_again(context, tmp_path):
    await connect(context, Connect(host_uuid="h1", fleet_uuid="f1"))
    for _ in range(2):
        await release(context, Release(host_uuid="h1", fleet_uuid="f1"))
    assert not (tmp_path / "owner.json").exists()
    await connect(context, Connect(host_uuid="h2", fleet_uuid="f2"))


async def test_an_inventory_is_taken_afresh(context, machine):
    (machine.directory / "late").touch()
    assert (await take_inventory(context, TakeInventory())).inventory.hash == "late"


def test_a_broken_owner_file_stops_the_agent_from_being_taken_by_another(tmp_path):
    (tmp_path / "owner.json").write_text("{")
    with pytest.raises(HardpointError, match=r"owner\.json does not say who owns this host"):
        Ownership(tmp_path)


async def test_a_watch_that_breaks_does_not_turn_the_loop_for_ever(machine, caplog):
    drains = []

    def broken():
        drains.append(1)
        raise OSError("gone")

    machine.drain = broken
    running = asyncio.create_task(machine.stocktaker(rescan_s=60).run())
    await until(lambda: machine.reads == 1)
    machine.plug("a")
    await until(lambda: machine.reads == 3)  # the devices, then all
    assert len(drains) == 1
    assert "device events are lost" in caplog.text
    running.cancel()
