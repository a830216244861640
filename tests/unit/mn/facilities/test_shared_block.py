"""Host ids of shared-block storages, and what hosts say of disks, put together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from kvmagent.protocol_shared_block import GroupStanding, GroupState, SharedDisk
from kvmagent.protocol_storage import StorageEvent
from mn.facilities.primary_storage.driver import driver_of
from mn.facilities.primary_storage.shared_block.candidates import merge
from mn.facilities.primary_storage.shared_block.host_ids import (
    host_id_of,
    load_host_ref,
    lowest_free,
)
from mn.facilities.primary_storage.tables import SHARED_BLOCK
from tests.unit.mn.facilities.fleet import HOST, STORAGE, new_connection, put_host, put_storage

OTHER = "b" * 32


@pytest.fixture
def connection() -> Iterator[Connection]:
    with new_connection() as connection:
        put_storage(connection, type=SHARED_BLOCK, name="blocks", url="sharedblock://x")
        put_host(connection, OTHER)
        yield connection


@given(st.sets(st.integers(1, 30)), st.integers(1, 30))
def test_a_number_that_is_given_out_is_nobodys(taken: set[int], most: int) -> None:
    number = lowest_free(taken, most)
    if number is None:
        assert taken >= set(range(1, most + 1))
    else:
        assert number not in taken
        assert set(range(1, number)) <= taken


def test_a_hosts_number_stays_its_own_until_it_has_said_that_it_has_left(connection: Connection) -> None:
    driver = driver_of(SHARED_BLOCK)
    assert [host_id_of(connection, STORAGE, host) for host in (HOST, OTHER, HOST)] == [1, 2, 1]
    driver.left(connection, STORAGE, [HOST])  # deleted while it did not answer
    assert host_id_of(connection, STORAGE, "c" * 32) == 3
    assert host_id_of(connection, STORAGE, HOST) == 1
    driver.released(connection, STORAGE, HOST)
    assert host_id_of(connection, STORAGE, "d" * 32) == 1


def test_what_a_host_tells_of_its_lease_is_shown(connection: Connection) -> None:
    driver = driver_of(SHARED_BLOCK)
    host_id_of(connection, STORAGE, HOST)
    late = GroupStanding(state=GroupState.RENEWAL_LATE, reason="50 s ago")
    driver.told(connection, STORAGE, HOST, StorageEvent(storage_uuid=STORAGE, answering=True, standing=late))
    ref = load_host_ref(connection, STORAGE, HOST)
    assert ref is not None
    assert (ref.host_id, ref.status, ref.lock_state, ref.reason) == (
        1,
        "Connected",
        "RenewalLate",
        "50 s ago",
    )
    driver.told(connection, STORAGE, HOST, StorageEvent(storage_uuid=STORAGE, answering=True))
    ref = load_host_ref(connection, STORAGE, HOST)
    assert ref is not None
    assert (ref.lock_state, ref.reason) == ("Held", None)


def disk(wwid: str, reason: str | None = None, *, wipeable: bool = False) -> SharedDisk:
    return SharedDisk(wwid=wwid, path=f"/dev/{wwid}", size=1, type="disk", reason=reason, wipeable=wipeable)


def test_a_disk_is_a_candidate_when_all_hosts_see_it_free() -> None:
    wwid = "6001405" + "1" * 25
    seen = {
        "h1": [disk(f"wwn-0x{wwid}"), disk("a"), disk("b")],
        "h2": [disk(f"3{wwid}"), disk("b", "it holds xfs")],
    }
    found = {each.wwid: each.reason for each in merge(seen, {})}
    assert found == {f"wwn-0x{wwid}": None, "a": "host h2 does not see it", "b": "it holds xfs"}
    taken = {each.wwid: each.reason for each in merge(seen, {wwid: "s"})}
    assert taken[f"wwn-0x{wwid}"] == "it belongs to primary storage s"


@given(st.dictionaries(st.sampled_from("xy"), st.lists(st.sampled_from("abc"), unique=True), min_size=1))
def test_what_hosts_see_is_each_there_once(names: dict[str, list[str]]) -> None:
    seen = {host: [disk(name * 3) for name in disks] for host, disks in names.items()}
    found = merge(seen, {})
    assert sorted(each.wwid for each in found) == sorted({d.wwid for disks in seen.values() for d in disks})
    for each in found:
        everywhere = all(each.wwid in {d.wwid for d in disks} for disks in seen.values())
        assert (each.reason is None) == everywhere
