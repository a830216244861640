"""Schema migrations: alembic, run by the management node at its start."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from agentkit.errors import HardpointError

log = logging.getLogger(__name__)


def upgrade(connection: Connection) -> None:
    """Bring the schema to this version's.

    Raises HardpointError (SYS.1000) when the database was written by a newer version.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    current = _current(connection)
    if current == scripts.get_current_head():
        return
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise HardpointError(
            "SYS.1000",
            "Internal error",
            f"the database is at schema {current}, which this version does not know",
            remedy="start the version that wrote it, or a newer one",
        )
    log.info("schema upgrade", extra={"from": current, "to": scripts.get_current_head()})
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version
