"""scripts/bootstrap on machines that lack something: a PATH with stand-ins for their commands."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

BOOTSTRAP = Path(__file__).parents[3] / "scripts/bootstrap"
OLD_PYTHON = """
case "$*" in
    *'sys.version_info >='*) exit 1 ;;
    *'sys.version.split'*) echo 3.10.12 ;;
esac
"""
DEBIAN_PYTHON = """
case "$*" in
    *ensurepip*) exit 1 ;;
    *python%d.%d-venv*) echo python3.11-venv ;;
esac
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A function that runs the script as user `uid` where the commands are the given shell scripts."""

    def run(*targets: str, uid: int = 1000, **commands: str) -> subprocess.CompletedProcess[str]:
        machine = {"id": f"echo {uid}", **commands}
        for name, text in machine.items():
            command = tmp_path / name.replace("_", "-")
            command.write_text(f"#!/bin/sh\n{text}\n")
            command.chmod(0o755)
        for name in ("find", "dirname"):
            (tmp_path / name).symlink_to(shutil.which(name) or name)
        argv = ["/bin/sh", str(BOOTSTRAP), *targets]
        return subprocess.run(argv, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)

    return run


def test_a_complete_machine_is_told_nothing(run: Run) -> None:
    done = run("venv", "test", python3="exit 0", curl="exit 0", qemu_img="exit 0", qemu_io="exit 0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_old_python_is_named_with_its_version_and_the_way_out(run: Run) -> None:
    done = run("venv", python3=OLD_PYTHON, apt_get="exit 0", uid=0)
    assert done.returncode == 2
    assert "needs Python 3.11 or newer" in done.stderr
    assert "is 3.10.12" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_a_user_that_is_not_root_is_told_the_apt_command(run: Run) -> None:
    done = run("venv", python3=DEBIAN_PYTHON, apt_get="exit 99")
    assert done.returncode == 2
    assert "sudo apt-get update && sudo apt-get install -y python3.11-venv\n" in done.stderr


def test_a_system_without_apt_is_told_what_is_missing(run: Run) -> None:
    done = run("venv", python3=DEBIAN_PYTHON, uid=0)
    assert done.returncode == 2
    assert "python3.11-venv: makes the virtual environment" in done.stderr
    assert "package manager" in done.stderr


def test_root_has_it_installed(run: Run, tmp_path: Path) -> None:
    python = f"[ -e {tmp_path}/installed ] && exit 0\n{DEBIAN_PYTHON}"
    apt = f'case "$*" in *" install "*python3.11-venv*) : >{tmp_path}/installed ;; esac'
    done = run("venv", python3=python, apt_get=apt, uid=0)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "installed").exists()


def test_a_package_that_several_targets_need_is_named_once_and_the_others_too(run: Run) -> None:
    done = run("bare", "lab", git="exit 0", apt_get="exit 99")
    assert done.returncode == 2
    (command,) = (line for line in done.stderr.splitlines() if "apt-get install" in line)
    packages = command.split("install -y ")[1].split()
    assert {"debootstrap", "qemu-system-x86", "qemu-utils"} <= set(packages)
    assert packages.count("debootstrap") == 1


def test_a_failed_installation_is_not_a_success(run: Run) -> None:
    done = run("venv", python3=DEBIAN_PYTHON, apt_get="exit 100", uid=0)
    assert done.returncode == 2
    assert "could not install: python3.11-venv" in done.stderr


def test_a_wrong_target_is_refused(run: Run) -> None:
    done = run("venf", python3="exit 0")
    assert done.returncode == 2
    assert "venf: unknown; known are venv, test, bare, lab and ceph" in done.stderr
