"""What hosts are asked about iSCSI: all hosts of a cluster at once, with one answer from each."""

from __future__ import annotations

import asyncio
import logging
import uuid as uuids
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from agentkit.errors import Blame, ErrorBody, HardpointError
from agentkit.turns import Turns
from agentkit.wire import Command
from kvmagent.protocol_iscsi import (
    ChangeIscsi,
    Chap,
    IscsiReport,
    IscsiServer,
    IscsiServerReport,
    LoginIscsi,
    LogoutIscsi,
    SessionState,
    SyncIscsi,
)
from mn.db.schema import new_uuid, now_s
from mn.db.vault import Vault
from mn.facilities.hosts.holdings import given_back, hold, holdings_of
from mn.facilities.hosts.tables import host_table, load_host
from mn.facilities.iscsi.luns import sync_luns
from mn.facilities.iscsi.tables import (
    CONNECTED,
    DEGRADED,
    DISCONNECTED,
    host_ref_table,
    iscsi_server_table,
    load_server,
    servers_of_cluster,
)
from mn.fleet.client import Endpoint
from mn.rest.services import Services

log = logging.getLogger(__name__)

SEALED_FOR = "CHAP secret of an iSCSI server"
RUNNING = "running"
SESSIONS = "iscsi"
"""Hosts hold the sessions to each server until they say that they have it no longer."""
turns = Turns()
"""Held from when it is written that a host may have servers until what it says is: what it was asked before
is not taken for what it says now, and what it says of itself later is not written over.
"""


class HostAnswer(msgspec.Struct, frozen=True):
    """What one host said: a report, or why there is none."""

    host_uuid: str
    report: IscsiServerReport | None = None
    error: ErrorBody | None = None


async def login_hosts(
    services: Services, server_uuid: str, host_uuids: list[str], task_uuid: str
) -> list[HostAnswer]:
    """Have hosts log in to a server and find its LUNs anew; what one says is written when it has said it."""
    server = await load_spec(services, server_uuid)
    if server is None:
        return []

    async def one(host_uuid: str) -> HostAnswer:
        async with turns.of(host_uuid):
            await services.db.write(hold, host_uuid, SESSIONS, server_uuid)
            answer = await _login(services, host_uuid, server, task_uuid)
            await services.db.write(save_answer, server_uuid, answer)
        return answer

    return await _each(host_uuids, one)


async def _login(services: Services, host_uuid: str, server: IscsiServer, task_uuid: str) -> HostAnswer:
    try:
        report = await ask_host(services, host_uuid, LoginIscsi(server=server), task_uuid)
        return HostAnswer(host_uuid, report)
    except HardpointError as error:
        return HostAnswer(host_uuid, error=error.to_body())


async def logout_hosts(
    services: Services, server_uuid: str, host_uuids: list[str], task_uuid: str
) -> list[HostAnswer]:
    """Have hosts log out of a server."""

    async def one(host_uuid: str) -> HostAnswer:
        async with turns.of(host_uuid):
            await ask_host(services, host_uuid, LogoutIscsi(server_uuid=server_uuid), task_uuid)
            await services.db.write(given_back, host_uuid, SESSIONS, server_uuid)
        return HostAnswer(host_uuid)

    return await _each(host_uuids, one)


async def change_hosts(
    services: Services, server_uuid: str, host_uuids: list[str], task_uuid: str
) -> list[HostAnswer]:
    """Have hosts log in to a server by another name and secret from the next time on."""
    server = await load_spec(services, server_uuid)
    if server is None:
        return []

    async def one(host_uuid: str) -> HostAnswer:
        async with turns.of(host_uuid):
            await ask_host(services, host_uuid, ChangeIscsi(server=server), task_uuid)
        return HostAnswer(host_uuid)

    return await _each(host_uuids, one)


async def sync_host(services: Services, host_uuid: str) -> None:
    """Have a host log in to all servers of its cluster and out of all others; note what it says.

    What is attached or detached meanwhile is not lost: the host is asked again then.
    """
    async with turns.of(host_uuid):
        await _sync(services, host_uuid)


