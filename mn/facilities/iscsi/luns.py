"""Targets and LUNs as rows: what the hosts say of a server, put together; which LUNs cannot be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from agentkit.errors import HardpointError
from kvmagent.protocol_iscsi import IscsiLun, IscsiServerReport, SessionState, clashes_of, shown
from mn.db.schema import new_uuid, now_s
from mn.facilities.iscsi.tables import host_ref_table, iscsi_lun_table, iscsi_target_table
from mn.facilities.tags.rules import drop_tags

LunUser = Callable[[Connection, str], str | None]
"""Says what uses the LUN with a WWID (`shared block group fast (uuid)`), None when nothing does."""

_users: list[LunUser] = []


def lun_used_by(user: LunUser) -> None:
    """Have a LUN's row stay while `user` names something."""
    _users.append(user)


def user_of(connection: Connection, wwid: str) -> str | None:
    """Return what uses a LUN, None when nothing does."""
    return next((said for user in _users if (said := user(connection, wwid))), None)


def reports_of(
    connection: Connection, server_uuid: str, but: Collection[str] = ()
) -> list[IscsiServerReport]:
    """Return what the hosts said last of a server, some hosts aside."""
    refs = host_ref_table.c
    mine = (refs.iscsi_server_uuid == server_uuid) & refs.host_uuid.not_in(but)
    found = select(refs.report).where(mine).order_by(refs.seq)
    return [msgspec.convert(said, IscsiServerReport) for said in connection.execute(found).scalars()]


def sync_luns(connection: Connection, server_uuid: str) -> None:
    """Bring a server's targets and LUNs in line with what its hosts say.

    What no host shows goes, unless something uses it, or no host could see it now.
    """
    reports = reports_of(connection, server_uuid)
    announced = {session.iqn for said in reports for session in said.sessions}
    sure = [said for said in reports if said.error is None]
    for row in _targets(connection, server_uuid):
        announced.discard(row.iqn)
        said = [one for one in reports if any(s.iqn == row.iqn for s in one.sessions)]
        if said:
            _sync_target(connection, row.uuid, row.iqn, said)
        elif sure:
            _drop_target(connection, row.uuid)
    for iqn in sorted(announced):
        now, uuid = now_s(), new_uuid()
        values = {"uuid": uuid, "iscsi_server_uuid": server_uuid, "iqn": iqn, "state": "Enabled"}
        connection.execute(insert(iscsi_target_table), {**values, "create_date": now, "last_op_date": now})
        _sync_target(connection, uuid, iqn, reports)


def check_luns(connection: Connection, server_uuid: str, said_now: Mapping[str, IscsiServerReport]) -> None:
    """Raise HardpointError (ISCSI.1002) for LUNs of which nobody could say which is which.

    They are when hosts see another WWID at the same place, or a place had another one for a host that has not
    been asked, or two LUNs have the same WWID. `said_now` is by host.
    """
    places: dict[tuple[str, int], IscsiLun] = {}
    every: list[IscsiLun] = []
    for said in [*said_now.values(), *reports_of(connection, server_uuid, said_now.keys())]:
        for lun in said.luns:
            first = places.setdefault((lun.iqn, lun.lun), lun)
            if first.wwid != lun.wwid:
                raise _unclear(
                    f"{shown(first)} is {first.wwid} on one host and {lun.wwid} on another",
                    "have the iSCSI server give all hosts the same LUNs, refresh it and try again",
                )
        every += said.luns
    every += [_lun_of(row, row.iqn) for row in _others(connection, server_uuid)]
    for one, other in clashes_of(every):
        raise _unclear(
            f"{shown(one)} and {shown(other)} both report the WWID {one.wwid}",
            "give each unit a serial number of its own on the iSCSI server",
        )


