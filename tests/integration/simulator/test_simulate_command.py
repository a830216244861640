"""`hardpoint simulate` as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import REPOSITORY

MACHINES = REPOSITORY / "tests" / "machines"


class Shell:
    """Runs `hardpoint` on a state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HARDPOINT_")}
        environment["PYTHONPATH"] = str(REPOSITORY)
        return subprocess.run(
            [sys.executable, "-m", "mnclient.cli", *words, "--state", str(self.state)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=110,
        )


@pytest.fixture
def hardpoint(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "state")
    yield shell
    shell("down")


def test_a_fleet_is_made_lost_brought_back_enlarged_and_stopped(hardpoint: Shell) -> None:
    made = hardpoint("simulate", "--hosts", "3", "--port", "0")
    assert made.returncode == 0, made.stderr
    assert "hosts: 0 before, 3 added" in made.stdout
    assert "3 Connected" in made.stdout
    assert "their PCI devices: 111" in made.stdout
    assert hardpoint("simulate", "--lose", "2").stdout == "lost: 2 hosts\n"
    assert hardpoint("simulate", "--recover").stdout == "back: 2 hosts\n"
    machine = str(MACHINES / "virtio-guest.tar.xz")
    larger = hardpoint("simulate", "--hosts", "5", "--machine", machine, "--port", "0")
    assert larger.returncode == 0, larger.stderr
    assert "hosts: 3 before, 2 added" in larger.stdout
    assert "their PCI devices: 123" in larger.stdout
    assert hardpoint("down").stdout == "stopped: management node yes, agents 0, simulated fleet\n"


def test_more_hosts_than_a_process_may_have_files_are_refused_before_anything_starts(
    hardpoint: Shell,
) -> None:
    refused = hardpoint("simulate", "--hosts", "99999999")
    assert refused.returncode == 2
    assert "open files" in refused.stderr
    assert "ulimit -Hn" in refused.stderr
    assert not hardpoint.state.exists()


def test_hosts_cannot_be_lost_where_there_is_no_fleet(hardpoint: Shell) -> None:
    refused = hardpoint("simulate", "--lose", "1")
    assert refused.returncode == 2
    assert "no simulator answers" in refused.stderr


def test_a_machine_that_is_no_recording_is_refused(hardpoint: Shell, tmp_path: Path) -> None:
    file = tmp_path / "machine.txt"
    file.write_text("none")
    refused = hardpoint("simulate", "--machine", str(file))
    assert refused.returncode == 2
    assert "is no recorded machine" in refused.stderr