async def _sync(services: Services, host_uuid: str) -> None:
    rows, asked_for = await services.db.read(load_wanted, host_uuid), None
    while rows is not None and [row.uuid for row in rows] != asked_for:
        servers = [spec_of(services.vault, row) for row in rows]
        asked_for = [server.uuid for server in servers]
        await services.db.write(hold_servers, host_uuid, asked_for)
        report: IscsiReport = await ask_host(services, host_uuid, SyncIscsi(servers=servers), new_uuid())
        await services.db.write(save_report, host_uuid, report)
        await services.db.write(forget_others, host_uuid, report)
        rows = await services.db.read(load_wanted, host_uuid)


async def _each(host_uuids: list[str], ask: Callable[[str], Awaitable[HostAnswer]]) -> list[HostAnswer]:
    async def one(host_uuid: str) -> HostAnswer:
        try:
            return await ask(host_uuid)
        except HardpointError as error:
            return HostAnswer(host_uuid, error=error.to_body())

    return list(await asyncio.gather(*(one(uuid) for uuid in host_uuids)))


async def ask_host(services: Services, host_uuid: str, command: Command[Any], task_uuid: str) -> Any:
    """Return what a host's agent says; `task_uuid` and the host are what it knows the task by."""
    endpoint = await services.db.read(load_endpoint, host_uuid)
    if endpoint is None:
        raise HardpointError("SYS.1003", "Resource not found", f"host {host_uuid} is gone or has no agent")
    task = uuids.uuid5(uuids.UUID(task_uuid), host_uuid).hex
    reply = await services.fleet.call(endpoint, command, task)
    services.fleet.acknowledge(endpoint, task)
    return reply


def load_endpoint(connection: Connection, host_uuid: str) -> Endpoint | None:
    """Return where a host's agent listens, None when there is none."""
    host = load_host(connection, host_uuid)
    if host is None or host.agent_port is None:
        return None
    return Endpoint(host.uuid, host.agent_address, host.agent_port)


async def load_spec(services: Services, server_uuid: str) -> IscsiServer | None:
    """Return a server as agents know it, None when it is gone."""
    row = await services.db.read(load_server, server_uuid)
    return spec_of(services.vault, row) if row is not None else None


def spec_of(vault: Vault, row: Row[Any]) -> IscsiServer:
    """Return a server as agents know it."""
    return IscsiServer(
        uuid=row.uuid,
        address=row.ip,
        port=row.port,
        chap=_chap(vault, row.chap_user_name, row.chap_secret),
        mutual=_chap(vault, row.mutual_chap_user_name, row.mutual_chap_secret),
    )


def _chap(vault: Vault, user: str | None, sealed: str | None) -> Chap | None:
    if user is None or sealed is None:
        return None
    return Chap(user=user, secret=vault.open(sealed, SEALED_FOR))


def load_wanted(connection: Connection, host_uuid: str) -> list[Row[Any]] | None:
    """Return the servers that a host needs, None when it needs none and holds none either."""
    host = load_host(connection, host_uuid)
    if host is None or host.agent_port is None:
        return None
    servers, uuids_wanted = iscsi_server_table.c, servers_of_cluster(connection, host.cluster_uuid)
    if not uuids_wanted and not holdings_of(connection, host_uuid, SESSIONS):
        return None
    query = select(iscsi_server_table).where(servers.uuid.in_(uuids_wanted)).order_by(servers.seq)
    return list(connection.execute(query))


def save_answer(connection: Connection, server_uuid: str, answer: HostAnswer) -> None:
    """Write what a host said of a server; its targets and LUNs follow when all have been asked."""
    report = answer.report or IscsiServerReport(server_uuid=server_uuid, error=answer.error)
    _save_host(connection, answer.host_uuid, report)


def save_report(connection: Connection, host_uuid: str, report: IscsiReport) -> None:
    """Write what a host says of all its servers."""
    for one in report.servers:
        if _save_host(connection, host_uuid, one):
            sync_luns(connection, one.server_uuid)
    for orphan in report.orphans:
        extra = {"host": host_uuid, "iqn": orphan.iqn, "portal": f"{orphan.address}:{orphan.port}"}
        log.warning("iSCSI session that nothing needs", extra=extra)


def forget_others(connection: Connection, host_uuid: str, report: IscsiReport) -> None:
    """Forget that a host has servers that are not among those that it reports."""
    refs, reported = host_ref_table.c, [one.server_uuid for one in report.servers]
    others = (refs.host_uuid == host_uuid) & refs.iscsi_server_uuid.not_in(reported)
    connection.execute(delete(host_ref_table).where(others))
    for held in holdings_of(connection, host_uuid, SESSIONS):
        if held.subject not in reported:
            given_back(connection, host_uuid, SESSIONS, held.subject)


