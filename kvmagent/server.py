"""The agent's process: `serve --config FILE`. Here the readers of the machine meet the daemon."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from importlib import metadata
from pathlib import Path

from agentkit import logs
from agentkit.agent import Identity, new_instance
from agentkit.daemon import EXIT_CANNOT_START, Daemon, DaemonConfig
from agentkit.errors import HardpointError
from agentkit.events import EventHub
from agentkit.runner import ProcessRunner
from agentkit.tls import ServerCredentials
from agentkit.wire import EventKind
from kvmagent.handlers import HANDLERS, RERUNNABLE, Context
from kvmagent.host_iommu.keeper import IommuKeeper
from kvmagent.inventory import diff, take_inventory
from kvmagent.machine.network import NETLINK_ARGV, NETLINK_TIMEOUT_S, Netlink, parse_netlink
from kvmagent.os_update.follower import OsUpdates
from kvmagent.owner import Ownership
from kvmagent.settings import Settings, load
from kvmagent.stock import Stocktaker
from kvmagent.udev import DeviceWatch

AGENT = "kvmagent"

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Run `serve --config FILE` and return the exit code: 0 stopped, 1 a fault, 2 cannot start."""
    parser = argparse.ArgumentParser(prog=AGENT)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the management node until stopped")
    serve.add_argument("--config", type=Path, required=True, help="TOML file")
    arguments = parser.parse_args(argv)
    try:
        settings = load(arguments.config)
        logs.setup(AGENT, settings.log_level)
        daemon = build(settings)
    except HardpointError as error:
        sys.stderr.write(f"{AGENT}: {error.details}; {error.remedy}\n")
        return EXIT_CANNOT_START
    return daemon.run()


def build(settings: Settings) -> Daemon[Context]:
    """Wire the agent together. Raises HardpointError when the state on disk cannot be understood."""
    hub = EventHub(new_instance())
    root, runner = Path(settings.root), ProcessRunner()
    real = root == Path("/")
    state_dir = Path(settings.state_dir)

    async def ask() -> Netlink | None:
        if not real:
            return None
        completed = await runner.run(NETLINK_ARGV, timeout_s=NETLINK_TIMEOUT_S)
        return parse_netlink(completed.check().stdout)

    stock = Stocktaker(
        ask,
        lambda netlink: take_inventory(root, netlink, management_address=settings.management_address),
        diff,
        lambda event: hub.publish(EventKind.DEVICE, event),
        watch=_watch() if real else None,
        rescan_s=settings.rescan_s,
    )
    ownership = Ownership(state_dir)

    credentials = ServerCredentials(
        Path(settings.certificate),
        Path(settings.key),
        Path(settings.ca),
        Path(settings.installed_certificate) if settings.installed_certificate else None,
    )
    config = DaemonConfig(
        settings.listen_address,
        settings.port,
        state_dir,
        credentials,
    )
    identity = Identity(AGENT, agent_version(), lambda: ownership.host_uuid, stock.hash)
    iommu, os_updates = IommuKeeper(root, state_dir, runner), OsUpdates(root, state_dir, runner)
    context = Context(ownership, stock, credentials, iommu, os_updates)
    return Daemon(config, identity, hub, context, HANDLERS, rerunnable=RERUNNABLE, background=[stock.run])


@functools.cache
def agent_version() -> str:
    """Return the version of what a management node deployed, else of the whole project."""
    for name in ("hardpoint-kvmagent", "hardpoint"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def _watch() -> DeviceWatch | None:
    try:
        return DeviceWatch()
    except (ImportError, OSError) as error:
        extra = {"reason": str(error)}
        log.warning("no device events here: changes are found by rescans only", extra=extra)
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
