"""GetSharedBlockCandidate: disks that all hosts of a cluster see, and why others are no candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, select

from kvmagent.protocol_shared_block import SharedDisk, bare_wwid
from kvmagent.protocol_storage import ListSharedDisks
from mn.db.schema import new_uuid
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import find
from mn.facilities.hosts.tables import host_table
from mn.facilities.primary_storage.refusals import refused
from mn.facilities.primary_storage.shared_block.tables import lun_table
from mn.facilities.primary_storage.tables import SHARED_BLOCK, primary_storage_table
from mn.fleet.client import Endpoint
from mn.rest.operation import Get, Reply
from mn.rest.services import Call, Services
from mn.rest.types import Ref

_Text = Annotated[str | None, Meta(description="as the disk says it")]


class Candidate(msgspec.Struct, rename="camel", omit_defaults=True):
    """A disk; with a reason it is none that can be taken."""

    wwid: Annotated[str, Meta(description="what it is called by here")]
    type: Annotated[str, Meta(description="disk, mpath or lvm-pv")]
    size: Annotated[int, Meta(description="bytes")]
    vendor: _Text = None
    model: _Text = None
    wwn: _Text = None
    serial: _Text = None
    hctl: Annotated[str | None, Meta(description="its SCSI address on one of the hosts")] = None
    path: Annotated[str | None, Meta(description="its device on one of the hosts")] = None
    reason: Annotated[str | None, Meta(description="why it is no candidate")] = None
    wipeable: Annotated[bool, Meta(description="whether the tag sharedBlock::wipe::true makes it one")] = (
        False
    )


class Asked(msgspec.Struct, frozen=True):
    """Whom to ask: hosts, the groups that are in use, and the disks that belong to storages by bare WWID."""

    hosts: list[Endpoint]
    groups: list[str]
    taken: dict[str, str]


class GetSharedBlockCandidate(
    Get,
    path="/primary-storage/sharedblockgroup/sharedblock-candidates",
    returns={"results": Annotated[list[Candidate], Meta(description="disks that all hosts see")]},
):
    """List the disks that a shared-block storage of a cluster can be made of (manual 4.4.19.5).

    With `all=true` also those that cannot, each with its `reason` (extension).
    """

    cluster_uuid: Ref
    all: bool = False

    async def answer(self, call: Call) -> Reply:
        """Ask all connected hosts of the cluster."""
        asked = await call.services.db.read(load_asked, self.cluster_uuid)
        seen = await _ask(call.services, asked)
        found = merge(seen, asked.taken)
        wanted = [each for each in found if self.all or each.reason is None or each.wipeable]
        return {"results": [msgspec.to_builtins(each) for each in wanted]}


def load_asked(connection: Connection, cluster_uuid: str) -> Asked:
    """Return whom to ask.

    Raises HardpointError: SYS.1003, SYS.1006 for a cluster without a connected host.
    """
    cluster = find(connection, CLUSTER, cluster_uuid)
    hosts = host_table.c
    wanted = (hosts.cluster_uuid == cluster_uuid) & (hosts.status == "Connected")
    wanted &= (hosts.hypervisor_type == "KVM") & hosts.agent_port.is_not(None)
    rows = connection.execute(select(host_table).where(wanted).order_by(hosts.seq)).all()
    if not rows:
        raise refused(
            f"cluster {cluster.name} ({cluster_uuid}) has no connected KVM host", "add a host to it"
        )
    storages = primary_storage_table.c
    groups = select(storages.uuid).where(storages.type == SHARED_BLOCK)
    taken = select(lun_table.c.bare_wwid, lun_table.c.shared_block_group_uuid)
    return Asked(
        [Endpoint(row.uuid, row.agent_address, row.agent_port) for row in rows],
        list(connection.execute(groups).scalars()),
        {row.bare_wwid: row.shared_block_group_uuid for row in connection.execute(taken)},
    )


async def _ask(services: Services, asked: Asked) -> dict[str, list[SharedDisk]]:
    async def one(endpoint: Endpoint) -> list[SharedDisk]:
        task = new_uuid()
        reply = await services.fleet.call(endpoint, ListSharedDisks(groups=asked.groups), task)
        services.fleet.acknowledge(endpoint, task)
        return reply.disks

    outcomes = await asyncio.gather(*(one(host) for host in asked.hosts), return_exceptions=True)
    found: dict[str, list[SharedDisk]] = {}
    for host, outcome in zip(asked.hosts, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome
        found[host.host_uuid] = outcome
    return found


def merge(seen: Mapping[str, Sequence[SharedDisk]], taken: Mapping[str, str]) -> list[Candidate]:
    """Return the disks of hosts, each once; what one host says against a disk is said against it.

    `taken` are those that belong to storages, by bare WWID.
    """
    disks: dict[str, list[tuple[str, SharedDisk]]] = {}
    for host, found in seen.items():
        for disk in found:
            key = bare_wwid(disk.wwid) if disk.wwid else f"{host} {disk.path}"
            disks.setdefault(key, []).append((host, disk))
    return [_candidate(key, found, set(seen), taken) for key, found in disks.items()]


def _candidate(
    key: str, found: list[tuple[str, SharedDisk]], hosts: set[str], taken: Mapping[str, str]
) -> Candidate:
    disk = found[0][1]
    against = next((each for _, each in found if each.reason is not None), None)
    reason, wipeable = (against.reason, against.wipeable) if against is not None else (None, False)
    missing = sorted(hosts - {host for host, _ in found})
    if key in taken:
        reason, wipeable = f"it belongs to primary storage {taken[key]}", False
    elif missing:
        reason, wipeable = f"host {missing[0]} does not see it", False
    return Candidate(
        wwid=disk.wwid,
        type=disk.type,
        size=disk.size,
        vendor=disk.vendor,
        model=disk.model,
        wwn=disk.wwn,
        serial=disk.serial,
        hctl=disk.hctl,
        path=disk.path,
        reason=reason,
        wipeable=wipeable,
    )
