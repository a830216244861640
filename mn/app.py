"""The composition root: the one place where the parts of the management node are wired together."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web
from sqlalchemy import Column, Connection, String, Table, func, insert, select

from agentkit.errors import HardpointError
from agentkit.limits import check_open_files, raise_open_files
from agentkit.tls import client_context, lower_read_buffer
from mn import facilities
from mn.db.engine import Database
from mn.db.global_settings import JOB_KEPT, GlobalSettings
from mn.db.migrations import upgrade
from mn.db.open import open_database
from mn.db.schema import metadata, new_uuid
from mn.db.vault import Vault
from mn.facilities.accounts.tables import DEFAULT_PASSWORD_NOTICE, ensure_admin
from mn.facilities.backup_storage.ceph_chores import clean_pools
from mn.facilities.backup_storage.connecting import track_stores
from mn.facilities.ceph.servers import track_servers
from mn.facilities.hosts.followers import Followers
from mn.facilities.hosts.reconnector import Reconnector
from mn.facilities.hosts.shell_output import remove_outputs
from mn.facilities.hosts.stock import StockObserver
from mn.facilities.hosts.tables import expect_hosts, host_table, load_deployed
from mn.facilities.hosts.targets import target_of
from mn.facilities.images.deletion import expunge_due
from mn.facilities.issues.refresh import watch_issues
from mn.facilities.management import HEARTBEAT_S, beat
from mn.facilities.primary_storage.ceph_keys import retire_all_clients
from mn.facilities.volumes.chores import clean_storages
from mn.fleet.agents import CEPH_AGENT, KVM_AGENT, STORAGE_AGENT
from mn.fleet.ansible import Agents, AnsibleDeployer
from mn.fleet.ansible_run import Runs
from mn.fleet.ca import CertificateAuthority
from mn.fleet.client import AgentClient, Endpoint
from mn.fleet.deploy import Deployer
from mn.fleet.fleet import Fleet
from mn.fleet.local import LocalDeployer
from mn.fleet.outputs import OutputLimits, OutputStore
from mn.fleet.shares import Shares
from mn.fleet.simulators import SimulatorDeployer
from mn.fleet.ssh import SshPool
from mn.fleet.wheelhouse import Sources, Wheelhouse
from mn.jobs.engine import Engine
from mn.jobs.job import Boundary
from mn.jobs.live import JobRequest
from mn.jobs.tables import JobState
from mn.rest.metrics import Metrics
from mn.rest.server import RestServer, resolver
from mn.rest.services import Services
from mn.rest.sessions import Sessions
from mn.rest.types import RequestCodec
from mn.rest.webhooks import WebHooks
from mn.settings import Settings
from mn.state_folder import AGENTS_DIR, SIMULATOR_DIR

log = logging.getLogger(__name__)

DATABASE = "hardpoint.db"
KEY_FILE = "secret.key"
CA_DIR = "ca"
ANSIBLE_DIR = "ansible"
WHEELS_DIR = "wheels"
WHEELHOUSE_DIR = "wheelhouse"
STORAGE_DIR = "storage"
OUTPUTS_DIR = "shell-outputs"
CHORES_EVERY_S = 3600
FIRST_LOOK_S = 10.0
"""So long jobs wait to be resumed for hosts that do not answer: what needs a connected host finds it so."""

fleet_table = Table("fleet", metadata, Column("uuid", String(32), primary_key=True))
"""One row: the uuid that agents know this fleet by."""


@dataclass
class Node:
    """A running management node."""

    services: Services
    engine: Engine[Services]
    runner: web.AppRunner
    url: str
    hooks: WebHooks
    reconnector: Reconnector
    followers: Followers
    chores: list[asyncio.Task[None]]


def _no_boundary(_name: str) -> None:
    """Go on."""


async def start(settings: Settings, boundary: Boundary = _no_boundary) -> Node:
    """Open the state folder, resume jobs, link the hosts and serve; HardpointError when any of it
    cannot be.
    """
    facilities.load()
    vault = Vault.open_file(settings.state_dir / KEY_FILE)
    db = open_database(settings.database_url.get_secret_value(), settings.state_dir / DATABASE)
    try:
        await asyncio.to_thread(db.prepare, upgrade)
        await asyncio.to_thread(db.start)
        return await _start(settings, vault, db, boundary)
    except BaseException:
        await asyncio.to_thread(db.close)
        raise


async def _start(settings: Settings, vault: Vault, db: Database, boundary: Boundary) -> Node:
    global_settings = GlobalSettings(db)
    await global_settings.load()
    sessions = Sessions(db, global_settings)
    fleet, ca, context = await _fleet(settings, db)
    codec = RequestCodec(vault)
    services = Services(
        settings,
        db,
        vault,
        global_settings,
        sessions,
        fleet,
        codec,
        secrets.token_hex(16),
        Shares(settings.shell_hosts_at_once_in_all, settings.shell_hosts_at_once),
        _outputs(settings),
    )
    reconnector, followers = Reconnector(services), Followers(services)
    fleet.observe(StockObserver(db, global_settings, reconnector, followers))
    engine = Engine(
        db, services, resolver(codec), boundary=boundary, keep_s=lambda: global_settings[JOB_KEPT]
    )
    services.engine = engine
    hooks, metrics = WebHooks(db, vault, settings), Metrics()
    _count(metrics, services, engine, hooks)
    if await db.write(ensure_admin):
        log.warning(DEFAULT_PASSWORD_NOTICE)
    await db.write(beat, socket.gethostname())
    server = RestServer(services, engine, codec, metrics)
    runner = _runner(server, settings)
    await runner.setup()
    try:
        bound, tls = await _bind(settings), _server_context(settings)
        await _track_hosts(services)
        await track_stores(services)
        await track_servers(services)
        await fleet.look(FIRST_LOOK_S)
        await hooks.start()
        resumed = await engine.start()
        await reconnector.start()
        await remove_outputs(services)
        url = await _listen(runner, bound, tls)
    except BaseException:
        await runner.cleanup()
        await reconnector.stop()
        await followers.stop()
        await engine.stop()
        await hooks.stop()
        await fleet.stop()
        raise
    log.info("management node ready", extra={"url": url, "resumed_jobs": resumed})
    chores = [
        asyncio.create_task(_chores(services, ca, context, server)),
        asyncio.create_task(_heartbeat(services)),
        asyncio.create_task(watch_issues(services)),
    ]
    return Node(services, engine, runner, url, hooks, reconnector, followers, chores)


async def stop(node: Node) -> None:
    """Stop serving; running jobs stay in the journal, agents go on."""
    for chore in node.chores:
        chore.cancel()
    await node.runner.cleanup()
    await node.reconnector.stop()
    await node.followers.stop()
    await node.engine.stop()
    await node.hooks.stop()
    await node.services.fleet.stop()
    await asyncio.to_thread(node.services.outputs.close)
    await asyncio.to_thread(node.services.db.close)


def _outputs(settings: Settings) -> OutputStore:
    limits = OutputLimits(
        settings.shell_file_bytes,
        settings.shell_files_bytes,
        settings.shell_files_jobs,
        settings.shell_files_free_bytes,
    )
    return OutputStore(settings.state_dir / OUTPUTS_DIR, limits)


def _runner(server: RestServer, settings: Settings) -> web.AppRunner:
    """Return the HTTP server. Its keep-alive time-out also ends connections whose next head dribbles in."""
    return web.AppRunner(
        server.application(),
        access_log=None,
        keepalive_timeout=settings.idle_timeout_s,
        lingering_time=1.0,
    )


def _count(metrics: Metrics, services: Services, engine: Engine[Services], hooks: WebHooks) -> None:
    """Let the parts be counted, and wake the web hooks when a job ends."""

    def ended(request: JobRequest, error: HardpointError | None) -> None:
        metrics.job_ended(request, error)
        if request.hook:
            hooks.wake()

    async def jobs() -> Mapping[tuple[str, ...], float]:
        return {(operation, state): count for (operation, state), count in engine.counts().items()}

    async def queued() -> Mapping[tuple[str, ...], float]:
        return {(): sum(n for (_, state), n in engine.counts().items() if state is JobState.QUEUED)}

    async def hosts() -> Mapping[tuple[str, ...], float]:
        return await services.db.read(_count_hosts)

    async def outbox() -> Mapping[tuple[str, ...], float]:
        return {(state,): count for state, count in (await hooks.counts()).items()}

    engine.on_end = ended
    services.db.on_commit = metrics.write_group
    metrics.gauge("hardpoint_jobs", "Jobs that have not ended.", ["operation", "state"], jobs)
    metrics.gauge("hardpoint_jobs_waiting", "Jobs that wait for a lock.", [], queued)
    metrics.gauge("hardpoint_hosts", "Hosts by status.", ["status"], hosts)
    metrics.gauge("hardpoint_web_hooks", "Web hooks of the last two days by state.", ["state"], outbox)


def _count_hosts(connection: Connection) -> dict[tuple[str, ...], float]:
    query = select(host_table.c.status, func.count()).group_by(host_table.c.status)
    return {(status,): count for status, count in connection.execute(query)}


async def _fleet(settings: Settings, db: Database) -> tuple[Fleet, CertificateAuthority, ssl.SSLContext]:
    ca = await asyncio.to_thread(CertificateAuthority, settings.state_dir / CA_DIR)
    pair = await asyncio.to_thread(ca.client)
    context = client_context(pair.certificate, pair.key, pair.ca)
    lower_read_buffer()
    client = AgentClient(context, tick_s=settings.lease_tick_s)
    deployers: list[Deployer] = [SimulatorDeployer(settings.state_dir / SIMULATOR_DIR, ca)]
    if settings.local_agents:
        directory = settings.state_dir / AGENTS_DIR
        local = LocalDeployer(
            directory,
            ca,
            root=settings.local_agent_root,
            storage=settings.state_dir / STORAGE_DIR,
            rescan_s=settings.local_agent_rescan_s,
            libvirt=settings.local_agent_libvirt,
            ceph=settings.local_agent_ceph,
        )
        deployers.append(local)
    fleet_uuid, ssh = await db.write(ensure_fleet), SshPool()
    deployers.append(await _real_hosts(settings, fleet_uuid, client, ca, ssh))
    return Fleet(fleet_uuid, client, ca, deployers, ssh), ca, context


async def _real_hosts(
    settings: Settings, fleet_uuid: str, client: AgentClient, ca: CertificateAuthority, ssh: SshPool
) -> AnsibleDeployer:
    """Return the deployer of all hosts that no other one serves."""
    runs = Runs(
        settings.state_dir / ANSIBLE_DIR, at_once=settings.deploys_at_once, limit_s=settings.deploy_timeout_s
    )
    await asyncio.to_thread(runs.clean)
    sources = Sources(settings.wheels_dir or settings.state_dir / WHEELS_DIR, settings.wheels_index)
    wheelhouse = Wheelhouse(settings.state_dir / WHEELHOUSE_DIR, sources)
    ports = {
        KVM_AGENT.name: settings.agent_port,
        STORAGE_AGENT.name: settings.storage_agent_port,
        CEPH_AGENT.name: settings.ceph_agent_port,
    }
    agents = Agents(ports, settings.agent_listen_address)
    return AnsibleDeployer(fleet_uuid, client, ca, ssh, runs, wheelhouse, agents)


def ensure_fleet(connection: Connection) -> str:
    """Return this fleet's uuid, made at the first start."""
    uuid: str | None = connection.execute(select(fleet_table.c.uuid)).scalar()
    if uuid is None:
        uuid = new_uuid()
        connection.execute(insert(fleet_table), {"uuid": uuid})
    return uuid


