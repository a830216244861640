"""iSCSI on a simulated host: each server has one target with two LUNs, which every host finds the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kvmagent.iscsi.portals import SessionKey, by_path_name
from kvmagent.protocol_iscsi import (
    IscsiLun,
    IscsiReport,
    IscsiServer,
    IscsiServerReport,
    IscsiSession,
    SessionState,
)

LUNS = 2
LUN_BYTES = 10 * 2**30


class SimulatedIscsi:
    """Lets the host in whatever it says of itself; which servers it needs is in `iscsi.json`."""

    def __init__(self, home: Path) -> None:
        self._file = home / "iscsi.json"
        self._needed: dict[str, IscsiServer] = {}

    async def login(self, server: IscsiServer) -> IscsiServerReport:
        """Need a server."""
        self._needed[server.uuid] = server
        self._write()
        return _report(server)

    async def change(self, server: IscsiServer) -> None:
        """Log in otherwise from now on."""
        if server.uuid in self._needed:
            self._needed[server.uuid] = server

    async def logout(self, server_uuid: str) -> None:
        """Need a server no longer."""
        self._needed.pop(server_uuid, None)
        self._write()

    async def sync(self, servers: Sequence[IscsiServer]) -> IscsiReport:
        """Need these servers and no others."""
        self._needed = {server.uuid: server for server in servers}
        self._write()
        return IscsiReport(servers=[_report(server) for server in servers])

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(sorted(self._needed)))
        new.replace(self._file)


def _report(server: IscsiServer) -> IscsiServerReport:
    key = SessionKey(
        f"iqn.2018-01.org.simulated:{server.address.replace(':', '-')}", server.address, server.port
    )
    session = IscsiSession(iqn=key.iqn, address=key.address, port=key.port, state=SessionState.LOGGED_IN)
    luns = [_lun(key, number) for number in range(LUNS)]
    return IscsiServerReport(server_uuid=server.uuid, sessions=[session], luns=luns)


def _lun(key: SessionKey, number: int) -> IscsiLun:
    identifier = "6" + hashlib.sha256(f"{key} {number}".encode()).hexdigest()[:31]
    return IscsiLun(
        iqn=key.iqn,
        lun=number,
        wwid=f"3{identifier}",
        wwn=f"0x{identifier[:16]}",
        vendor="SIMULATE",
        model="lun",
        serial=identifier,
        unit_serial=None,
        hctl=f"2:0:0:{number}",
        type="mpath",
        path=by_path_name(key, number),
        size=LUN_BYTES,
        state="running",
        multipath=f"3{identifier}",
    )
