"""The rules of primary storages: urls, room that is promised once, snapshots that go together."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, insert, select

from agentkit.errors import HardpointError
from kvmagent.protocol_storage import Capacity
from mn import facilities
from mn.db.engine import Database
from mn.db.global_settings import STORAGE_RESERVED, GlobalSettings
from mn.db.migrations import upgrade
from mn.db.schema import now_s
from mn.facilities.primary_storage.capacity import Place, release, reserve, save_capacity
from mn.facilities.primary_storage.driver import driver_of
from mn.facilities.primary_storage.nfs import same_export
from mn.facilities.primary_storage.tables import NFS, SMP, VOLUME, primary_storage_table
from mn.facilities.volumes.snapshots import with_descendants
from mn.facilities.zones import zone_table
from tests.unit.mn.conftest import OpenDatabase

STORAGE, ZONE = "5" * 32, "2" * 32
GB = 1024**3


@pytest.mark.parametrize(
    "url", ["zstack_ps", "/", "/dev/shm", "/proc/x", "/sys", "/a/../etc", "/a/./b", "relative/x"]
)
def test_a_directory_that_cannot_be_a_storage_is_refused(url: str) -> None:
    facilities.load()
    for kind in ("LocalStorage", SMP):
        with pytest.raises(HardpointError, match="parameter 'url'"):
            driver_of(kind).check_url(url)
    driver_of(SMP).check_url("/zstack_ps/")


@pytest.mark.parametrize(
    "url", ["/export", "host", "host:export", ":/x", "a b:/x", "fd00::1:/x", "h:/../etc"]
)
def test_an_export_is_a_host_and_an_absolute_path(url: str) -> None:
    facilities.load()
    with pytest.raises(HardpointError, match="parameter 'url'"):
        driver_of(NFS).check_url(url)


@pytest.mark.parametrize("url", ["10.0.0.1:/srv/nfs", "nfs.example.com:/", "[fd00::1]:/srv"])
def test_exports_of_names_and_addresses_are_taken(url: str) -> None:
    facilities.load()
    driver_of(NFS).check_url(url)


def test_the_same_export_is_known_in_other_words() -> None:
    assert same_export("[FD00::0:1]:/srv//nfs/", "[fd00::1]:/srv/nfs")
    assert same_export("NFS.example.com:/srv", "nfs.example.com:/srv/")
    assert not same_export("10.0.0.1:/srv", "10.0.0.2:/srv")
    assert not same_export("10.0.0.1:/srv", "10.0.0.1:/srv2")


def test_a_snapshot_goes_with_all_that_came_after_it() -> None:
    tree = [("a", None), ("b", "a"), ("c", "a"), ("d", "b"), ("e", "d")]
    assert with_descendants("b", tree) == ["b", "d", "e"]
    assert with_descendants("a", tree) == ["a", "b", "c", "d", "e"]
    assert with_descendants("e", tree) == ["e"]


def make_storage(connection: Connection) -> None:
    dates = {"create_date": now_s(), "last_op_date": now_s()}
    zone = {"uuid": ZONE, "name": "z", "state": "Enabled", "type": "zstack", **dates}
    connection.execute(insert(zone_table), zone)
    storage = {
        "uuid": STORAGE,
        "name": "nfs",
        "zone_uuid": ZONE,
        "url": "h:/x",
        "type": NFS,
        "state": "Enabled",
        "status": "Connected",
        "mount_path": "/m",
        "attached_cluster_uuids": [],
        "initialised": True,
    }
    connection.execute(insert(primary_storage_table), {**storage, **dates})
    save_capacity(connection, Place(STORAGE), Capacity(total=10 * GB, available=9 * GB))


def available(connection: Connection) -> int:
    return int(connection.execute(select(primary_storage_table.c.available_capacity)).scalar_one())


async def opened_with_storage(opened: OpenDatabase) -> Database:
    facilities.load()
    database = opened()
    await asyncio.to_thread(database.prepare, upgrade)
    await asyncio.to_thread(database.start)
    await database.write(make_storage)
    return database


async def test_no_byte_is_promised_twice_and_all_come_back(opened: OpenDatabase) -> None:
    database = await opened_with_storage(opened)
    try:
        settings = GlobalSettings(database)
        assert settings[STORAGE_RESERVED] == GB
        wanted = [f"{number:032x}" for number in range(50)]
        taking = (database.write(reserve, Place(STORAGE), uuid, VOLUME, GB, settings) for uuid in wanted)
        outcomes = await asyncio.gather(*taking, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, HardpointError)]
        assert len(wanted) - len(refused) == 8  # of 9 free ones, one is kept
        assert {error.code for error in refused} == {"PS.1000"}
        assert await database.read(available) == GB
        await database.write(save_capacity, Place(STORAGE), Capacity(total=12 * GB, available=11 * GB))
        assert await database.read(available) == 3 * GB  # the file system has grown
        for uuid in wanted * 2:
            await database.write(release, Place(STORAGE), uuid)
        assert await database.read(available) == 11 * GB
    finally:
        await asyncio.to_thread(database.close)


async def test_nothing_new_is_made_on_a_file_system_that_is_nearly_full(opened: OpenDatabase) -> None:
    database = await opened_with_storage(opened)
    try:
        await database.write(save_capacity, Place(STORAGE), Capacity(total=10 * GB, available=GB // 2))
        settings = GlobalSettings(database)
        with pytest.raises(HardpointError, match="its file system has"):
            await database.write(reserve, Place(STORAGE), "a" * 32, VOLUME, 1, settings)
    finally:
        await asyncio.to_thread(database.close)
