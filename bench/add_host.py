"""AddKVMHost of a bare guest of the lab, beside `ansible-playbook` of the same role on another one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.common import REPOSITORY, Table, load_note, scratch
from tests.lab.guest import Guest
from tests.lab.hosts import add_host, make_cluster
from tests.lab.lab import Lab
from tests.node import run_node

FIRST, SECOND = "fresh", "fresh2"
COPY_POLL_S = 0.01
PLAY_TIMEOUT_S = 900.0
HEADS = ("what", "s", "x playbook")


def table() -> Table:
    """Add one guest through the API, play the role on another, each alone on the machine and as new."""
    before = os.getloadavg()[0]
    with scratch() as directory, Lab() as lab, lab.network.entered():
        lab.repository  # noqa: B018  it serves from here on
        state = directory / "state"
        with contextlib.contextmanager(run_node)(state) as node:
            admin = node.rest().logged_in()
            cluster = make_cluster(admin)
            guest = lab.guest(FIRST)
            with _run_kept(state / "ansible", directory / "kept"):
                begin = time.monotonic()
                add_host(admin, cluster, guest)
                added_s = time.monotonic() - begin
            guest.power_off()
            played_s = _play(lab.guest(SECOND), directory / "kept")
    result = Table("a bare host is added", HEADS)
    result.rows = [
        ["AddKVMHost", f"{added_s:.1f}", f"{added_s / played_s:.2f}"],
        ["ansible-playbook deploy.yml", f"{played_s:.1f}", "1.00"],
    ]
    result.notes = [
        "one run each, on guests of one image, one after the other; both install packages from the lab",
        "the playbook has the variables, the bundle and the ansible.cfg of the first; it does not make them",
        "AddKVMHost: from the request until the job is done: checks, bundle, playbook, inventory, Connected",
        load_note(before),
    ]
    return result


@contextlib.contextmanager
def _run_kept(runs: Path, kept: Path) -> Iterator[None]:
    """Copy the inventory that a run is played with, which the run takes away at its end."""
    over = threading.Event()

    def copy() -> None:
        while not over.wait(COPY_POLL_S):
            for inventory in runs.glob("run-*/hosts.json"):
                with contextlib.suppress(OSError, ValueError):
                    json.loads(inventory.read_bytes())  # whole
                    shutil.copy(inventory, kept)
                    return

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if not kept.exists():
        raise RuntimeError(f"no run of ansible was seen below {runs}")


def _play(guest: Guest, kept: Path) -> float:
    """Play the role on a guest with a kept inventory; return the seconds it took."""
    inventory = json.loads(kept.read_bytes())
    inventory["all"]["hosts"]["host"] |= {
        "ansible_host": guest.address,
        "ansible_password": guest.password,
        "ansible_ssh_args": "-F /dev/null -o ControlMaster=auto -o ControlPersist=60s "
        "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PubkeyAuthentication=no",
    }
    own = kept.with_suffix(".json")
    own.write_text(json.dumps(inventory))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(kept.with_name("sockets")),
        "ANSIBLE_HOME": str(kept.with_name("ansible")),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY),
    }
    playbook = Path(sys.executable).with_name("ansible-playbook")
    argv = [str(playbook), "-i", str(own), str(REPOSITORY / "ansible" / "deploy.yml")]
    begin = time.monotonic()
    done = subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=PLAY_TIMEOUT_S, check=False
    )
    taken = time.monotonic() - begin
    if done.returncode != 0:
        raise RuntimeError(f"ansible-playbook ended with {done.returncode}: {done.stdout[-2000:]}")
    return taken
