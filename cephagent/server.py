"""The agent's process: `serve --config FILE`. Here the cluster meets the daemon."""

from __future__ import annotations

import sys
from pathlib import Path

from agentkit.agent import Identity, deployed_version, new_instance
from agentkit.command import serve
from agentkit.daemon import Daemon, DaemonConfig
from agentkit.events import EventHub
from agentkit.grants import Grants
from agentkit.owner import Ownership
from agentkit.runner import ProcessRunner
from agentkit.wire import EventKind
from cephagent.cluster import Ceph
from cephagent.context import Context
from cephagent.handlers import HANDLERS, RERUNNABLE
from cephagent.images import Images
from cephagent.protocol import ClusterEvent, ClusterReport
from cephagent.public import Public
from cephagent.settings import Settings, load

AGENT = "cephagent"


def main(argv: list[str]) -> int:
    """Run `serve --config FILE` and return the exit code: 0 stopped, 1 a fault, 2 cannot start."""
    return serve(AGENT, load, build, argv)


def build(settings: Settings) -> Daemon[Context]:
    """Wire the agent together. Raises HardpointError when the state on disk cannot be understood."""
    hub, state_dir = EventHub(new_instance()), Path(settings.state_dir)

    def tell(report: ClusterReport) -> None:
        hub.publish(EventKind.DEVICE, ClusterEvent(inventory_hash=report.hash, inventory=report))

    ownership = Ownership(state_dir)
    # Whoever has an image's token needs no certificate; commands do (agentkit.routes).
    credentials = settings.credentials(client_certificates=False)
    ceph = Ceph(ProcessRunner(), settings.ceph_configuration, settings.ceph_user)
    context = Context(
        ownership=ownership,
        credentials=credentials,
        ceph=ceph,
        images=Images(ceph, Path(settings.ca)),
        grants=Grants(state_dir),
        tell=tell,
        look_every_s=settings.look_every_s,
    )
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