def _others(connection: Connection, server_uuid: str) -> list[Row[Any]]:
    luns, targets = iscsi_lun_table, iscsi_target_table
    joined = luns.join(targets, targets.c.uuid == luns.c.iscsi_target_uuid)
    query = select(luns, targets.c.iqn).select_from(joined)
    return list(connection.execute(query.where(targets.c.iscsi_server_uuid != server_uuid)))


def _targets(connection: Connection, server_uuid: str) -> list[Row[Any]]:
    mine = iscsi_target_table.c.iscsi_server_uuid == server_uuid
    return list(connection.execute(select(iscsi_target_table).where(mine)))


def _rows(connection: Connection, target_uuid: str) -> dict[int, Row[Any]]:
    mine = iscsi_lun_table.c.iscsi_target_uuid == target_uuid
    return {row.number: row for row in connection.execute(select(iscsi_lun_table).where(mine))}


def _sync_target(connection: Connection, uuid: str, iqn: str, reports: list[IscsiServerReport]) -> None:
    found: dict[int, IscsiLun] = {}
    for said in reports:
        for lun in said.luns:
            if lun.iqn == iqn:
                found.setdefault(lun.lun, lun)
    rows = _rows(connection, uuid)
    for number, lun in found.items():
        _write(connection, uuid, rows.get(number), lun)
    if not any(_sees(said, iqn) for said in reports):
        return
    for number in rows.keys() - found.keys():
        _drop_lun(connection, rows[number])


def _sees(said: IscsiServerReport, iqn: str) -> bool:
    up = SessionState.LOGGED_IN
    return any(session.iqn == iqn and session.state is up for session in said.sessions)


def _write(connection: Connection, target_uuid: str, row: Row[Any] | None, lun: IscsiLun) -> None:
    now, values = now_s(), _columns(lun)
    if row is None:
        key = {"uuid": new_uuid(), "iscsi_target_uuid": target_uuid}
        connection.execute(
            insert(iscsi_lun_table), {**key, **values, "create_date": now, "last_op_date": now}
        )
    elif any(row._mapping[name] != value for name, value in values.items()):
        mine = iscsi_lun_table.c.uuid == row.uuid
        connection.execute(update(iscsi_lun_table).where(mine).values(**values, last_op_date=now))


def _columns(lun: IscsiLun) -> dict[str, Any]:
    return {
        "wwid": lun.wwid,
        "vendor": lun.vendor,
        "model": lun.model,
        "wwn": lun.wwn,
        "serial": lun.serial,
        "hctl": lun.hctl,
        "type": lun.type,
        "path": lun.path,
        "size": lun.size,
        "multipath_device_uuid": lun.multipath,
        "number": lun.lun,
        "unit_serial": lun.unit_serial,
    }


def _lun_of(row: Row[Any], iqn: str) -> IscsiLun:
    return IscsiLun(
        iqn=iqn,
        lun=row.number,
        wwid=row.wwid,
        wwn=row.wwn,
        vendor=row.vendor,
        model=row.model,
        serial=row.serial,
        unit_serial=row.unit_serial,
        hctl=row.hctl,
        type=row.type,
        path=row.path,
        size=row.size,
        state="running",
        multipath=row.multipath_device_uuid,
    )


def _drop_target(connection: Connection, uuid: str) -> None:
    kept = [_drop_lun(connection, row) for row in _rows(connection, uuid).values()]
    if not all(kept):
        return
    connection.execute(delete(iscsi_target_table).where(iscsi_target_table.c.uuid == uuid))
    drop_tags(connection, uuid)


def _drop_lun(connection: Connection, row: Row[Any]) -> bool:
    """Remove a LUN's row; say whether it is gone."""
    if user_of(connection, row.wwid) is not None:
        return False
    connection.execute(delete(iscsi_lun_table).where(iscsi_lun_table.c.uuid == row.uuid))
    drop_tags(connection, row.uuid)
    return True


def _unclear(details: str, remedy: str) -> HardpointError:
    return HardpointError("ISCSI.1002", "Two LUNs have one WWID", details, remedy=remedy)
