"""Guests come back from the snapshot as they were, and nothing stays of a lab."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.lab import runs, storage
from tests.lab.lab import FLEET, Lab

REPOSITORY = Path(__file__).parents[2]
START_TIMEOUT_S = 300.0


def test_a_restored_fleet_has_forgotten_what_was_done_and_works(lab: Lab) -> None:
    kvm1 = lab.guest("kvm1")
    kvm1.run("touch /root/note; sync")
    boot = kvm1.run("cat /proc/sys/kernel/random/boot_id")

    lab.power_off()
    kvm1, kvm2, san = (lab.guest(name) for name in FLEET)

    assert kvm1.run("cat /proc/sys/kernel/random/boot_id") == boot
    assert kvm1.try_run("test -e /root/note").returncode == 1
    assert abs(float(kvm1.run("date +%s.%N")) - time.time()) < 30
    assert storage.iscsi_login(kvm2, san) == 0
    storage.mount_nfs(kvm2, san)


def test_a_killed_lab_is_cleaned_up_by_the_next(lab: Lab) -> None:
    start = "from tests.lab.lab import Lab; lab = Lab(); lab.machine('fresh').start()"
    script = f"{start}; print('up', flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        (run,) = [run for run in runs.recorded() if run.owner.pid == other.pid]
        assert len(run.processes) == 1
        assert run.network.path.exists()
        other.send_signal(signal.SIGKILL)
        other.wait(START_TIMEOUT_S)

    runs.clean()  # another lab that begins may have done it already

    assert not run.folder.exists()
    assert not run.network.path.exists()
    assert not any(process.alive for process in run.processes)
    assert lab.run.folder.exists()  # of a lab that is alive nothing is touched
    assert lab.network.path.exists()


def test_labs_that_begin_together_do_not_remove_the_same_things(lab: Lab) -> None:
    del lab  # only for its machine
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = "import os; from tests.lab import runs; runs.begin().network.create(); os.kill(os.getpid(), 9)"
    for _ in range(4):
        subprocess.run([sys.executable, "-c", killed], env=environment, check=False)
    clean = [sys.executable, "-c", "from tests.lab import runs; runs.clean()"]
    cleaning = [subprocess.Popen(clean, env=environment) for _ in range(3)]

    assert [process.wait(START_TIMEOUT_S) for process in cleaning] == [0, 0, 0]
    assert all(run.owner.alive for run in runs.recorded())