def hold_servers(connection: Connection, host_uuid: str, server_uuids: list[str]) -> None:
    """Note that a host is to have sessions to servers."""
    for server_uuid in server_uuids:
        hold(connection, host_uuid, SESSIONS, server_uuid)


def forget_hosts(connection: Connection, server_uuid: str, host_uuids: list[str]) -> None:
    """Forget that hosts have a server."""
    refs = host_ref_table.c
    mine = (refs.iscsi_server_uuid == server_uuid) & refs.host_uuid.in_(host_uuids)
    connection.execute(delete(host_ref_table).where(mine))


def status_of(report: IscsiServerReport) -> tuple[str, str | None]:
    """Return a host's status of a server, and what is wrong."""
    down = [session for session in report.sessions if session.state is not SessionState.LOGGED_IN]
    failed = [lun for lun in report.luns if lun.state != RUNNING]
    reasons = [f"{s.iqn} at {s.address}: {s.reason or 'the connection is lost'}" for s in down]
    reasons += [f"{lun.path} is {lun.state}" for lun in failed]
    if report.error is not None and not reasons:
        reasons = [report.error.details]
    if not reasons:
        return CONNECTED, None
    some = any(session.state is SessionState.LOGGED_IN for session in report.sessions)
    return (DEGRADED if some else DISCONNECTED), "; ".join(reasons)


def _save_host(connection: Connection, host_uuid: str, report: IscsiServerReport) -> bool:
    """Write it and return True unless the host has given the server back: it was said before that."""
    held = [each.subject for each in holdings_of(connection, host_uuid, SESSIONS)]
    if report.server_uuid not in held or load_server(connection, report.server_uuid) is None:
        return False
    refs, now = host_ref_table, now_s()
    mine = (refs.c.iscsi_server_uuid == report.server_uuid) & (refs.c.host_uuid == host_uuid)
    row = connection.execute(select(refs).where(mine)).first()
    status, reason = status_of(report)
    down = {(s.iqn, s.address) for s in report.sessions if s.state is not SessionState.LOGGED_IN}
    lost = {iqn for iqn, _ in down}
    values = {
        "status": status,
        "reason": reason,
        "paths": len(report.luns),
        "failed_paths": sum(lun.state != RUNNING or lun.iqn in lost for lun in report.luns),
        "report": msgspec.to_builtins(report),
    }
    if row is None:
        key = {"uuid": new_uuid(), "iscsi_server_uuid": report.server_uuid, "host_uuid": host_uuid}
        connection.execute(insert(refs), {**key, **values, "create_date": now, "last_op_date": now})
    else:
        connection.execute(update(refs).where(mine).values(**values, last_op_date=now))
    if row is None or row.status != status:
        extra = {"host": host_uuid, "server": report.server_uuid, "status": status, "reason": reason}
        log.log(logging.INFO if status == CONNECTED else logging.WARNING, "iSCSI of a host", extra=extra)
    return True


def reports_by_host(answers: Sequence[HostAnswer]) -> dict[str, IscsiServerReport]:
    """Return the reports of those that have said something."""
    return {answer.host_uuid: answer.report for answer in answers if answer.report is not None}


def check_answers(connection: Connection, answers: Sequence[HostAnswer], what: str) -> None:
    """Raise HardpointError (SYS.1006) when some host failed; each is named with its reason."""
    failed = [answer for answer in answers if answer.error is not None]
    if not failed:
        return
    names = {row.uuid: row.name for row in connection.execute(select(host_table.c.uuid, host_table.c.name))}
    said = [
        f"host {names.get(answer.host_uuid, '')} ({answer.host_uuid}): {answer.error.details}"
        for answer in failed
        if answer.error is not None
    ]
    first = failed[0].error
    raise HardpointError(
        "SYS.1006",
        "Operation failed",
        f"{what} on {len(failed)} of {len(answers)} hosts: {'; '.join(said)}",
        remedy=first.remedy if first else "",
        blame=Blame.SYSTEM,
        cause=HardpointError.from_body(first) if first else None,
    )
