"""A Ceph cluster in user space: monitors that can be stopped, one manager, one OSD on a sparse file."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ceph.programs import Programs
from tests.helpers import wait_until

START_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
MIB = 1 << 20
COMMON = """\
[global]
fsid = {fsid}
mon_host = {mon_host}
mon_initial_members = {members}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
public_network = {public_network}
mon_cluster_log_to_file = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_max_pg_per_osd = 1000
mon_warn_on_pool_no_redundancy = false
mon_warn_on_insecure_global_id_reclaim_allowed = false
auth_allow_insecure_global_id_reclaim = false
mon_data_avail_warn = 2
mon_data_avail_crit = 1
rbd_default_features = 61
{settings}"""
HERE = """\
run_dir = {folder}
admin_socket = {folder}/$name.asok
log_file = {folder}/$name.log
log_to_stderr = false
err_to_stderr = false
plugin_dir = {libraries}/ceph
erasure_code_dir = {libraries}/ceph/erasure-code
osd_class_dir = {libraries}/rados-classes
[client]
keyring = {folder}/ceph.$name.keyring
log_file = {folder}/client.log
admin_socket =
[mon]
mon_data = {folder}/mon.$id
[mgr]
keyring = {folder}/ceph.$name.keyring
mgr_data = {folder}/mgr.$id
mgr_initial_modules =
mgr_module_path = {tree}/usr/share/ceph/mgr
[osd]
keyring = {folder}/ceph.$name.keyring
osd_data = {folder}/osd.$id
osd_objectstore = bluestore
bluestore_block_size = {osd_bytes}
bluestore_block_db_create = false
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
osd_memory_target = 939524096
osd_op_num_shards = 1
osd_op_num_threads_per_shard = 1
osd_max_pg_log_entries = 100
"""
# That a monitor is gone is seen within seconds
QUICK = {"mon_lease": "1", "mon_election_timeout": "1"}


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass
class Monitor:
    """A monitor, and the address that is its host's."""

    name: str
    address: str
    port: int

    @property
    def where(self) -> str:
        return f"[v2:{self.address}:{self.port},v1:{self.address}:{self.port + 1}]"


