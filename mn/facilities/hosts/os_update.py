"""UpdateClusterOS (manual 4.2.6): a long job that updates the hosts of a cluster, batch by batch.

A host is withheld from new VMs while its packages change, and is given back whatever comes of it. Nothing is
rebooted and no VM is moved: what each host needs is in the long job's result.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, select, update

from agentkit.errors import Blame, ErrorBody, HardpointError
from agentkit.wire import Command
from kvmagent.protocol import GetOsUpdate, OsUpdateReply, TakeInventory, UpdateOs
from mn.db.global_settings import CLUSTER_OS_UPDATES, CPU_RATIO, OS_UPDATES
from mn.db.schema import new_uuid, now_s
from mn.facilities.clusters import CLUSTER
from mn.facilities.common import find
from mn.facilities.hosts.stock import save_inventory
from mn.facilities.hosts.tables import host_table
from mn.facilities.longjobs import LONG_JOB, LONG_TIMEOUT_S, begin_long_job
from mn.fleet.client import Endpoint
from mn.rest.envelope import error_code
from mn.rest.operation import Action, JobOperation, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref, ResourceUuid

log = logging.getLogger(__name__)

AWAY_S = 900.0
"""An update may restart the host's network and its agent: it may be away for so long."""
CONTACT_S = 90.0
"""A call that lasted longer than that has heard of the agent meanwhile."""
PROGRESS_EVERY_S = 5.0
PRE_MAINTENANCE, MAINTENANCE = "PreMaintenance", "Maintenance"

PackagePattern = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9*?\[][A-Za-z0-9.+_:~*?\[\]-]*$",
        max_length=255,
        description="the name of a package, or a shell pattern of names such as systemd*",
    ),
]
R = TypeVar("R")
T = TypeVar("T")
Tell = Callable[[str, int], None]
"""Told a host's uuid and how many percent of it are done."""


class HostOutcome(msgspec.Struct):
    """What came of one host: one of the two."""

    reply: OsUpdateReply | None = None
    error: ErrorBody | None = None


class UpdateClusterOS(Action, path="/clusters/{uuid}/actions", reply=LONG_JOB):
    """Bring the packages of a cluster's hosts up to date, as a long job (manual 4.2.6).

    The answer is the long job's inventory. Its jobResult maps each host's uuid to what came of it: result
    (success or failed), packages, rebootNeeded, rebootReason, error. A host that fails stops no other.
    """

    uuid: Ref
    exclude_packages: list[PackagePattern] = msgspec.field(default_factory=list)
    resource_uuid: ResourceUuid | None = None

    @property
    def target_resource_uuid(self) -> str:
        """What the long job acts on."""
        return self.uuid

    def long_form(self) -> JobOperation:
        """Return the work itself."""
        return ClusterOsUpdate(cluster_uuid=self.uuid, exclude_packages=self.exclude_packages)

    async def run(self, job: Job) -> Reply:
        """Refuse what cannot be updated now, begin the long job."""
        await job.transact(check_cluster, self.uuid)
        uuid = self.resource_uuid or job.uuid_for("long job")
        return await begin_long_job(job, uuid, job.uuid_for("api"), self, self)


