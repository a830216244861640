"""The agent's process: `serve --config FILE`. Here the store meets the daemon."""

from __future__ import annotations

import sys
from pathlib import Path

from agentkit.agent import Identity, deployed_version, new_instance
from agentkit.command import serve
from agentkit.daemon import Daemon, DaemonConfig
from agentkit.events import EventHub
from agentkit.grants import Grants
from agentkit.owner import Ownership
from agentkit.wire import EventKind
from storageagent.context import Context
from storageagent.handlers import HANDLERS, RERUNNABLE
from storageagent.protocol import StoreEvent, StoreReport
from storageagent.public import Public
from storageagent.settings import Settings, load

AGENT = "storageagent"


def main(argv: list[str]) -> int:
    """Run `serve --config FILE` and return the exit code: 0 stopped, 1 a fault, 2 cannot start."""
    return serve(AGENT, load, build, argv)


def build(settings: Settings) -> Daemon[Context]:
    """Wire the agent together. Raises HardpointError when the state on disk cannot be understood."""
    hub, state_dir = EventHub(new_instance()), Path(settings.state_dir)

    def tell(report: StoreReport) -> None:
        hub.publish(EventKind.DEVICE, StoreEvent(inventory_hash=report.hash, inventory=report))

    ownership = Ownership(state_dir)
    # Whoever has an image's token needs no certificate; commands do (agentkit.routes).
    credentials = settings.credentials(client_certificates=False)
    context = Context(
        ownership=ownership,
        credentials=credentials,
        state_dir=state_dir,
        authority=Path(settings.ca),
        grants=Grants(state_dir),
        tell=tell,
    )
    context.reopen()
    config = DaemonConfig(settings.listen_address, settings.port, state_dir, credentials)
    identity = Identity(AGENT, deployed_version(AGENT), lambda: ownership.host_uuid, context.inventory_hash)
    return Daemon(
        config,
        identity,
        hub,
        context,
        HANDLERS,
        rerunnable=RERUNNABLE,
        background=[context.watch],
        public=Public(context).routes(),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
