"""What may be wrong with a PostgreSQL database, in words that help; no message has the password."""

from __future__ import annotations

import urllib.parse
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from agentkit.errors import Blame, HardpointError
from mn.db.engine import DatabaseAwayError

MIN_VERSION = 140000
"""PostgreSQL 14, the oldest that is still cared for."""


def place(url: str) -> str:
    """Return where a database is, without user and password: `host:5432/hardpoint`.

    Raises HardpointError (SYS.1007) when it is no URL of PostgreSQL.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port, query = parts.port, urllib.parse.parse_qs(parts.query)
    except ValueError:
        raise _no_url("it cannot be parsed") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise _no_url(f"it begins with '{parts.scheme}:'" if parts.scheme else "it has no scheme")
    name = parts.path.strip("/")
    if not name:
        raise _no_url("it names no database")
    host = parts.hostname or query.get("host", [""])[0] or "local socket"
    return f"{host}:{port or query.get('port', ['5432'])[0]}/{name}"


def check_server(where: str, server: Row[Any]) -> None:
    """Refuse a server that is too old, keeps texts in another encoding, or cannot be written.

    `server` has `version` (150004), `encoding` and `standby`.
    """
    if server.version < MIN_VERSION:
        raise _error(
            f"the server of {where} is PostgreSQL {server.version // 10000}",
            f"use PostgreSQL {MIN_VERSION // 10000} or newer",
        )
    if server.encoding != "UTF8":
        raise _error(
            f"the database {where} has the encoding {server.encoding}",
            "create one with ENCODING 'UTF8' TEMPLATE template0 and name it in database_url",
        )
    if server.standby:
        raise _error(f"the server of {where} is a standby, which takes no writes", "name the primary")


def lock_taken(where: str, holder: Row[Any] | None) -> HardpointError:
    """Return the error of a second node on a database."""
    who = "another management node"
    if holder is not None:
        address = holder.address or "this machine"
        who += f" ({holder.name}, at {address}, since {holder.since:%Y-%m-%d %H:%M:%S %Z})"
    return _error(
        f"{who} uses the database {where}",
        "stop it first, or give this node a database of its own; several nodes on one are not possible yet",
    )


def unusable(where: str, error: BaseException) -> HardpointError:
    """Return the error of a database that cannot be opened, connected to or upgraded."""
    root: Any = _root(error)
    state = str(getattr(root, "sqlstate", None) or "")
    reason = str(root).strip().splitlines()[0] if str(root).strip() else type(root).__name__
    if state.startswith("28"):
        return _away(f"{where} does not let the user of database_url in: {reason}", "correct database_url")
    if state == "3D000":
        return _away(f"{where}: {reason}", "create it: CREATE DATABASE <name> OWNER <user>")
    if state == "42501":
        return _away(
            f"the user of database_url may not do what is needed in {where}: {reason}",
            "make the user the database's owner, or GRANT CREATE, USAGE ON SCHEMA public TO <user>",
        )
    if isinstance(root, TimeoutError):
        reason = "no answer in time"
    if state:
        return _away(f"{where} cannot be used: {reason}", "see PostgreSQL's log")
    return _away(
        f"{where} cannot be reached: {reason}", "start PostgreSQL, or correct database_url; see its log too"
    )


def translated(where: str, error: BaseException, *, committing: bool) -> BaseException:
    """Return what a caller is told: refused values and lost connections in words, all else as it is."""
    if not isinstance(error, DBAPIError):
        return error if not isinstance(error, OSError) else unusable(where, error)
    root: Any = _root(error)
    reason = str(root).strip().splitlines()[0] if str(root).strip() else type(root).__name__
    if error.connection_invalidated:
        known = "whether the change was made is not known" if committing else "nothing was changed"
        return _away(f"the connection to {where} was lost: {reason}; {known}", "look, and try again")
    if str(getattr(root, "sqlstate", None) or "").startswith("22"):
        return HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"the database refused a value: {reason}",
            remedy="give a shorter text without U+0000",
            blame=Blame.CALLER,
        )
    return error


def _root(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    original = getattr(error, "orig", None) or error
    return original.__cause__ or original if isinstance(error, DBAPIError) else original


def _no_url(reason: str) -> HardpointError:
    return HardpointError(
        "SYS.1007",
        "Invalid argument",
        f"database_url is no URL of PostgreSQL: {reason}",
        remedy="write postgresql://user:password@host/database, or leave it empty for SQLite",
    )


def _away(details: str, remedy: str) -> HardpointError:
    return DatabaseAwayError("SYS.1000", "Internal error", details, remedy=remedy)


def _error(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1000", "Internal error", details, remedy=remedy)
