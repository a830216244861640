"""Which hosts have a storage follows from the clusters that it is attached to, whatever is said late."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, select, update

from kvmagent.protocol_storage import Capacity, ReleaseStorage, StorageEvent
from mn.facilities.hosts.holdings import holdings_of
from mn.facilities.hosts.tables import host_table
from mn.facilities.primary_storage.attaching import attach_again, detach, follow_rows
from mn.facilities.primary_storage.connecting import STORAGE as KIND
from mn.facilities.primary_storage.connecting import leave_hosts, prepare_host, save_found
from mn.facilities.primary_storage.tables import host_ref_table
from tests.unit.mn.facilities.fleet import CLUSTER, HOST, STORAGE, new_connection, put_host, put_storage
from tests.unit.mn.facilities.hosts_double import HostsDouble

OTHER = "b" * 32
FOUND = StorageEvent(storage_uuid=STORAGE, answering=True, capacity=Capacity(total=2**30, available=2**29))


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        put_storage(connection)
        attach_again(connection, STORAGE, CLUSTER)
        yield connection


def statuses(connection: Connection) -> list[str]:
    return list(connection.execute(select(host_ref_table.c.status)).scalars())


def test_what_a_host_said_before_it_left_a_storage_is_not_written(connection: Connection) -> None:
    save_found(connection, STORAGE, HOST, FOUND)
    assert statuses(connection) == ["Connected"]
    detach(connection, STORAGE, CLUSTER)
    leave_hosts(connection, STORAGE, [HOST])
    save_found(connection, STORAGE, HOST, FOUND)
    assert statuses(connection) == []


def test_a_host_is_not_asked_to_use_a_storage_that_was_detached_meanwhile(connection: Connection) -> None:
    wanted = prepare_host(connection, STORAGE, HOST)
    assert wanted is not None
    assert [held.subject for held in holdings_of(connection, HOST, KIND)] == [STORAGE]
    detach(connection, STORAGE, CLUSTER)
    assert prepare_host(connection, STORAGE, HOST) is None


async def test_an_attaching_that_is_undone_is_forgotten_of_a_host_that_was_lost_meanwhile(
    connection: Connection,
) -> None:
    save_found(connection, STORAGE, HOST, FOUND)
    put_host(connection, OTHER)
    save_found(connection, STORAGE, OTHER, FOUND)
    connection.execute(update(host_table).where(host_table.c.uuid == OTHER).values(status="Disconnected"))
    detach(connection, STORAGE, CLUSTER)
    hosts = HostsDouble(connection, {ReleaseStorage: None})
    await follow_rows(hosts.services, STORAGE, CLUSTER)
    assert [type(command) for command in hosts.asked] == [ReleaseStorage]
    assert statuses(connection) == []
