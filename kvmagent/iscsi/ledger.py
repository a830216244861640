"""The ledger: which servers this host needs, which targets they have, which sessions are of our making."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agentkit.errors import HardpointError
from agentkit.files import write_durably
from agentkit.wire import Wire
from kvmagent.iscsi.portals import SessionKey, Target
from kvmagent.protocol_iscsi import IscsiServer

FILE = "iscsi.json"


class Needed(Wire):
    """A server that is needed, and what it announced last."""

    server: IscsiServer
    targets: list[Target] = msgspec.field(default_factory=list)


class Ledger(Wire):
    """`ours` are the targets that were logged in to from here: what is among them and needed by no server is
    an orphan. Sessions that somebody else began are in neither, and stay.

    `wwids` are those that multipath was told of.
    """

    needed: list[Needed] = msgspec.field(default_factory=list)
    ours: list[Target] = msgspec.field(default_factory=list)
    wwids: list[str] = msgspec.field(default_factory=list)

    def find(self, server_uuid: str) -> Needed | None:
        """Return what is known of a server, None when it is not needed."""
        return next((one for one in self.needed if one.server.uuid == server_uuid), None)

    def need(self, server: IscsiServer, targets: list[Target]) -> None:
        """Note that a server is needed, with these targets."""
        self.needed = [one for one in self.needed if one.server.uuid != server.uuid]
        self.needed.append(Needed(server=server, targets=targets))
        known = {target.key for target in self.ours}
        self.ours += [target for target in targets if target.key not in known]

    def forget(self, server_uuid: str) -> None:
        """Note that a server is no longer needed; its sessions are orphans until they are ended."""
        self.needed = [one for one in self.needed if one.server.uuid != server_uuid]

    def needs(self, *, but: str | None = None) -> dict[SessionKey, Target]:
        """Return the sessions that servers need, those of one server aside."""
        return {target.key: target for one in self.needed if one.server.uuid != but for target in one.targets}

    def orphans(self) -> dict[SessionKey, Target]:
        """Return what is of our making and needed no more."""
        needs = self.needs()
        return {target.key: target for target in self.ours if target.key not in needs}

    def ended(self, key: SessionKey) -> None:
        """Note that nothing is left of a session."""
        self.ours = [target for target in self.ours if target.key != key]


def load(state_dir: Path) -> Ledger:
    """Return the ledger, an empty one at first. Raises HardpointError (SYS.1000) when it cannot be read."""
    path = state_dir / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ledger)
    except FileNotFoundError:
        return Ledger()
    except (OSError, msgspec.DecodeError) as error:
        raise HardpointError(
            "SYS.1000",
            "Internal error",
            f"what this host needs of iSCSI cannot be read from {path}: {error}",
            remedy="remove the file: the management node says again what is needed",
        ) from error


def save(state_dir: Path, ledger: Ledger) -> None:
    """Write the ledger, mode 600: it has the secrets with which lost sessions are logged in again."""
    write_durably(state_dir / FILE, msgspec.json.encode(ledger))