@dataclass
class Cluster:
    """The cluster; its monitors are at 127.0.N.1, 127.0.N.2... unless they are given."""

    folder: Path
    programs: Programs
    mons: int = 1
    osd_bytes: int = 10 * 1024 * MIB
    network: int = 77
    public_network: str = "127.0.0.0/8"
    settings: dict[str, str] = field(default_factory=lambda: dict(QUICK))
    fsid: str = field(default_factory=lambda: str(uuid.uuid4()))
    monitors: list[Monitor] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def configuration(self) -> Path:
        return self.folder / "ceph.conf"

    @property
    def keyring(self) -> Path:
        """Where the administrator's key is."""
        return self.folder / "ceph.client.admin.keyring"

    @property
    def keys(self) -> Path:
        """Where the monitors' key is, with the administrator's."""
        return self.folder / "keys"

    @property
    def monmap(self) -> Path:
        """What monitors there are, as they are told when they are made."""
        return self.folder / "monmap"

    def start(self) -> Cluster:
        """Make and start everything; returns when placement groups are active."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in range(0 if self.monitors else self.mons):
            address = f"127.0.{self.network}.{number + 1}"
            self.monitors.append(Monitor("abcdefg"[number], address, _free_port(address)))
        self._configure()
        self._make_keys()
        for monitor in self.monitors:
            self.make_monitor(monitor.name)
            self.start_monitor(monitor.name)
        self.ceph("status", timeout_s=START_TIMEOUT_S)
        self._start_manager()
        self._start_osd()
        return self

    def stop(self) -> None:
        """End all processes at once: nothing of it is needed again."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(STOP_TIMEOUT_S)
        self.processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make_monitor(self, name: str) -> None:
        """Make what a monitor keeps."""
        where = ["--monmap", str(self.monmap), "--keyring", str(self.keys), "-c", str(self.configuration)]
        self.run("ceph-mon", "--mkfs", "-i", name, *where)

    def start_monitor(self, name: str) -> None:
        self._spawn(f"mon.{name}", "ceph-mon", "-i", name)

    def wait_for_quorum(self) -> None:
        """Wait until each monitor takes part: they elect anew when one has come, or was slow."""

        def absent() -> set[str]:
            return {each.name for each in self.monitors} - set(self.ceph("status")["quorum_names"])

        wait_until(lambda: not absent(), "all monitors are in the quorum", START_TIMEOUT_S)

    def stop_monitor(self, name: str) -> None:
        self._end(f"mon.{name}")

    def start_osd(self) -> None:
        self._spawn("osd.0", "ceph-osd", "-i", "0")

    def stop_osd(self) -> None:
        self._end("osd.0")

    def ceph(self, *argv: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        """Return what a command says as JSON, None for nothing."""
        command = ["ceph", "--connect-timeout", str(int(timeout_s)), *argv, "--format", "json"]
        out = self.run(*command, timeout_s=timeout_s + 10)
        return json.loads(out) if out.strip() else None

    def rbd(self, *argv: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        """Return what `rbd ... --format json` says."""
        return json.loads(self.run("rbd", *argv, "--format", "json", timeout_s=timeout_s))

    def run(self, *argv: str, timeout_s: float = COMMAND_TIMEOUT_S, text: str | None = None) -> str:
        """Run one of the programs with the administrator's key; return what it prints."""
        program, *words = argv
        command = [str(self.programs.bin / program), *words]
        if program in ("ceph", "rbd", "rados"):
            command += ["-c", str(self.configuration), "--keyring", str(self.keyring)]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, (argv, done.stdout, done.stderr[-3000:])
        return done.stdout

    def be_full(self, *, full: bool) -> None:
        """Have the OSD take itself for full, or no longer; returns when it does."""
        for kind, ratio in (("nearfull", "0.85"), ("backfillfull", "0.9"), ("full", "0.95")):
            self.ceph("osd", f"set-{kind}-ratio", "0.001" if full else ratio)
        wait_until(lambda: ("OSD_FULL" in self.ceph("health")["checks"]) is full, "the OSD is full", 60)

    def names(self, pool: str) -> list[str]:
        """Return the names of the images of a pool."""
        found: list[str] = self.rbd("ls", "-p", pool)
        return found

    def pools(self) -> list[str]:
        return [row["poolname"] for row in self.ceph("osd", "lspools")]

    def make_pool(self, name: str) -> str:
        self.ceph("osd", "pool", "create", name, "8", "8", "replicated")
        self.run("rbd", "pool", "init", name)
        return name

    def users(self) -> list[str]:
        """Return the names of the clients that have keys."""
        return [row["entity"] for row in self.ceph("auth", "ls")["auth_dump"] if "client." in row["entity"]]

    def common(self) -> str:
        """Return what all daemons of the cluster are told, wherever they run."""
        return COMMON.format(
            fsid=self.fsid,
            mon_host=" ".join(monitor.where for monitor in self.monitors),
            members=",".join(monitor.name for monitor in self.monitors),
            public_network=self.public_network,
            settings="".join(f"{name} = {value}\n" for name, value in self.settings.items()),
        )

    def _configure(self) -> None:
        here = HERE.format(
            folder=self.folder,
            libraries=self.programs.libraries,
            tree=self.programs.tree,
            osd_bytes=self.osd_bytes,
        )
        self.configuration.write_text(self.common() + here)

    def _make_keys(self) -> None:
        keys, admin = str(self.keys), str(self.keyring)
        everything = [word for part in ("mon", "osd", "mds", "mgr") for word in ("--cap", part, "allow *")]
        self.run("ceph-authtool", "-C", keys, "-g", "-n", "mon.", "--cap", "mon", "allow *")
        self.run("ceph-authtool", "-C", admin, "-g", "-n", "client.admin", *everything)
        self.run("ceph-authtool", keys, "--import-keyring", admin)
        added = [word for monitor in self.monitors for word in ("--addv", monitor.name, monitor.where)]
        self.run("monmaptool", "--create", *added, "--fsid", self.fsid, str(self.monmap))

    def _start_manager(self) -> None:
        (self.folder / "mgr.x").mkdir()
        keyring = str(self.folder / "ceph.mgr.x.keyring")
        caps = ["mon", "allow profile mgr", "osd", "allow *", "mds", "allow *"]
        self.run("ceph", "auth", "get-or-create", "mgr.x", *caps, "-o", keyring)
        self._spawn("mgr.x", "ceph-mgr", "-i", "x")

    def _start_osd(self) -> None:
        identity, keyring = str(uuid.uuid4()), self.folder / "ceph.osd.0.keyring"
        (self.folder / "osd.0").mkdir()
        self.run("ceph-authtool", "-C", str(keyring), "-g", "-n", "osd.0")
        secret = keyring.read_text().split("key = ")[1].split()[0]
        self.run("ceph", "osd", "new", identity, "-i", "-", text=json.dumps({"cephx_secret": secret}))
        made = ["--mkfs", "--osd-uuid", identity, "-c", str(self.configuration)]
        self.run("ceph-osd", "-i", "0", *made)
        self.start_osd()
        self.make_pool("rbd")
        wait_until(self._is_active, "placement groups active", START_TIMEOUT_S)

    def _is_active(self) -> bool:
        found = self.ceph("status")["pgmap"].get("pgs_by_state", [])
        return bool(found) and all(state["state_name"] == "active+clean" for state in found)

    def _spawn(self, key: str, program: str, *argv: str) -> None:
        words = [str(self.programs.bin / program), "-f", "-c", str(self.configuration), *argv]
        with (self.folder / f"{key}.out").open("ab") as out:
            self.processes[key] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def _end(self, key: str) -> None:
        process = self.processes.pop(key)
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)
