"""The management node, installed on a real machine by the playbook that an administrator runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.deployment import REPOSITORY
from tests.lab.guest import Guest
from tests.lab.lab import Lab
from tests.node import Rest

pytestmark = pytest.mark.timeout(1800)
PLAY_TIMEOUT_S = 1500.0
UNIT = "hardpoint-mn.service"


@dataclass(frozen=True)
class Site:
    """A guest that is to be the management node's machine, and how the playbook is played on it."""

    guest: Guest
    key: Path
    bundle: Path

    def play(self, *settings: str) -> dict[str, int]:
        """Play with settings (`NAME=VALUE`) and return ansible's recap."""
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg"),
            "ANSIBLE_HOST_KEY_CHECKING": "False",
        }
        argv = ["ansible-playbook", "-i", f"{self.guest.address},", "-u", "root"]
        argv += ["--private-key", str(self.key), "-e", f"@{self.bundle / 'mn.json'}"]
        argv += [part for setting in settings for part in ("-e", setting)]
        done = subprocess.run(
            [*argv, str(REPOSITORY / "ansible" / "mn.yml")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PLAY_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", done.stdout.splitlines()[-2])}


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    bundle = tmp_path_factory.mktemp("bundle")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    argv = [sys.executable, "-m", "mn", "bundle", "--to", str(bundle)]
    subprocess.run(argv, env=environment, cwd="/", check=True, capture_output=True)
    return Site(lab.guest("kvm2"), lab.images.ssh_key, bundle)


def test_the_node_is_installed_and_serves(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    first = site.play()
    assert first["changed"] > 0
    assert Rest(f"http://{site.guest.address}:8080").log_in().status == 200
    assert site.guest.run(f"systemctl is-active {UNIT}").strip() == "active"
    assert site.guest.run(f"systemctl show -p User {UNIT}").strip() == "User=hardpoint"
    lines = site.guest.run(f"systemd-analyze security --no-pager {UNIT}").splitlines()
    with capsys.disabled():
        print("\n" + lines[-1])
    assert float(lines[-1].split(":")[1].split()[0]) < 3.0


@pytest.mark.long
def test_the_node_keeps_its_data_in_a_postgresql_of_the_same_machine_and_is_installed_once(
    site: Site,
) -> None:
    database = "hardpoint_postgresql=true"
    assert site.play(database)["changed"] > 0
    admin = Rest(f"http://{site.guest.address}:8080").logged_in()
    zone = admin.create("/zones", name="kept")
    query = f"select name from zone where uuid = '{zone['uuid']}'"
    kept = site.guest.run(f'runuser -u postgres -- psql -d hardpoint -tAc "{query}"')
    assert kept.strip() == "kept"
    others = "runuser -u nobody -- psql -h /run/postgresql -U hardpoint -d hardpoint -c 'select 1'"
    assert "authentication failed" in site.guest.try_run(others).stderr

    before = site.guest.run(f"systemctl show -p InvocationID {UNIT}")
    assert site.play(database)["changed"] == 0
    assert site.guest.run(f"systemctl show -p InvocationID {UNIT}") == before
