"""The agent's process: `serve --config FILE`. Here the readers of the machine meet the daemon."""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path

from agentkit.agent import Identity, deployed_version, new_instance
from agentkit.command import serve
from agentkit.daemon import Daemon, DaemonConfig
from agentkit.events import EventHub
from agentkit.owner import Ownership
from agentkit.runner import ProcessRunner
from agentkit.wire import EventKind
from kvmagent.door import Door
from kvmagent.handlers import HANDLERS, RERUNNABLE, Context
from kvmagent.host_iommu.keeper import IommuKeeper
from kvmagent.inventory import diff, take_inventory
from kvmagent.iscsi.keeper import IscsiKeeper
from kvmagent.machine.mounts import read_mounts
from kvmagent.machine.network import NETLINK_ARGV, NETLINK_TIMEOUT_S, Netlink, parse_netlink
from kvmagent.machine.tree import Tree
from kvmagent.network.keeper import NetworkKeeper, NoNetworks
from kvmagent.os_update.follower import OsUpdates
from kvmagent.passthrough.keeper import PciKeeper
from kvmagent.passthrough.kernel import Kernel, NoKernel, read_machine
from kvmagent.protocol import DeviceEvent
from kvmagent.protocol_vms import VmEvent
from kvmagent.settings import Settings, load
from kvmagent.shared_block.vms_on import end_vms_on, revive_vms_on, written_on
from kvmagent.stock import Stocktaker
from kvmagent.storage.handling import StoragePlace, Storages, make_storages
from kvmagent.udev import DeviceWatch
from kvmagent.usb_sharing.keeper import UsbKeeper
from kvmagent.usb_sharing.wants import Wants
from kvmagent.vms.keeper import LibvirtVms, host_machine
from kvmagent.vms.libvirt import Libvirt
from kvmagent.vms.moving import LibvirtMoves
from kvmagent.vms.rbd_keys import RbdKeys

AGENT = "kvmagent"
SYSTEM_LIBVIRT = "qemu:///system"

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Run `serve --config FILE` and return the exit code: 0 stopped, 1 a fault, 2 cannot start."""
    return serve(AGENT, load, build, argv)


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

    def device_changed(event: DeviceEvent) -> None:
        hub.publish(EventKind.DEVICE, event)
        if event.usb is not None:
            usb.stir()

    def vm_changed(uuid: str | None) -> None:
        hub.publish(EventKind.VM, VmEvent(uuid=uuid.replace("-", "") if uuid else None))
        usb.stir()
        pci.stir()
        storages.shared_blocks.stir()

    stock = Stocktaker(
        ask,
        lambda netlink: take_inventory(root, netlink, management_address=settings.management_address),
        diff,
        device_changed,
        watch=_watch() if real else None,
        rescan_s=settings.rescan_s,
    )
    ownership = Ownership(state_dir)

    credentials = settings.credentials()
    config = DaemonConfig(
        settings.listen_address,
        settings.port,
        state_dir,
        credentials,
    )
    identity = Identity(AGENT, agent_version(), lambda: ownership.host_uuid, stock.hash)
    iommu, os_updates = IommuKeeper(root, state_dir, runner), OsUpdates(root, state_dir, runner)
    door = Door(state_dir, credentials, settings.listen_address, settings.transfer_port)
    storages = _storages(settings, door, hub, ownership)
    libvirt = Libvirt(settings.libvirt_uri or SYSTEM_LIBVIRT, vm_changed)
    machine = host_machine(root, settings.management_address, emulated=settings.emulate)
    vms = LibvirtVms(libvirt, machine, Path(settings.local_storage_root))
    storages.shared_blocks.fence = functools.partial(end_vms_on, vms)
    storages.vm_disks.written = functools.partial(written_on, vms)
    storages.vm_disks.revive = functools.partial(revive_vms_on, vms)
    keys = RbdKeys(libvirt, storages.ceph.key)
    storages.vm_disks.give_keys = keys.give
    storages.ceph.forget = keys.forget
    moves = LibvirtMoves(libvirt, vms, machine, door, Path(settings.ca))
    moves.arrive = storages.vm_disks.arrive
    usb = UsbKeeper(vms, stock, stock.latest, Wants(state_dir))
    networks = NetworkKeeper(state_dir, runner) if real else NoNetworks()
    iscsi = IscsiKeeper(root, state_dir, runner, lambda event: hub.publish(EventKind.ISCSI, event))
    pci = PciKeeper(
        state_dir,
        Kernel(root, runner) if real else NoKernel(),
        stock.take_devices,
        lambda inventory, holders: read_machine(Tree(root), inventory, holders),
        vms.get,
    )

    async def prepare() -> None:
        await networks.prepare()
        await pci.prepare()

    context = Context(
        ownership=ownership,
        credentials=credentials,
        stock=stock,
        iommu=iommu,
        os_updates=os_updates,
        storages=storages,
        vms=vms,
        moves=moves,
        networks=networks,
        pci=pci,
        usb=usb,
        iscsi=iscsi,
    )
    background = [stock.run, storages.keeper.run, storages.offers.run, door.run, iscsi.run]
    if real or settings.libvirt_uri:
        background += [libvirt.run, pci.run, usb.run, storages.vm_disks.run]
    return Daemon(
        config,
        identity,
        hub,
        context,
        HANDLERS,
        rerunnable=RERUNNABLE,
        background=background,
        prepare=prepare,
    )


def _storages(
    settings: Settings,
    door: Door,
    hub: EventHub,
    ownership: Ownership,
) -> Storages:
    root = Path(settings.root)
    local_root = Path(settings.local_storage_root)
    place = StoragePlace(Path(settings.state_dir), Path(settings.ca), local_root, root)
    machine = Tree(Path("/"))  # what is mounted where is asked of this machine's kernel, whatever `root` is
    runner = ProcessRunner(linked=True, umask=0o022)  # a storage's images are read by processes of VMs
    return make_storages(
        place, runner, door, hub, lambda: ownership.host_uuid or "nobody", lambda: read_mounts(machine)
    )


@functools.cache
def agent_version() -> str:
    """Return the version of this agent."""
    return deployed_version(AGENT)


def _watch() -> DeviceWatch | None:
    try:
        return DeviceWatch()
    except (ImportError, OSError) as error:
        extra = {"reason": str(error)}
        log.warning("no device events here: changes are found by rescans only", extra=extra)
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
