from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kvmagent.iscsi.ledger import Ledger
from kvmagent.iscsi.multipath import drop_in
from kvmagent.iscsi.observed import Observed, Session
from kvmagent.iscsi.plan import empty_maps, missing, removal, report, wanted_wwids
from kvmagent.iscsi.portals import SessionKey, Target
from kvmagent.machine.luns import MultipathMap, ScsiDisk
from kvmagent.protocol_iscsi import IscsiServer, SessionState, clashes_of

IQN = "iqn.2026-01.org.example:san"
GIB = 2**30
ADDRESSES = ["10.0.0.1", "10.0.1.1", "10.0.2.1"]
SERVERS = st.lists(st.tuples(st.integers(0, 4), st.sets(st.sampled_from(ADDRESSES))), max_size=5)


def target(address: str) -> Target:
    return Target(iqn=IQN, address=address, port=3260, group=1)


def server(number: int) -> IscsiServer:
    return IscsiServer(uuid=f"{number:032x}", address="10.0.0.1", port=3260)


def wwid(number: int) -> str:
    return f"3600140500000000{number:x}"


def disk(session: int, number: int = 0, name: str | None = None, **values: object) -> ScsiDisk:
    made = ScsiDisk(
        name or f"sd{session}{number}",
        f"{session}:0:0:{number}",
        number,
        wwid(number),
        None,
        "V",
        "M",
        None,
        f"u{number}",
        GIB,
        "running",
        session,
        None,
        f"dm-{number}",
    )
    return made._replace(**values)


def observed(addresses: list[str], luns: int = 1, **values: object) -> Observed:
    sessions = tuple(
        Session(n, SessionKey(IQN, address, 3260), SessionState.LOGGED_IN)
        for n, address in enumerate(addresses)
    )
    disks = tuple(disk(session.number, lun) for session in sessions for lun in range(luns))
    maps = tuple(
        MultipathMap(f"dm-{lun}", wwid(lun), wwid(lun), GIB, tuple(d.name for d in disks if d.lun == lun), ())
        for lun in range(luns)
    )
    return replace(Observed(sessions, disks, maps, {}), **values)


def ledger(*needed: tuple[int, list[str]], ours: list[str] = ADDRESSES) -> Ledger:
    made = Ledger()
    for number, addresses in needed:
        made.need(server(number), [target(address) for address in addresses])
    made.ours = [target(address) for address in ours]
    return made


@given(SERVERS, st.sets(st.sampled_from(ADDRESSES)))
def test_each_session_is_needed_missing_or_an_orphan(
    servers: list[tuple[int, set[str]]], there: set[str]
) -> None:
    book = ledger(*((number, sorted(addresses)) for number, addresses in servers))
    now = observed(sorted(there))
    needs = {key.address for key in book.needs()}
    assert {key.address for _, t in missing(book, now) for key in [t.key]} == needs - there
    assert {key.address for key in book.orphans()} == set(ADDRESSES) - needs
    told = report(book, now, {})
    assert {orphan.address for orphan in told.orphans} == there - needs
    for one in told.servers:
        assert {s.address for s in one.sessions if s.state is SessionState.MISSING} == {
            s.address for s in one.sessions
        } - there


@given(SERVERS, st.integers(0, 4))
def test_a_session_that_another_server_needs_outlives_a_server(
    servers: list[tuple[int, set[str]]], number: int
) -> None:
    book = ledger(*((n, sorted(addresses)) for n, addresses in servers))
    others = set(book.needs(but=server(number).uuid))
    book.forget(server(number).uuid)
    assert set(book.needs()) == others
    assert not others & set(book.orphans())


def test_a_map_goes_with_its_last_path() -> None:
    now = observed(ADDRESSES[:2], luns=2)
    keys = [session.key for session in now.sessions]
    one = removal(now, keys[:1])
    assert (one.maps, [d.name for d in one.disks]) == ((), ["sd00", "sd01"])
    both = removal(now, keys)
    assert [m.name for m in both.maps] == ["dm-0", "dm-1"]
    assert len(both.disks) == 4


def test_a_use_of_the_map_counts_only_when_the_map_goes() -> None:
    now = observed(ADDRESSES[:2], uses={"dm-0": ("dm-0 is mounted at /mnt",)})
    keys = [session.key for session in now.sessions]
    assert removal(now, keys[:1]).uses == ()
    assert removal(now, keys).uses == ("dm-0 is mounted at /mnt",)


def test_multipath_keeps_knowing_luns_while_a_session_is_lost() -> None:
    book = ledger((1, ADDRESSES[:1]))
    book.wwids = [wwid(0), wwid(7)]
    assert wanted_wwids(book, observed([])) == [wwid(0), wwid(7)]
    assert wanted_wwids(book, observed(ADDRESSES[:1])) == [wwid(0)]


def test_a_map_without_paths_goes_when_nothing_brings_it_back() -> None:
    book, hollow = ledger((1, ADDRESSES[:1])), MultipathMap("dm-7", wwid(7), wwid(7), GIB, (), ())
    book.wwids = [wwid(0), wwid(7)]
    lost, back = observed([], maps=(hollow,)), observed(ADDRESSES[:1])
    assert empty_maps(book, lost) == []
    assert empty_maps(book, replace(back, maps=(*back.maps, hollow))) == [hollow]
    foreign = hollow._replace(wwid="3600a098")
    assert empty_maps(book, replace(back, maps=(foreign,))) == []


def test_paths_to_one_lun_are_no_clash_two_numbers_are() -> None:
    now = observed(ADDRESSES[:2], luns=2)
    luns = [lun for session in now.sessions for lun in now.luns_of(session.key)]
    assert clashes_of(luns) == []
    twin = observed(ADDRESSES[:1], disks=(disk(0, 0), disk(0, 1, wwid=wwid(0), unit_serial="u0")))
    ((one, other),) = clashes_of(twin.luns_of(twin.sessions[0].key))
    assert (one.lun, other.lun) == (0, 1)


@given(st.sets(st.integers(0, 9)))
def test_the_drop_in_names_each_lun_once_with_a_keyword_a_line(numbers: set[int]) -> None:
    text = drop_in([wwid(number) for number in numbers])
    assert text.count("wwid ") == len(numbers)
    assert text.count("{") == text.count("}") == len(numbers) + 1
    assert all(line.count("{") + line.count("}") <= 1 for line in text.splitlines())
