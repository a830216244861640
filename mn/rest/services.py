"""What an operation has at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from mn.db.engine import Database
from mn.db.global_settings import GlobalSettings
from mn.db.vault import Vault
from mn.fleet.fleet import Fleet
from mn.fleet.outputs import OutputStore
from mn.fleet.shares import Shares
from mn.jobs import job as jobs
from mn.jobs.engine import Engine
from mn.rest.sessions import Sessions
from mn.rest.types import RequestCodec
from mn.settings import Settings


@dataclass
class Services:
    """The parts of the management node that operations use; wired in `mn.app`."""

    settings: Settings
    db: Database
    vault: Vault
    global_settings: GlobalSettings
    sessions: Sessions
    fleet: Fleet
    codec: RequestCodec
    incarnation: str
    """Changes with every start of the process."""
    shell_turns: Shares
    """The places that calls of KvmRunShell share."""
    outputs: OutputStore
    """What scripts printed beyond what replies hold."""
    engine: Engine[Services] = field(init=False)
    """The jobs; set when the engine, which needs the services, has been made."""


Job: TypeAlias = jobs.Job[Services]


@dataclass
class Call:
    """A request that is answered at once. What is put into `headers` goes out with the answer."""

    services: Services
    session_uuid: str | None
    account_uuid: str | None
    headers: dict[str, str] = field(default_factory=dict)
