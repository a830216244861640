"""A volume is taken from its VM, whatever else is done with the VM meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from agentkit.errors import HardpointError
from agentkit.wire import Command
from kvmagent.protocol_vms import (
    AttachVmDisk,
    DetachVmDisk,
    GetVm,
    StartVm,
    StopVm,
    StopVmReply,
    VmReport,
)
from mn.facilities.hosts.tables import host_table
from mn.facilities.primary_storage.tables import host_ref_table
from mn.facilities.vms.allocation import Wish
from mn.facilities.vms.disks import DetachDataVolumeFromVm, load_keeper
from mn.facilities.vms.domain_disks import load_disks, load_open_disks
from mn.facilities.vms.life import reboot_vm, start_vm, stop_vm
from mn.facilities.vms.tables import vm_table
from mn.facilities.volumes.tables import volume_table
from mn.facilities.volumes.use import quiet_volume
from mn.rest.services import Job
from tests.unit.mn.facilities.fleet import (
    HOST,
    STORAGE,
    VM,
    new_connection,
    put,
    put_host,
    put_storage,
    put_vm,
    put_volume,
    seen_vm,
)
from tests.unit.mn.facilities.hosts_double import HostsDouble

VOLUME, OTHER_HOST = "d" * 32, "b" * 32
THERE, NOT_THERE = VmReport(vm=seen_vm(VM)), VmReport(vm=None)
KEPT = HardpointError("SYS.1001", "A message or a operation timeout", "the VM has not let go of it")


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        put_host(connection, OTHER_HOST)
        put_storage(connection)
        put_vm(connection)
        put_volume(connection, VOLUME)
        yield connection


class Scene:
    """A VM whose host has been asked to take a volume from it, and has not answered yet."""

    def __init__(self, connection: Connection, **said: Any) -> None:
        self.connection = connection
        replies: dict[type[Command[Any]], Any] = {
            AttachVmDisk: THERE,
            DetachVmDisk: said.get("detach", THERE),
            GetVm: THERE,
            StartVm: THERE,
            StopVm: StopVmReply(forced=False),
        }
        self.hosts = HostsDouble(connection, replies)
        self._go_on = self.hosts.held[DetachVmDisk] = asyncio.Event()

    async def begin(self) -> None:
        self._detaching = asyncio.create_task(self.hosts.run(DetachDataVolumeFromVm(uuid=VOLUME).run))
        await self.hosts.until_asked(DetachVmDisk)

    async def end(self) -> None:
        self._go_on.set()
        await self._detaching

    def told(self, kind: type[Command[Any]]) -> list[Any]:
        return [command for command in self.hosts.asked if isinstance(command, kind)]

    def row(self) -> tuple[str | None, int | None, str]:
        row = self.connection.execute(select(volume_table)).one()
        return row.vm_instance_uuid, row.device_id, row.status

    def change_vm(self, **values: Any) -> None:
        self.connection.execute(update(vm_table).values(**values))


ATTACHED, DETACHED = (VM, 1, "Ready"), (None, None, "Ready")


async def test_a_vm_that_reboots_meanwhile_starts_without_it(connection: Connection) -> None:
    scene = Scene(connection, detach=NOT_THERE)  # as the domain has ended
    await scene.begin()
    await scene.hosts.run(lambda job: reboot_vm(job, VM))
    await scene.end()
    assert [command.domain.disks for command in scene.told(StartVm)] == [[]]
    assert scene.row() == DETACHED


async def test_a_vm_that_is_stopped_and_started_meanwhile_starts_without_it(connection: Connection) -> None:
    scene = Scene(connection, detach=NOT_THERE)
    await scene.begin()

    async def stop_and_start(job: Job) -> None:
        await stop_vm(job, VM, cold=True)
        roomy = {"available_cpu_capacity": 1, "available_memory_capacity": 2**40}
        connection.execute(update(host_table).values(**roomy))
        put_usable(connection)
        await start_vm(job, VM, Wish(None, None, HOST))

    await scene.hosts.run(stop_and_start)
    await scene.end()
    assert [command.domain.disks for command in scene.told(StartVm)] == [[]]
    assert scene.row() == DETACHED


def put_usable(connection: Connection) -> None:
    """Have the hosts use the storage."""
    for host in (HOST, OTHER_HOST):
        values = {"primary_storage_uuid": STORAGE, "host_uuid": host, "status": "Connected"}
        put(connection, host_ref_table, uuid=host, **values)


async def test_a_vm_that_moves_meanwhile_is_made_to_let_go_where_it_is_by_then(
    connection: Connection,
) -> None:
    said = {HOST: NOT_THERE, OTHER_HOST: THERE}
    scene = Scene(connection, detach=said.__getitem__)
    await scene.begin()
    scene.change_vm(host_uuid=OTHER_HOST)
    await scene.end()
    assert scene.hosts.hosts_asked == [HOST, OTHER_HOST]
    assert scene.row() == DETACHED


async def test_so_is_one_that_has_left_and_is_not_known_yet_to_have_come(connection: Connection) -> None:
    scene = Scene(connection, detach=NOT_THERE)
    await scene.begin()
    scene.change_vm(state="Migrating", destination_host_uuid=OTHER_HOST)
    await scene.end()
    assert scene.hosts.hosts_asked == [HOST, OTHER_HOST]
    assert scene.row() == DETACHED


async def test_a_vm_that_does_not_let_go_keeps_it(connection: Connection) -> None:
    scene = Scene(connection, detach=KEPT)
    await scene.begin()
    with pytest.raises(HardpointError, match="has not let go"):
        await scene.end()
    assert scene.row() == ATTACHED
    (again,) = scene.told(AttachVmDisk)
    assert again.disk.volume_uuid == VOLUME
    assert [disk.volume_uuid for disk in load_disks(connection, VM)] == [VOLUME]


async def test_a_vm_that_has_moved_and_does_not_let_go_keeps_it_there(connection: Connection) -> None:
    said = {HOST: NOT_THERE, OTHER_HOST: KEPT}
    scene = Scene(connection, detach=said.__getitem__)
    await scene.begin()
    scene.change_vm(host_uuid=OTHER_HOST)
    with pytest.raises(HardpointError, match="has not let go"):
        await scene.end()
    assert scene.row() == ATTACHED
    assert scene.hosts.hosts_asked == [HOST, OTHER_HOST, OTHER_HOST]


async def test_a_vm_that_a_job_is_at_keeps_it(connection: Connection) -> None:
    scene = Scene(connection)
    scene.change_vm(state="Rebooting")
    with pytest.raises(HardpointError, match="is Rebooting"):
        await scene.hosts.run(DetachDataVolumeFromVm(uuid=VOLUME).run)
    assert scene.row() == ATTACHED
    assert scene.hosts.asked == []


async def test_nothing_else_is_done_with_it_until_the_vm_has_let_go(connection: Connection) -> None:
    scene = Scene(connection)
    await scene.begin()
    scene.change_vm(state="Stopped", host_uuid=None)
    with pytest.raises(HardpointError, match="is Detaching, not Ready"):
        quiet_volume(connection, VOLUME)
    await scene.end()
    assert quiet_volume(connection, VOLUME).uuid == VOLUME


async def test_a_volume_that_another_job_works_on_is_not_detached(connection: Connection) -> None:
    scene = Scene(connection)
    scene.change_vm(state="Stopped", host_uuid=None)
    connection.execute(update(volume_table).values(status="Reverting"))
    with pytest.raises(HardpointError, match="is Reverting, not Ready"):
        await scene.hosts.run(DetachDataVolumeFromVm(uuid=VOLUME).run)
    assert scene.row() == (VM, 1, "Reverting")


async def test_a_stopped_vm_loses_it_at_once(connection: Connection) -> None:
    scene = Scene(connection)
    scene.change_vm(state="Stopped", host_uuid=None)
    await scene.hosts.run(DetachDataVolumeFromVm(uuid=VOLUME).run)
    assert scene.row() == DETACHED
    assert scene.hosts.asked == []


async def test_a_host_that_a_vm_moves_to_is_told_of_what_it_has_not_let_go_of(connection: Connection) -> None:
    scene = Scene(connection)
    await scene.begin()
    assert load_disks(connection, VM) == []
    assert [disk.volume_uuid for disk in load_open_disks(connection, VM)] == [VOLUME]
    await scene.end()
    assert load_open_disks(connection, VM) == []


def test_that_a_vm_may_lose_it_yet_is_told_when_its_host_is_away(connection: Connection) -> None:
    connection.execute(update(host_table).values(status="Disconnected"))
    connection.execute(update(vm_table).values(state="Unknown"))
    with pytest.raises(HardpointError, match=f"may lose volume {VOLUME} yet, as its host {HOST} is away"):
        load_keeper(connection, VOLUME, VM)
    connection.execute(update(vm_table).values(state="Stopped"))
    assert load_keeper(connection, VOLUME, VM) is None
