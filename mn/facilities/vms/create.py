"""CreateVmInstance: check, insert with NICs and addresses, start; all of it undone when a step fails."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, insert

from agentkit.errors import Blame, HardpointError
from mn.db.schema import now_s, uuid_from
from mn.facilities.cascade import delete_row
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import add, find, inventory
from mn.facilities.hosts.tables import HOST
from mn.facilities.images.tables import IMAGE
from mn.facilities.instance_offerings import (
    DEFAULT_ALLOCATOR,
    INSTANCE_OFFERING,
    CpuNum,
    MemorySize,
)
from mn.facilities.networks.l3 import give_back_address, take_address
from mn.facilities.networks.tables import L3_NETWORK
from mn.facilities.tags.rules import tags_for_part
from mn.facilities.vms.allocation import Wish
from mn.facilities.vms.disks import DATA_VOLUMES_MOST
from mn.facilities.vms.domains import CONSOLE_PASSWORD_FOR
from mn.facilities.vms.first_disks import FirstDisks, create_first_disks
from mn.facilities.vms.life import start_vm
from mn.facilities.vms.tables import VM, State, nic_table, nics_of
from mn.facilities.zones import ZONE
from mn.rest.operation import Create, Reply
from mn.rest.services import Job
from mn.rest.types import Description, Name, Ref

NICS_MOST = 24
DataDisks = Annotated[list[Ref], Meta(max_length=DATA_VOLUMES_MOST)]
Networks = Annotated[list[Ref], Meta(max_length=NICS_MOST)]
PASSWORD_LENGTH = 8
"""VNC takes no more."""
Strategy = Literal["InstantStart", "JustCreate", "CreateStopped"]


class CreateVmInstance(Create, path="/vm-instances", reply=VM):
    """Create a VM and, unless `strategy` says otherwise, start it.

    Its CPUs and memory are those of an instance offering, or are given. Its root volume is made of an image;
    without one it boots from its networks. `primaryStorageUuidForRootVolume` says where all its volumes are;
    without it they are where the chosen host has the most room. On Ceph the system tag
    `ceph::rootPoolName::name` says in which pool the root volume is.
    """

    name: Name
    instance_offering_uuid: Ref | None = None
    cpu_num: CpuNum | None = None
    memory_size: MemorySize | None = None
    image_uuid: Ref | None = None
    root_disk_offering_uuid: Ref | None = None
    data_disk_offering_uuids: DataDisks = msgspec.field(default_factory=list)
    primary_storage_uuid_for_root_volume: Ref | None = None
    l3_network_uuids: Networks = msgspec.field(default_factory=list)
    default_l3_network_uuid: Ref | None = None
    zone_uuid: Ref | None = None
    cluster_uuid: Ref | None = None
    host_uuid: Ref | None = None
    type: Literal["UserVm"] = "UserVm"
    description: Description | None = None
    strategy: Strategy = "InstantStart"

    def check(self) -> None:
        """Refuse a VM without a size, and a default network that it does not have."""
        if self.instance_offering_uuid is None and None in (self.cpu_num, self.memory_size):
            raise _illegal("neither instanceOfferingUuid nor cpuNum with memorySize is given", "give one")
        default = self.default_l3_network_uuid
        if self.image_uuid is None and self.root_disk_offering_uuid is not None:
            raise _illegal(
                "rootDiskOfferingUuid is given without imageUuid", "give an image, or leave it out"
            )
        _, of_root = tags_for_part("VmInstance", "Volume", self.system_tags)
        if self.image_uuid is None and of_root:
            raise _illegal(
                f"system tag '{of_root[0]}' is given without imageUuid", "give an image, or leave it out"
            )
        if default is not None and default not in self.l3_network_uuids:
            details = f"defaultL3NetworkUuid {default} is none of l3NetworkUuids"
            raise _illegal(details, "name one of the VM's networks")

    async def run(self, job: Job) -> Reply:
        """Insert the rows, then start it."""
        uuid = self.resource_uuid or job.uuid_for("vm")
        password = job.services.vault.seal(secrets.token_urlsafe(6)[:PASSWORD_LENGTH], CONSOLE_PASSWORD_FOR)
        own, of_root = tags_for_part("VmInstance", "Volume", self.system_tags)
        mine = msgspec.structs.replace(self, system_tags=own)
        await job.transact(insert_vm, uuid, mine, password, undo=remove_vm)
        job.at(20)
        wish = Wish(self.zone_uuid, self.cluster_uuid, self.host_uuid)
        disks = FirstDisks(
            self.name,
            self.image_uuid,
            self.root_disk_offering_uuid,
            self.data_disk_offering_uuids,
            self.primary_storage_uuid_for_root_volume,
            of_root,
        )
        if disks.any:
            await create_first_disks(job, uuid, disks, wish)
        job.at(80)
        if self.strategy == "InstantStart":
            await start_vm(job, uuid, wish)
        return await inventory(job.services, VM, uuid)


def insert_vm(connection: Connection, uuid: str, wanted: CreateVmInstance, sealed: str) -> None:
    """Insert a VM with its NICs, each with an address where its network has any.

    Raises HardpointError: SYS.1003 for what does not exist, SYS.1006 for what is disabled or used up,
    SYS.1007 for what does not fit together.
    """
    cpus, memory, strategy = wanted.cpu_num, wanted.memory_size, DEFAULT_ALLOCATOR
    if wanted.instance_offering_uuid is not None:
        offering = find(connection, INSTANCE_OFFERING, wanted.instance_offering_uuid)
        if offering.state != "Enabled":
            details = f"instance offering {offering.name} ({offering.uuid}) is {offering.state}"
            raise _refused(details, "enable it or choose another one")
        cpus, memory = cpus or offering.cpu_num, memory or offering.memory_size
        strategy = offering.allocator_strategy
    networks = [find(connection, L3_NETWORK, network) for network in wanted.l3_network_uuids]
    for network in networks:
        if network.state != "Enabled":
            details = f"L3 network {network.name} ({network.uuid}) is {network.state}"
            raise _refused(details, "choose another one")
    platform = "Linux"
    if wanted.image_uuid is not None:
        platform = find(connection, IMAGE, wanted.image_uuid).platform
    default = wanted.default_l3_network_uuid or next(iter(wanted.l3_network_uuids), None)
    values = {
        "uuid": uuid,
        "name": wanted.name,
        "description": wanted.description,
        "zone_uuid": _zone(connection, wanted, [network.zone_uuid for network in networks]),
        "cluster_uuid": wanted.cluster_uuid,
        "instance_offering_uuid": wanted.instance_offering_uuid,
        "image_uuid": wanted.image_uuid,
        "platform": platform,
        "default_l3_network_uuid": default,
        "type": wanted.type,
        "memory_size": memory,
        "cpu_num": cpus,
        "cpu_speed": 0,
        "allocator_strategy": strategy,
        "state": State.STOPPED if wanted.strategy == "CreateStopped" else State.CREATED,
        "turn": 0,
        "console_password": sealed,
    }
    add(connection, VM, values, wanted)
    for number, network in enumerate(networks):
        _add_nic(connection, uuid, network.uuid, number)


def _zone(connection: Connection, wanted: CreateVmInstance, of_networks: list[str]) -> str:
    """Return the zone that all parts of a VM are in. Raises HardpointError (SYS.1003, SYS.1007)."""
    zones = list(of_networks)
    if wanted.zone_uuid is not None:
        zones.append(find(connection, ZONE, wanted.zone_uuid).uuid)
    if wanted.cluster_uuid is not None:
        zones.append(find(connection, CLUSTER, wanted.cluster_uuid).zone_uuid)
    if wanted.host_uuid is not None:
        zones.append(find(connection, HOST, wanted.host_uuid).zone_uuid)
    if not zones:
        raise _illegal("nothing says in which zone the VM is", "give zoneUuid or a network")
    if len(set(zones)) > 1:
        raise _illegal("its networks, cluster and host are in different zones", "choose them in one zone")
    return zones[0]


def _add_nic(connection: Connection, vm_uuid: str, network_uuid: str, number: int) -> None:
    uuid = uuid_from(bytes.fromhex(f"{(int(vm_uuid, 16) + number + 1) % 2**128:032x}")[::-1])
    taken = take_address(connection, network_uuid, uuid)
    now = now_s()
    values: dict[str, Any] = {
        "uuid": uuid,
        "vm_instance_uuid": vm_uuid,
        "l3_network_uuid": network_uuid,
        "mac": mac_of(uuid),
        "device_id": number,
        "create_date": now,
        "last_op_date": now,
    }
    if taken is not None:
        addresses, ip = taken
        values |= {"ip": ip, "netmask": addresses.netmask, "gateway": addresses.gateway}
    connection.execute(insert(nic_table), values)


def mac_of(nic_uuid: str) -> str:
    """Return a NIC's MAC address: locally administered, the same for its life."""
    digits = nic_uuid[:10]
    return "fa:" + ":".join(digits[i : i + 2] for i in range(0, 10, 2))


def give_back_addresses(connection: Connection, vm_uuid: str) -> None:
    """Let others have the addresses of a VM's NICs."""
    for nic in nics_of(connection, vm_uuid):
        give_back_address(connection, nic.uuid)


def remove_vm(connection: Connection, uuid: str, *_: object) -> None:
    """Remove a VM's rows."""
    give_back_addresses(connection, uuid)
    delete_row(connection, VM.name, uuid)


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)


def _illegal(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1007", "Invalid argument", details, remedy=remedy, blame=Blame.CALLER)
