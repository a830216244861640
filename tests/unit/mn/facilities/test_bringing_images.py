"""Images that come into the cache of a storage: jobs that are cancelled, and two that bring the same one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from agentkit.wire import Command
from kvmagent.protocol_storage import Capacity, DiskReply, FetchFile, RemoveFiles, RemoveFilesReply
from mn import facilities
from mn.db.global_settings import GlobalSettings
from mn.db.open import open_database
from mn.facilities.primary_storage.capacity import Place, save_capacity
from mn.facilities.primary_storage.connecting import HostPlace, host_at
from mn.facilities.primary_storage.image_cache import (
    CleanUpImageCacheOnPrimaryStorage,
    ImageToCache,
    bring_image,
    image_cache_table,
)
from mn.facilities.primary_storage.tables import allocation_table, host_ref_table
from mn.fleet.client import Endpoint
from mn.jobs.job import Job
from tests.unit.mn.facilities.fleet import HOST, STORAGE, fill, put, put_storage
from tests.unit.mn.facilities.hosts_double import HostsDouble
from tests.unit.mn.jobs.house import House, failure

IMAGE = ImageToCache("f" * 32, "https://store/image", "0" * 64, 5000, 10000, "raw")
PLACE = Place(STORAGE)
CAME = DiskReply(size=10000, actual_size=5000, format="raw", backing=None)


class Hosts(HostsDouble):
    """Hosts whose fetches end as `fetches` say, one of each."""

    def __init__(self, house: House) -> None:
        super().__init__(cast("Connection", None), {RemoveFiles: RemoveFilesReply(kept=[])})
        self.db, self.global_settings = house.db, GlobalSettings(house.db)
        self.fetches: list[asyncio.Future[DiskReply]] = []

    async def call(self, endpoint: Endpoint, command: Command[Any], task_uuid: str) -> Any:
        if not isinstance(command, FetchFile):
            return await super().call(endpoint, command, task_uuid)
        self.fetches.append(asyncio.get_running_loop().create_future())
        return await self.fetches[-1]

    async def until_fetched(self, count: int) -> None:
        while len(self.fetches) < count:
            await asyncio.sleep(0.01)


def furnish(connection: Connection) -> None:
    fill(connection)
    put_storage(connection)
    capacities = dict.fromkeys(("total_capacity", "available_capacity", "system_used_capacity"), 0)
    capacities |= dict.fromkeys(("total_physical_capacity", "available_physical_capacity"), 0)
    ref = {"uuid": "6" * 32, "primary_storage_uuid": STORAGE, "host_uuid": HOST, "status": "Connected"}
    put(connection, host_ref_table, **ref, **capacities)
    save_capacity(connection, PLACE, Capacity(total=2**40, available=2**40))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    facilities.load()
    made = House(lambda: open_database("", tmp_path / "db"))
    engine = await made.start(prepare=True)
    await made.db.write(furnish)
    yield made
    await engine.stop()
    made.db.close()


@pytest.fixture
def hosts(house: House) -> Hosts:
    hosts = Hosts(house)

    async def bring(job: Job[Any]) -> None:
        job.services = hosts.services
        at: HostPlace = await job.transact(host_at, PLACE)
        await bring_image(job, PLACE, at, IMAGE)

    async def clean_up(job: Job[Any]) -> None:
        job.services = hosts.services
        await CleanUpImageCacheOnPrimaryStorage(uuid=STORAGE).run(job)

    house.runs = {"bring": bring, "clean up": clean_up}
    return hosts


async def cached(house: House) -> tuple[list[str], list[int]]:
    """Return the states of the cached images, and what room is promised."""
    images, promised = await house.rows(image_cache_table), await house.rows(allocation_table)
    return [row.state for row in images], [row.size for row in promised]


async def test_an_image_whose_job_was_cancelled_is_cleaned_up_with_its_room(
    house: House, hosts: Hosts
) -> None:
    bringing = await house.submit("bring")
    await hosts.until_fetched(1)
    await house.end(await house.submit("clean up"))
    assert await cached(house) == (["Coming"], [5000]), "it is still brought"
    assert house.engine
    assert await house.engine.cancel(bringing)
    assert (await house.end(await house.submit("clean up"))).error is None
    assert await cached(house) == ([], [])


async def test_an_image_that_one_job_gives_up_stays_for_the_other_that_brings_it(
    house: House, hosts: Hosts
) -> None:
    first = await house.submit("bring")
    await hosts.until_fetched(1)
    second = await house.submit("bring")
    await hosts.until_fetched(2)
    hosts.fetches[0].set_exception(failure("the store went away"))
    assert (await house.end(first)).error is not None
    assert await cached(house) == (["Coming"], [5000])
    hosts.fetches[1].set_result(CAME)
    assert (await house.end(second)).error is None
    assert await cached(house) == (["Ready"], [5000])
    assert not any(isinstance(command, RemoveFiles) for command in hosts.asked)


async def test_an_image_that_the_last_job_gives_up_is_forgotten(house: House, hosts: Hosts) -> None:
    jobs = [await house.submit("bring") for _ in range(2)]
    await hosts.until_fetched(2)
    for fetch, job in zip(hosts.fetches, jobs, strict=True):
        fetch.set_exception(failure("the store went away"))
        assert (await house.end(job)).error is not None
    assert await cached(house) == ([], [])


async def test_an_image_that_comes_though_it_was_given_up_is_noted_with_its_room(
    house: House, hosts: Hosts
) -> None:
    bringing = await house.submit("bring")
    await hosts.until_fetched(1)

    def give_up(connection: Connection) -> None:
        for table in (image_cache_table, allocation_table):
            connection.execute(table.delete())

    await house.db.write(give_up)
    hosts.fetches[0].set_result(CAME)
    assert (await house.end(bringing)).error is None
    assert await cached(house) == (["Ready"], [5000])
