"""An undo that failed at an agent is done again by it, not answered with the failure that it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from agentkit.errors import HardpointError
from agentkit.events import EventHub
from agentkit.journal import Journal
from agentkit.tasks import TaskDesk
from agentkit.wire import Command
from kvmagent.protocol_devices import AttachVmPci, DetachVmPci
from kvmagent.protocol_usb import DetachVmUsb
from kvmagent.protocol_vms import DetachVmDisk, StopVm, StopVmReply, VmReport
from mn.db.open import open_database
from mn.facilities.pci.attach import Claim
from mn.facilities.pci.attach import unplug_again as unplug_pci
from mn.facilities.usb.attach import unplug_again as unplug_usb
from mn.facilities.vms.allocation import Placed
from mn.facilities.vms.disks import unplug_again as unplug_disk
from mn.facilities.vms.domains import take_power
from mn.fleet.client import Endpoint
from mn.jobs.job import Job
from mn.rest.services import Services
from tests.unit.mn.facilities.fleet import HOST, VM
from tests.unit.mn.jobs.house import House, failure

VOLUME, DEVICE = "f" * 32, "c" * 32
AT = Placed(HOST, "192.0.2.1", 7070)
CLAIM = Claim(vm_uuid=VM, devices=[], at=AT, running=True)


class Agent:
    """An agent with the books that agents keep; it refuses the first command of each kind but attaching."""

    def __init__(self, state_dir: Path) -> None:
        self.fleet = self
        self.asked: list[type[Command[Any]]] = []
        kinds = (AttachVmPci, DetachVmPci, DetachVmUsb, DetachVmDisk, StopVm)
        self.journal = Journal(state_dir)
        self.desk = TaskDesk(self.journal, EventHub("i"), None, dict.fromkeys(kinds, self.do))

    async def do(self, _context: object, command: Command[Any]) -> Any:
        self.asked.append(type(command))
        if self.asked.count(type(command)) == 1 and not isinstance(command, AttachVmPci):
            raise failure("the VM does not let go of it")
        return StopVmReply(forced=True) if isinstance(command, StopVm) else VmReport(vm=None)

    async def call(self, _endpoint: Endpoint, command: Command[Any], task_uuid: str) -> Any:
        report = await self.desk.submit(task_uuid, msgspec.json.encode(command), 10)
        if report.error is not None:
            raise HardpointError.from_body(report.error)
        return msgspec.convert(report.result, command.reply_type())

    def acknowledge(self, _endpoint: Endpoint, task_uuid: str) -> None:
        self._forgetting = asyncio.ensure_future(self.desk.forget(task_uuid))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(lambda: open_database("", tmp_path / "db"))
    engine = await made.start(prepare=True)
    yield made
    await engine.stop()
    made.db.close()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    agent = Agent(tmp_path / "tasks")
    await agent.desk.open()
    yield agent
    await agent.desk.drain(10)
    agent.journal.close()


@pytest.mark.parametrize(
    ("undo", "args", "asked"),
    [
        (unplug_disk, (VOLUME, VM, AT.endpoint), DetachVmDisk),
        (unplug_usb, (DEVICE, VM, AT), DetachVmUsb),
        (unplug_pci, (CLAIM,), DetachVmPci),
        (take_power, (VM, AT), StopVm),
    ],
    ids=["disk", "usb", "pci", "power"],
)
async def test_an_undo_that_an_agent_refused_once_is_done_by_it_at_the_next_attempt(
    house: House, agent: Agent, undo: Any, args: tuple[Any, ...], asked: type[Command[Any]]
) -> None:
    services = cast("Services", agent)

    async def plug(services: Services, *said: Any) -> None:
        await services.fleet.call(AT.endpoint, AttachVmPci(uuid=VM, devices=[]), said[-1])

    async def run(job: Job[list[str]]) -> None:
        await job.step(plug, services, *args, job.task_uuid(), undo=undo)
        await job.step(house.refuse)

    house.runs["plug"] = run
    status = await house.end(await house.submit("plug"))
    assert status.error is not None
    assert status.error.details == "it broke"
    assert agent.asked == [AttachVmPci, asked, asked]
