"""Jobs, and what follows when a host is connected, ask it one after the other: the last as the rows say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from kvmagent.protocol_devices import DetachVmPci
from kvmagent.protocol_iscsi import IscsiEvent, IscsiReport, IscsiServerReport, LoginIscsi
from kvmagent.protocol_iscsi import IscsiSession as Session
from kvmagent.protocol_iscsi import SessionState as Is
from kvmagent.protocol_network import ApplyNetworks, ApplyNetworksReply
from kvmagent.protocol_storage import Capacity, InitStorage, ReleaseStorage, StorageReply
from kvmagent.protocol_usb import AttachVmUsb
from kvmagent.protocol_vms import ListVms, ListVmsReply
from mn.facilities.hosts.holdings import holdings_of
from mn.facilities.iscsi.attaching import save_attached
from mn.facilities.iscsi.following import note_event
from mn.facilities.iscsi.hosts import login_hosts
from mn.facilities.iscsi.tables import CONNECTED, DISCONNECTED, iscsi_server_table
from mn.facilities.iscsi.tables import host_ref_table as iscsi_ref_table
from mn.facilities.networks.bridges import apply_to_host
from mn.facilities.networks.tables import l2_cluster_ref_table, l2_network_table
from mn.facilities.pci.following import follow_connected as put_pci_right
from mn.facilities.pci.tables import pci_table
from mn.facilities.primary_storage.attaching import attach_again, detach, release_hosts
from mn.facilities.primary_storage.connecting import STORAGE as KIND
from mn.facilities.primary_storage.connecting import connect_storage
from mn.facilities.primary_storage.tables import host_ref_table
from mn.facilities.usb.following import follow_connected as put_usb_right
from mn.facilities.usb.tables import usb_table
from mn.facilities.vms.domain_devices import plugging
from tests.unit.mn.facilities.fleet import (
    CLUSTER,
    HOST,
    STORAGE,
    VM,
    ZONE,
    new_connection,
    put,
    put_host,
    put_pci,
    put_storage,
    put_usb,
    put_vm,
    seen_vm,
)
from tests.unit.mn.facilities.hosts_double import HostsDouble

DEVICE, NETWORK, OTHER_NETWORK = "c" * 32, "7" * 32, "8" * 32
SERVER, OTHER_HOST, TASK = "9" * 32, "b" * 32, "d" * 32
FOUND = StorageReply(capacity=Capacity(total=2**30, available=2**29))


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        yield connection


def attach_network(connection: Connection, uuid: str, interface: str) -> None:
    values = {"name": "l2", "zone_uuid": ZONE, "type": "L2NoVlanNetwork", "attached_cluster_uuids": []}
    put(connection, l2_network_table, uuid=uuid, physical_interface=interface, **values)
    put(connection, l2_cluster_ref_table, uuid=uuid, l2_network_uuid=uuid, cluster_uuid=CLUSTER)


async def test_a_host_is_told_last_of_the_bridges_that_there_are_to_be(connection: Connection) -> None:
    hosts = HostsDouble(connection, {ApplyNetworks: ApplyNetworksReply(pending=False)})
    go_on = hosts.held[ApplyNetworks] = asyncio.Event()
    attach_network(connection, NETWORK, "eth0")
    first = asyncio.create_task(apply_to_host(hosts.services, HOST))
    await hosts.until_asked(ApplyNetworks)
    second = asyncio.create_task(apply_to_host(hosts.services, HOST))
    for _ in range(10):
        await asyncio.sleep(0)
    attach_network(connection, OTHER_NETWORK, "eth1")
    go_on.set()
    await asyncio.gather(first, second)
    told = [[bridge.name for bridge in each.bridges] for each in hosts.asked]
    assert told == [["br_eth0"], ["br_eth0", "br_eth1"]]


def iscsi_report(state: Is) -> IscsiServerReport:
    session = Session(iqn="iqn.2026-01.org.example:san", address="192.0.2.7", port=3260, state=state)
    return IscsiServerReport(server_uuid=SERVER, sessions=[session])


async def test_what_a_host_says_of_iscsi_while_a_job_waits_for_another_stays(connection: Connection) -> None:
    put_host(connection, OTHER_HOST)
    put(connection, iscsi_server_table, uuid=SERVER, name="san", ip="192.0.2.7", port=3260, state="Enabled")
    hosts = HostsDouble(connection, {LoginIscsi: iscsi_report(Is.LOGGED_IN)})
    go_on = hosts.held_hosts[OTHER_HOST] = asyncio.Event()
    logging_in = asyncio.create_task(login_hosts(hosts.services, SERVER, [HOST, OTHER_HOST], TASK))
    await hosts.until_asked(LoginIscsi)
    for _ in range(20):
        await asyncio.sleep(0)
    lost = IscsiEvent(report=IscsiReport(servers=[iscsi_report(Is.MISSING)]))
    await note_event(hosts.services, HOST, lost)
    go_on.set()
    save_attached(connection, SERVER, await logging_in)
    found = connection.execute(select(iscsi_ref_table.c.host_uuid, iscsi_ref_table.c.status)).all()
    assert sorted(map(tuple, found)) == [(HOST, DISCONNECTED), (OTHER_HOST, CONNECTED)]


async def test_a_storage_that_is_detached_while_it_is_initialised_is_released(connection: Connection) -> None:
    hosts = HostsDouble(connection, {InitStorage: FOUND, ReleaseStorage: None})
    go_on = hosts.held[InitStorage] = asyncio.Event()
    put_storage(connection)
    attach_again(connection, STORAGE, CLUSTER)
    connecting = asyncio.create_task(connect_storage(hosts.services, STORAGE, HOST))
    await hosts.until_asked(InitStorage)
    detach(connection, STORAGE, CLUSTER)
    releasing = asyncio.create_task(release_hosts(hosts.services, STORAGE, [HOST]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(isinstance(command, ReleaseStorage) for command in hosts.asked)
    go_on.set()
    await asyncio.gather(connecting, releasing)
    await connect_storage(hosts.services, STORAGE, HOST)  # tried again: it is not attached any more
    assert [type(command) for command in hosts.asked] == [InitStorage, ReleaseStorage]
    assert connection.execute(select(host_ref_table)).all() == []
    assert holdings_of(connection, HOST, KIND) == []


def seen(*devices: str) -> dict[Any, Any]:
    return {ListVms: ListVmsReply(vms=[seen_vm(VM, *devices)])}


async def test_a_usb_device_that_a_job_takes_from_its_vm_is_not_given_back(connection: Connection) -> None:
    put_vm(connection)
    put_usb(connection, DEVICE, vm_instance_uuid=VM)
    hosts = HostsDouble(connection, {**seen(), AttachVmUsb: None})
    async with plugging.of(VM):  # a job unplugs it
        following = asyncio.create_task(put_usb_right(hosts.services, HOST))
        await hosts.until_asked(ListVms)
        for _ in range(10):
            await asyncio.sleep(0)
        connection.execute(update(usb_table).values(vm_instance_uuid=None))
    await following
    assert [type(command) for command in hosts.asked] == [ListVms]


async def test_a_pci_device_that_a_job_gives_to_its_vm_is_not_taken_away(connection: Connection) -> None:
    put_vm(connection)
    put_pci(connection, DEVICE)
    hosts = HostsDouble(connection, {**seen(DEVICE), DetachVmPci: None})
    async with plugging.of(VM):  # a job plugs it in
        following = asyncio.create_task(put_pci_right(hosts.services, HOST))
        await hosts.until_asked(ListVms)
        for _ in range(10):
            await asyncio.sleep(0)
        connection.execute(update(pci_table).values(vm_instance_uuid=VM))
    await following
    assert [type(command) for command in hosts.asked] == [ListVms]
