"""Rows of targets and LUNs follow what hosts say; LUNs that nobody can tell apart are refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, select

from agentkit.errors import ErrorBody, HardpointError
from kvmagent.protocol_iscsi import IscsiLun, IscsiReport, IscsiServerReport, IscsiSession, SessionState
from mn.facilities.hosts.holdings import hold
from mn.facilities.iscsi import luns as lun_rows
from mn.facilities.iscsi.hosts import (
    SESSIONS,
    HostAnswer,
    check_answers,
    forget_others,
    reports_by_host,
    save_answer,
    save_report,
    status_of,
)
from mn.facilities.iscsi.luns import check_luns, sync_luns
from mn.facilities.iscsi.tables import (
    host_ref_table,
    iscsi_lun_table,
    iscsi_server_table,
    iscsi_target_table,
)
from mn.facilities.issues.checks.iscsi_paths_lost import find_degraded, find_disconnected
from tests.unit.mn.facilities.fleet import HOST, new_connection, put, put_host

SERVER, OTHER_HOST = "5" * 32, "b" * 32
IQN = "iqn.2026-01.org.example:san"
UP, LOST = SessionState.LOGGED_IN, SessionState.MISSING


def lun(number: int, **more: object) -> IscsiLun:
    values = {
        "iqn": IQN,
        "lun": number,
        "wwid": f"3600140500000000{number:x}",
        "wwn": "0x6001405000000000",
        "vendor": "LIO",
        "model": "lun",
        "serial": "6001405",
        "unit_serial": f"u{number}",
        "hctl": f"2:0:0:{number}",
        "type": "mpath",
        "path": f"ip-10.0.0.1:3260-iscsi-{IQN}-lun-{number}",
        "size": 1024,
        "state": "running",
    }
    return IscsiLun(**{**values, **more})  # type: ignore[arg-type]


def report(*numbers: int, state: SessionState = UP, error: ErrorBody | None = None) -> IscsiServerReport:
    session = IscsiSession(iqn=IQN, address="10.0.0.1", port=3260, state=state)
    luns = [lun(number) for number in numbers]
    return IscsiServerReport(server_uuid=SERVER, sessions=[session], luns=luns, error=error)


def answer(said: IscsiServerReport, host: str = HOST) -> HostAnswer:
    return HostAnswer(host, said)


def save_answers(connection: Connection, server_uuid: str, answers: list[HostAnswer]) -> None:
    for said in answers:
        save_answer(connection, server_uuid, said)
    sync_luns(connection, server_uuid)


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = new_connection()
    put_host(made, OTHER_HOST)
    for host in (HOST, OTHER_HOST):
        hold(made, host, SESSIONS, SERVER)
    put(made, iscsi_server_table, uuid=SERVER, name="san", ip="10.0.0.1", port=3260, state="Enabled")
    yield made
    made.close()


def test_what_a_host_said_before_it_gave_a_server_back_is_not_written(connection: Connection) -> None:
    save_answers(connection, SERVER, [answer(report(0))])
    forget_others(connection, HOST, IscsiReport(servers=[]))
    assert connection.execute(select(host_ref_table)).all() == []
    save_report(connection, HOST, IscsiReport(servers=[report(0)]))
    assert connection.execute(select(host_ref_table)).all() == []


def rows(connection: Connection) -> dict[int, str]:
    found = connection.execute(select(iscsi_lun_table.c.number, iscsi_lun_table.c.uuid))
    return {row.number: row.uuid for row in found}


def test_luns_come_stay_themselves_and_go(connection: Connection) -> None:
    save_answers(connection, SERVER, [answer(report(0, 1))])
    first = rows(connection)
    save_answers(connection, SERVER, [answer(report(1, 2))])
    now = rows(connection)
    assert now.keys() == {1, 2}
    assert now[1] == first[1]


def test_a_lun_that_one_host_still_shows_stays(connection: Connection) -> None:
    save_answers(connection, SERVER, [answer(report(0, 1)), answer(report(0), OTHER_HOST)])
    assert rows(connection).keys() == {0, 1}


def test_a_lun_stays_while_nobody_can_see_whether_it_is_there(connection: Connection) -> None:
    save_answers(connection, SERVER, [answer(report(0, 1))])
    save_answers(connection, SERVER, [answer(report(state=LOST))])
    assert rows(connection).keys() == {0, 1}
    error = ErrorBody("ISCSI.1001", "iSCSI login failed", "it does not answer")
    save_answers(connection, SERVER, [HostAnswer(HOST, error=error)])
    assert rows(connection).keys() == {0, 1}


def test_a_target_that_is_announced_no_more_goes_with_its_luns(connection: Connection) -> None:
    save_answers(connection, SERVER, [answer(report(0))])
    save_answers(connection, SERVER, [answer(IscsiServerReport(server_uuid=SERVER))])
    assert rows(connection) == {}
    assert connection.execute(select(iscsi_target_table)).all() == []


def test_a_lun_that_is_used_keeps_its_row(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    save_answers(connection, SERVER, [answer(report(0))])
    monkeypatch.setattr(lun_rows, "_users", [lambda _, wwid: f"a group has {wwid}"])
    save_answers(connection, SERVER, [answer(report())])
    assert rows(connection).keys() == {0}


def test_hosts_that_see_different_units_at_one_place_are_refused_with_both(connection: Connection) -> None:
    save_answers(connection, SERVER, [answer(report(0))])
    other = report()
    other.luns = [lun(0, wwid="36001405ffffffff0")]
    said = reports_by_host([answer(other, OTHER_HOST)])
    with pytest.raises(HardpointError) as refused:
        check_luns(connection, SERVER, said)
    assert refused.value.code == "ISCSI.1002"
    assert "36001405ffffffff0" in refused.value.details
    assert lun(0).wwid in refused.value.details
    check_luns(connection, SERVER, reports_by_host([answer(other, HOST)]))  # it has said so itself


def test_a_unit_of_another_server_with_the_same_wwid_is_refused(connection: Connection) -> None:
    save_answers(connection, SERVER, [answer(report(0))])
    twin = report()
    twin.luns = [lun(0, iqn="iqn.2026-01.org.example:other", unit_serial="another")]
    with pytest.raises(HardpointError, match="both report the WWID"):
        check_luns(connection, "6" * 32, reports_by_host([answer(twin)]))
    twin.luns = [lun(0, size=2048)]  # the same unit by another portal, which has grown
    check_luns(connection, "6" * 32, reports_by_host([answer(twin)]))


@given(st.lists(st.sampled_from(SessionState), max_size=4), st.lists(st.booleans(), max_size=4))
def test_a_status_is_connected_only_when_all_is_there(
    sessions: list[SessionState], paths: list[bool]
) -> None:
    said = IscsiServerReport(
        server_uuid=SERVER,
        sessions=[
            IscsiSession(iqn=f"{IQN}{n}", address="::1", port=1, state=s) for n, s in enumerate(sessions)
        ],
        luns=[lun(n, state="running" if up else "offline") for n, up in enumerate(paths)],
    )
    status, reason = status_of(said)
    assert (status == "Connected") == (all(s is UP for s in sessions) and all(paths))
    assert (reason is None) == (status == "Connected")
    assert (status == "Degraded") <= (UP in sessions)


def test_lost_paths_are_issues_of_the_server_one_for_each_host(connection: Connection) -> None:
    half = report(0, 1)
    half.luns[1].state = "transport-offline"
    save_answers(connection, SERVER, [answer(half), answer(report(state=LOST), OTHER_HOST)])
    (degraded,), (lost,) = find_degraded(connection), find_disconnected(connection)
    assert (degraded.resource_uuid, degraded.part) == (SERVER, HOST)
    assert "has lost 1 of 2 paths" in degraded.evidence
    assert "lun-1 is transport-offline" in degraded.evidence
    assert lost.part == OTHER_HOST
    connection.execute(delete(host_ref_table))
    assert find_degraded(connection) == find_disconnected(connection) == []


def test_each_host_that_failed_is_named_with_its_reason(connection: Connection) -> None:
    error = ErrorBody("ISCSI.1001", "iSCSI login failed", "no route", remedy="mend it")
    answers = [answer(report(0)), HostAnswer(OTHER_HOST, error=error)]
    with pytest.raises(HardpointError) as failed:
        check_answers(connection, answers, "no login")
    assert f"host host-bbbb ({OTHER_HOST}): no route" in failed.value.details
    assert "on 1 of 2 hosts" in failed.value.details
    assert (failed.value.remedy, failed.value.code) == ("mend it", "SYS.1006")
    check_answers(connection, answers[:1], "no login")