class ClusterOsUpdate(Action, path=(), timeout_s=LONG_TIMEOUT_S):
    """The long job of UpdateClusterOS."""

    cluster_uuid: Ref
    exclude_packages: list[str]

    def locks(self) -> tuple[str, ...]:
        """One update of a cluster at a time."""
        return (f"cluster-os/{self.cluster_uuid}",)

    async def run(self, job: Job) -> Reply:
        """Update batch after batch; cancelled, it finishes the hosts it is at and begins no others."""
        services = job.services
        size = int(services.global_settings[CLUSTER_OS_UPDATES])
        batches = await job.transact(plan_batches, self.cluster_uuid, size)
        total = max(sum(len(batch) for batch in batches), 1)
        outcomes: dict[str, HostOutcome] = {}
        for batch in batches:
            former = await job.transact(load_states, batch)
            refused = await job.transact(withhold, batch, former, undo=give_back)
            outcomes.update({uuid: HostOutcome(error=error) for uuid, error in refused.items()})
            tasks = {uuid: job.uuid_for(f"os update of {uuid}") for uuid in batch if uuid not in refused}
            tell = _teller(job, total, len(outcomes))
            step = job.step(update_hosts, services, tasks, self.exclude_packages, tell)
            outcomes.update(await _uninterrupted(job, step))
            await job.transact(give_back, batch, former)
            job.at(100 * len(outcomes) // total)
            if job.is_cancelled():
                raise await _cancelled(services, outcomes, total)
        return {uuid: _answer(outcome) for uuid, outcome in outcomes.items()}


def check_cluster(connection: Connection, uuid: str) -> None:
    """Refuse a cluster whose hosts cannot be updated now: SYS.1003 for none, else SYS.1006."""
    _check_hypervisor(connection, uuid)
    query = select(host_table).where(host_table.c.cluster_uuid == uuid).order_by(host_table.c.seq)
    for row in connection.execute(query):
        error = _why_not(row.name, row.uuid, row.state, row.status)
        if error is not None:
            raise error


def plan_batches(connection: Connection, cluster_uuid: str, size: int) -> list[list[str]]:
    """Return the cluster's hosts in batches of up to `size`, in the order they were added."""
    _check_hypervisor(connection, cluster_uuid)
    table = host_table
    query = select(table.c.uuid).where(table.c.cluster_uuid == cluster_uuid).order_by(table.c.seq)
    uuids = list(connection.execute(query).scalars())
    return [uuids[begin : begin + size] for begin in range(0, len(uuids), size)]


def load_states(connection: Connection, uuids: list[str]) -> dict[str, str]:
    """Return the states of hosts; those that are gone are left out."""
    query = select(host_table.c.uuid, host_table.c.state).where(host_table.c.uuid.in_(uuids))
    return {row.uuid: row.state for row in connection.execute(query)}


def withhold(connection: Connection, uuids: list[str], former: dict[str, str]) -> dict[str, ErrorBody]:
    """Put hosts to PreMaintenance but for those in Maintenance; return why some cannot be updated."""
    query = select(host_table).where(host_table.c.uuid.in_(uuids))
    rows = {row.uuid: row for row in connection.execute(query)}
    refused = {}
    for uuid in uuids:
        row = rows.get(uuid)
        if row is None:
            refused[uuid] = _gone(uuid).to_body()
            continue
        error = _why_not(row.name, uuid, row.state, row.status)
        if row.state != former.get(uuid):
            error = _refused(f"the state of host {row.name} ({uuid}) has just changed", "update it again")
        if error is not None:
            refused[uuid] = error.to_body()
        elif row.state != MAINTENANCE:
            where = host_table.c.uuid == uuid
            values = {"state": PRE_MAINTENANCE, "last_op_date": now_s()}
            connection.execute(update(host_table).where(where).values(**values))
    return refused


def give_back(connection: Connection, uuids: list[str], former: dict[str, str]) -> None:
    """Put hosts back to the state they had; what somebody has changed meanwhile stays."""
    for uuid in uuids:
        state = former.get(uuid)
        if state is None or state in (PRE_MAINTENANCE, MAINTENANCE):
            continue
        where = (host_table.c.uuid == uuid) & (host_table.c.state == PRE_MAINTENANCE)
        connection.execute(update(host_table).where(where).values(state=state, last_op_date=now_s()))


async def update_hosts(
    services: Services, tasks: dict[str, str], exclude: list[str], tell: Tell
) -> dict[str, HostOutcome]:
    """Update hosts at once, each as the agent's task of its uuid; return what came of each."""

    async def one(uuid: str, task_uuid: str) -> HostOutcome:
        try:
            async with services.fleet.os_updates.take(lambda: services.global_settings[OS_UPDATES]):
                return HostOutcome(reply=await _update_host(services, uuid, task_uuid, exclude, tell))
        except HardpointError as error:
            log.warning("host not updated", extra={"host": uuid, "reason": error.details})
            return HostOutcome(error=error.to_body())
        except Exception:
            log.exception("host not updated by a fault of the node", extra={"host": uuid})
            return HostOutcome(error=_fault(uuid).to_body())
        finally:
            tell(uuid, 100)

    outcomes = await asyncio.gather(*(one(uuid, task) for uuid, task in tasks.items()))
    return dict(zip(tasks, outcomes, strict=True))


async def _update_host(
    services: Services, uuid: str, task_uuid: str, exclude: list[str], tell: Tell
) -> OsUpdateReply:
    watching = asyncio.create_task(_watch(services, uuid, task_uuid, tell))
    try:
        command = UpdateOs(update_uuid=task_uuid, exclude_packages=exclude)
        reply = await _call(services, uuid, command, task_uuid)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    log.info(
        "host updated",
        extra={"host": uuid, "packages": len(reply.packages), "reboot_needed": reply.reboot_needed},
    )
    await _take_stock(services, uuid)
    return reply


async def _call(services: Services, uuid: str, command: Command[R], task_uuid: str) -> R:
    """Have the agent do something, however often it is away for a while."""
    away_s = 0.0
    while True:
        endpoint, began = await _endpoint(services, uuid), time.monotonic()
        try:
            return await services.fleet.call(endpoint, command, task_uuid)
        except HardpointError as error:
            took_s = time.monotonic() - began
            away_s = 0.0 if took_s > CONTACT_S else away_s + took_s
            if error.code != "HOST.1003" or away_s > AWAY_S:
                raise


async def _watch(services: Services, uuid: str, update_uuid: str, tell: Tell) -> None:
    """Ask now and then how far an update is, until cancelled."""
    while True:
        await asyncio.sleep(PROGRESS_EVERY_S)
        with contextlib.suppress(HardpointError):
            endpoint, task = await _endpoint(services, uuid), new_uuid()
            progress = await services.fleet.call(endpoint, GetOsUpdate(update_uuid=update_uuid), task)
            services.fleet.acknowledge(endpoint, task)
            tell(uuid, progress.percent)


async def _take_stock(services: Services, uuid: str) -> None:
    """Read the host anew: a failure is only logged, the link does it when the host is back."""
    try:
        endpoint, task = await _endpoint(services, uuid), new_uuid()
        reply = await services.fleet.call(endpoint, TakeInventory(), task)
        await services.db.write(save_inventory, uuid, reply.inventory, services.global_settings[CPU_RATIO])
        services.fleet.acknowledge(endpoint, task)
    except HardpointError as error:
        log.warning("no inventory after the update", extra={"host": uuid, "reason": error.details})


async def _endpoint(services: Services, uuid: str) -> Endpoint:
    return await services.db.read(load_endpoint, uuid)


def load_endpoint(connection: Connection, uuid: str) -> Endpoint:
    """Return where a host's agent listens now. Raises HardpointError (SYS.1003) when the host is gone."""
    row = connection.execute(select(host_table).where(host_table.c.uuid == uuid)).first()
    if row is None or row.agent_port is None:
        raise _gone(uuid)
    return Endpoint(uuid, row.agent_address, row.agent_port)


async def _uninterrupted(job: Job, work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that a cancelled job is to finish all the same; a node that stops leaves it."""
    task = asyncio.ensure_future(work)
    try:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not job.is_cancelled():
                raise
            return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _teller(job: Job, total: int, before: int) -> Tell:
    """Return what turns the hosts' progress into the job's: `before` hosts are done already."""
    shares: dict[str, int] = {}

    def tell(uuid: str, percent: int) -> None:
        shares[uuid] = max(shares.get(uuid, 0), percent)
        job.at((100 * before + sum(shares.values())) // total)

    return tell


async def _cancelled(services: Services, outcomes: dict[str, HostOutcome], total: int) -> HardpointError:
    names = await services.db.read(_load_names, list(outcomes))
    done = ", ".join(f"{names.get(u, u)} ({u})" for u, o in outcomes.items() if o.error is None)
    failed = ", ".join(f"{names.get(u, u)} ({u})" for u, o in outcomes.items() if o.error is not None)
    return HardpointError(
        "SYS.1017",
        "Cancelled",
        f"the update was cancelled. Updated: {done or 'none'}. Failed: {failed or 'none'}. "
        f"Not begun: {total - len(outcomes)} hosts",
        remedy="update the cluster again to reach the other hosts",
        blame=Blame.CALLER,
    )


def _load_names(connection: Connection, uuids: list[str]) -> dict[str, str]:
    query = select(host_table.c.uuid, host_table.c.name).where(host_table.c.uuid.in_(uuids))
    return {row.uuid: row.name for row in connection.execute(query)}


def _check_hypervisor(connection: Connection, uuid: str) -> None:
    cluster = find(connection, CLUSTER, uuid)
    if cluster.hypervisor_type != "KVM":
        raise _refused(
            f"hypervisor mismatch: cluster {cluster.name} ({uuid}) is for {cluster.hypervisor_type}, "
            "the operating system of KVM hosts only can be updated",
            "choose a cluster whose hypervisorType is KVM",
        )


def _why_not(name: str, uuid: str, state: str, status: str) -> HardpointError | None:
    """Return why a host cannot be updated now, None when it can."""
    if state == PRE_MAINTENANCE:
        return _refused(
            f"host {name} ({uuid}) is in the state {PRE_MAINTENANCE}: it is being updated or maintained",
            "wait until that has ended",
        )
    if status != "Connected":
        return _refused(f"host {name} ({uuid}) is {status}", "connect the host first")
    return None


def _fault(uuid: str) -> HardpointError:
    return HardpointError(
        "SYS.1000",
        "Internal error",
        f"an unexpected error while host {uuid} was updated",
        remedy="see the log of the management node for this host, and report it",
    )


def _gone(uuid: str) -> HardpointError:
    return HardpointError(
        "SYS.1003", "Resource not found", f"host {uuid} is gone", remedy="nothing is left to update"
    )


def _answer(outcome: HostOutcome) -> dict[str, Any]:
    if outcome.error is not None:
        return {"result": "failed", "error": error_code(HardpointError.from_body(outcome.error))}
    assert outcome.reply is not None  # noqa: S101 - one of the two is there
    reply: dict[str, Any] = msgspec.to_builtins(outcome.reply)
    packages = [{k: v for k, v in package.items() if v is not None} for package in reply["packages"]]
    answer = {"result": "success", "rebootNeeded": outcome.reply.reboot_needed, "packages": packages}
    if outcome.reply.reboot_reason is not None:
        answer["rebootReason"] = outcome.reply.reboot_reason
    return answer


def _refused(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy, blame=Blame.CALLER)
