from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
MACHINES = REPOSITORY / "tests/machines"


def kvmagent(*arguments: str | Path, columns: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": columns}
    argv = [sys.executable, "-m", "kvmagent", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, check=False, timeout=60)


def test_the_inventory_of_a_recorded_machine_is_shown_as_tables(recorded) -> None:
    done = kvmagent("inventory", "--root", recorded("four-socket-2013"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "PCI functions: 37\nADDRESS " in done.stdout
    assert "0000:02:00.0  14e4:1639  Generic  bnx2" in done.stdout
    assert "005:002  5-2   0624:0248  1.1" in done.stdout
    assert "[host needs it: root file system on /dev/sda1" in done.stdout
    assert "  sda1  19.1 GiB" in done.stdout


def test_a_recording_can_be_shown_without_unpacking_it() -> None:
    done = kvmagent("inventory", "--only", "pci", "--root", MACHINES / "eight-accelerators.tar.xz")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("PCI functions: 28\n")


def test_lines_fit_the_terminal() -> None:
    done = kvmagent("inventory", "--root", MACHINES / "four-socket-2013.tar.xz", columns="60")
    assert max(len(line) for line in done.stdout.splitlines()) == 60


def test_json_is_what_the_management_node_would_get(recorded) -> None:
    done = kvmagent("inventory", "--json", "--only", "usb,facts", "--root", recorded("four-socket-2013"))
    shown = json.loads(done.stdout)
    assert [device["portPath"] for device in shown["usb"]] == ["5-2"]
    assert (shown["facts"]["cpuNum"], shown["pci"], len(shown["hash"])) == (40, [], 64)


def test_the_running_machine_is_shown() -> None:
    done = kvmagent("inventory")
    assert (done.returncode, done.stderr) == (0, "")
    assert "network interfaces: " in done.stdout
    assert "127.0.0.1/8" in done.stdout


def test_a_recording_can_be_made_and_shown_again(recorded, tmp_path: Path) -> None:
    file = tmp_path / "machine.tar.xz"
    done = kvmagent("record", file, "--root", recorded("virtio-guest"))
    assert (done.returncode, done.stdout) == (0, f"{file}: {file.stat().st_size} bytes\n")
    assert "PCI functions: 6" in kvmagent("inventory", "--root", file).stdout


def test_help_names_the_commands() -> None:
    done = kvmagent("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("inventory", "record", "serve"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["inventory", "--only", "pci,gpu"],
            "--only: there is no section 'gpu'. Choose from facts, pci, usb, block, network.",
        ),
        (["inventory", "--root", "{tmp}/none"], "--root {tmp}/none: there is no such directory. Name "),
        (
            ["inventory", "--root", "{tmp}"],
            "--root {tmp}: no machine is there, for it has no sys or no proc. Name ",
        ),
        (["inventory", "--root", "{tmp}/file"], "{tmp}/file is no recording: not an lzma file. Give "),
        (["inventory", "--root", "/dev/null"], "--root /dev/null: it is no directory. Name "),
        (["record", "{tmp}/none/x"], "Cannot write {tmp}/none/x: No such file or directory. Name "),
        (["record", "{tmp}/x", "--root", "{tmp}"], "--root {tmp}: no machine is there"),
    ],
)
def test_a_mistake_is_one_line_with_thing_reason_and_next_step(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("hello")
    done = kvmagent(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("kvmagent: " + message.format(tmp=tmp_path))
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_causes_no_traceback(recorded) -> None:
    command = f"{sys.executable} -m kvmagent inventory --json --root {recorded('four-socket-2013')} | head -1"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, check=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_looking_at_devices_imports_nothing_heavy(recorded) -> None:
    heavy = ["asyncio", "aiohttp", "pyroute2", "pyudev", "psutil", "rich", "hashlib", "tarfile", "socket"]
    code = (
        "import sys, kvmagent.__main__ as m\n"
        f"m.main(['inventory', '--only', 'pci,usb', '--root', {str(recorded('virtio-guest'))!r}])\n"
        f"print('heavy:', [name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert "heavy: []" in done.stdout


def test_the_command_starts_without_what_only_takes_time_to_import(recorded) -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "kvmagent", "inventory", "--only", "pci,usb"]
    done = subprocess.run(
        [*argv, "--root", str(recorded("virtio-guest"))],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "kvmagent.machine.pci" in imported
    assert imported & {"inspect", "tokenize", "shutil", "pathlib"} == set()
