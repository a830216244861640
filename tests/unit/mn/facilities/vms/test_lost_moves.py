"""A VM that was on its way to another host when the node lost both is found by what they show later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from agentkit.errors import HardpointError
from agentkit.wire import Command
from kvmagent.protocol_vms import (
    AbortVmMigration,
    AbortVmMigrationReply,
    GetVm,
    ListVms,
    ListVmsReply,
    StopVm,
    StopVmReply,
    VmEvent,
    VmReport,
    VmState,
)
from mn.facilities.clusters import cluster_table
from mn.facilities.hosts.tables import host_table
from mn.facilities.vms.draining import forget_vms
from mn.facilities.vms.life import stop_vm
from mn.facilities.vms.tables import vm_table
from mn.facilities.vms.watching import follow_connected, follow_event, settle
from tests.unit.mn.facilities.fleet import HOST as SOURCE
from tests.unit.mn.facilities.fleet import VM, ZONE, new_connection, put, put_host, put_vm, seen_vm
from tests.unit.mn.facilities.hosts_double import HostsDouble

TARGET, OTHER_CLUSTER = "b" * 32, "9" * 32
AWAY = HardpointError("HOST.1003", "Host cannot be reached", "it does not answer")
Row = tuple[str, str | None, str | None]
LOST: Row = ("Unknown", SOURCE, TARGET)
ARRIVED: Row = ("Running", TARGET, None)
STAYED: Row = ("Running", SOURCE, None)
GONE: Row = ("Stopped", None, None)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        cluster = {"name": "c", "state": "Enabled", "type": "zstack", "hypervisor_type": "KVM"}
        put(connection, cluster_table, uuid=OTHER_CLUSTER, zone_uuid=ZONE, **cluster)
        put_host(connection, TARGET, cluster_uuid=OTHER_CLUSTER)
        put_vm(connection, state="Migrating", destination_host_uuid=TARGET)
        yield connection


class Scene:
    """Two hosts that are lost, and what they have of a VM that was on its way between them."""

    def __init__(self, connection: Connection, has: dict[str, VmState]) -> None:
        self.connection = connection
        self.has = has
        self.deaf: set[str] = set()
        self.stopped: list[str] = []
        self.hosts = HostsDouble(
            connection,
            {
                GetVm: lambda host: self._say(host, VmReport(vm=self._vm(host))),
                ListVms: lambda host: self._say(host, ListVmsReply(vms=self._vms(host))),
                AbortVmMigration: lambda host: self._say(host, AbortVmMigrationReply()),
                StopVm: self._stop,
            },
        )
        for host in (SOURCE, TARGET):
            self.set_status(host, "Disconnected")

    def set_status(self, host: str, status: str) -> None:
        self.connection.execute(update(host_table).where(host_table.c.uuid == host).values(status=status))

    async def settle(self) -> None:
        await settle(self.hosts.services, VM)

    async def connect(self, host: str) -> None:
        self.set_status(host, "Connected")
        await follow_connected(self.hosts.services, host)

    async def tell(self, host: str) -> None:
        await follow_event(self.hosts.services, host, VmEvent(uuid=VM))

    def row(self) -> Row:
        row = self.connection.execute(select(vm_table)).one()
        return row.state, row.host_uuid, row.destination_host_uuid

    def asked_of(self, host: str) -> list[type[Command[Any]]]:
        asked = zip(self.hosts.asked, self.hosts.hosts_asked, strict=True)
        return [type(command) for command, whom in asked if whom == host]

    def _vm(self, host: str) -> Any:
        if host not in self.has:
            return None
        seen = seen_vm(VM)
        seen.state = self.has[host]
        return seen

    def _vms(self, host: str) -> list[Any]:
        return [vm for vm in [self._vm(host)] if vm is not None]

    def _say(self, host: str, reply: Any) -> Any:
        return AWAY if host in self.deaf else reply

    def _stop(self, host: str) -> Any:
        if host not in self.deaf:
            self.has.pop(host, None)
        return self._say(host, StopVmReply(forced=False))


RUNS = VmState.RUNNING
ORDERS = pytest.mark.parametrize("order", [(SOURCE, TARGET), (TARGET, SOURCE)], ids=["source", "target"])


async def test_it_is_unknown_at_which_of_two_lost_hosts_it_is(connection: Connection) -> None:
    scene = Scene(connection, {TARGET: RUNS})
    await scene.settle()
    assert scene.row() == LOST
    assert scene.hosts.asked == []


@ORDERS
@pytest.mark.parametrize(
    ("has", "found"),
    [
        ({TARGET: RUNS}, ARRIVED),
        ({SOURCE: VmState.PAUSED, TARGET: RUNS}, ARRIVED),
        ({SOURCE: RUNS}, STAYED),
        ({SOURCE: RUNS, TARGET: VmState.PAUSED}, STAYED),
        ({SOURCE: VmState.PAUSED}, ("Paused", SOURCE, None)),
        ({}, GONE),
    ],
)
async def test_it_is_found_whichever_host_is_back_first(
    connection: Connection, order: tuple[str, str], has: dict[str, VmState], found: Row
) -> None:
    scene = Scene(connection, dict(has))
    await scene.settle()
    for host in order:
        await scene.connect(host)
    assert scene.row() == found
    for host in order:  # they are lost and found again
        await scene.connect(host)
    assert scene.row() == found


async def test_it_is_not_taken_for_stopped_as_it_has_left_the_source(connection: Connection) -> None:
    scene = Scene(connection, {TARGET: RUNS})
    await scene.settle()
    await scene.connect(SOURCE)
    assert scene.row() == ("Unknown", TARGET, None)


async def test_it_is_not_taken_for_stopped_as_it_is_not_at_the_target(connection: Connection) -> None:
    scene = Scene(connection, {})
    await scene.settle()
    await scene.connect(TARGET)
    assert scene.row() == LOST


async def test_a_source_that_may_be_sending_it_still_keeps_it_before_it_is_believed(
    connection: Connection,
) -> None:
    scene = Scene(connection, {SOURCE: RUNS, TARGET: VmState.PAUSED})
    await scene.settle()
    await scene.connect(SOURCE)
    assert scene.asked_of(SOURCE) == [ListVms, AbortVmMigration, GetVm]
    assert scene.row() == STAYED


async def test_one_that_has_just_stopped_running_at_the_source_may_be_at_the_target(
    connection: Connection,
) -> None:
    scene = Scene(connection, {SOURCE: VmState.PAUSED, TARGET: VmState.PAUSED})
    await scene.settle()
    await scene.connect(SOURCE)
    assert scene.row() == LOST
    await scene.connect(TARGET)
    assert scene.row() == LOST
    scene.has = {TARGET: RUNS}
    await scene.tell(SOURCE)
    assert scene.row() == ARRIVED


async def test_a_host_that_does_not_answer_is_no_proof(connection: Connection) -> None:
    scene = Scene(connection, {TARGET: RUNS})
    scene.deaf = {SOURCE, TARGET}
    for host in (SOURCE, TARGET):
        scene.set_status(host, "Connected")
    await scene.settle()
    assert scene.row() == LOST
    scene.deaf = set()
    await scene.tell(TARGET)
    assert scene.row() == ARRIVED


async def test_a_host_that_is_back_while_the_job_looks_at_the_other_is_asked(connection: Connection) -> None:
    scene = Scene(connection, {SOURCE: RUNS})
    scene.set_status(TARGET, "Connected")
    go_on = scene.hosts.held[GetVm] = asyncio.Event()
    settling = asyncio.create_task(scene.settle())
    await scene.hosts.until_asked(GetVm)
    await scene.connect(SOURCE)  # the job decides, for all that is known here
    go_on.set()
    await settling
    assert scene.row() == STAYED


@pytest.mark.parametrize("where", [SOURCE, TARGET])
async def test_both_hosts_are_asked_to_stop_it(connection: Connection, where: str) -> None:
    scene = Scene(connection, {where: RUNS})
    await scene.settle()
    for host in (SOURCE, TARGET):
        scene.set_status(host, "Connected")
    await scene.hosts.run(lambda job: stop_vm(job, VM, cold=True))
    assert scene.hosts.hosts_asked == [SOURCE, TARGET]
    assert scene.has == {}
    assert scene.row() == GONE


async def test_it_is_not_stopped_until_both_hosts_say_so(connection: Connection) -> None:
    scene = Scene(connection, {TARGET: RUNS})
    await scene.settle()
    scene.set_status(SOURCE, "Connected")
    scene.deaf = {TARGET}
    with pytest.raises(HardpointError, match="does not answer"):
        await scene.hosts.run(lambda job: stop_vm(job, VM, cold=True))
    assert scene.row() == ("Unknown", TARGET, None)
    scene.deaf = set()
    await scene.connect(TARGET)
    assert scene.row() == ARRIVED


async def test_it_takes_of_the_capacity_of_both_hosts(connection: Connection) -> None:
    table = host_table
    connection.execute(update(table).values(total_cpu_capacity=4, total_memory_capacity=4))
    scene = Scene(connection, {TARGET: RUNS})

    def free() -> dict[str, int]:
        return {row.uuid: row.available_cpu_capacity for row in connection.execute(select(table))}

    await scene.settle()
    assert free() == {SOURCE: 3, TARGET: 3}
    await scene.connect(TARGET)
    assert free() == {SOURCE: 4, TARGET: 3}


async def test_it_is_in_the_cluster_that_it_has_come_to(connection: Connection) -> None:
    scene = Scene(connection, {TARGET: RUNS})
    await scene.settle()
    await scene.connect(TARGET)
    row = connection.execute(select(vm_table)).one()
    assert (row.cluster_uuid, row.last_host_uuid) == (OTHER_CLUSTER, SOURCE)


async def test_it_may_be_at_the_target_when_the_source_is_deleted(connection: Connection) -> None:
    scene = Scene(connection, {TARGET: RUNS})
    await scene.settle()
    forget_vms(connection, SOURCE)
    assert scene.row() == ("Unknown", TARGET, None)
    await scene.connect(TARGET)
    assert scene.row() == ARRIVED


async def test_it_is_at_the_source_or_nowhere_when_the_target_is_deleted(connection: Connection) -> None:
    scene = Scene(connection, {})
    await scene.settle()
    forget_vms(connection, TARGET)
    assert scene.row() == ("Unknown", SOURCE, None)
    await scene.connect(SOURCE)
    assert scene.row() == GONE