async def _bind(settings: Settings) -> socket.socket:
    """Return a socket that has the address and does not listen yet: first the jobs are resumed."""
    where = f"{settings.listen_address}:{settings.port}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            settings.listen_address, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise HardpointError(
            "SYS.1000",
            "Internal error",
            f"the REST API cannot listen on {where}: {_reason(error)}",
            remedy="stop what uses the port, or choose another one with --port",
        ) from error
    return bound


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or not error.errno:
        return str(error)
    return os.strerror(error.errno)


async def _listen(runner: web.AppRunner, bound: socket.socket, context: ssl.SSLContext | None) -> str:
    await web.SockSite(runner, bound, ssl_context=context, shutdown_timeout=2).start()
    address, port = runner.addresses[0][:2]
    host = f"[{address}]" if ":" in address else address
    return f"{'https' if context else 'http'}://{host}:{port}"


def _server_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise HardpointError(
            "SYS.1000",
            "Internal error",
            f"tls_certificate {settings.tls_certificate} with tls_key {settings.tls_key}: {error}",
            remedy="give PEM files that belong together and that this user can read",
        ) from error
    return context


async def _track_hosts(services: Services) -> None:
    rows = await services.db.read(load_deployed)
    check_open_files(len(rows), raise_open_files())
    await services.db.write(expect_hosts)
    for row in rows:
        target = target_of(row, services.vault)
        services.fleet.track(
            target, Endpoint(row.uuid, row.agent_address, row.agent_port), row.inventory_hash
        )


async def _heartbeat(services: Services) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        try:
            await services.db.write(beat, socket.gethostname())
        except Exception:
            log.exception("the heartbeat could not be written, it is tried again")


async def _chores(
    services: Services, ca: CertificateAuthority, context: ssl.SSLContext, server: RestServer
) -> None:
    """Forget old sessions and audit lines, clean storages, renew certificates of the node and the agents."""
    while True:
        await asyncio.sleep(CHORES_EVERY_S)
        try:
            await services.sessions.purge()
            await server.audit.purge()
            await remove_outputs(services)
            await expunge_due(services)
            await clean_storages(services)
            await clean_pools(services)
            await retire_all_clients(services)
            pair = await asyncio.to_thread(ca.client)
            context.load_cert_chain(pair.certificate, pair.key)
            await services.fleet.renew_certificates()
        except Exception:
            log.exception("chores failed, they are tried again later")
