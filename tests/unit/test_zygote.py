"""What the tests' forked processes have of processes that were started."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import zygote

PROGRAM = """
import os, sys, time
print(sys.argv[1:], __name__, os.environ["GIVEN"], sorted(os.environ), os.getcwd(), flush=True)
print(sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1], flush=True)
if sys.argv[1] == "stay":
    time.sleep(600)
if sys.argv[1] == "raise":
    raise KeyError("lost")
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def start(program: Path, *argv: str) -> tuple[zygote.Process, Path]:
    log = program.with_name("log")
    with log.open("ab") as file:
        environment = {"GIVEN": "yes"}
        return zygote.popen([str(program), *argv], log=file, env=environment, cwd=str(program.parent)), log


def test_it_has_its_own_arguments_environment_folder_and_outputs_and_ends_with_its_code(
    program: Path,
) -> None:
    process, log = start(program, "end", "7")
    assert process.wait(60) == process.poll() == 7
    first, second = log.read_text().splitlines()
    assert first == f"['end', '7'] __main__ yes ['GIVEN'] {program.parent}"
    assert second == "[0, 1, 2]"


def test_an_error_is_in_its_log_and_its_code(program: Path) -> None:
    process, log = start(program, "raise")
    assert process.wait(60) == 1
    assert "KeyError: 'lost'" in log.read_text()


def test_it_runs_until_it_is_killed(program: Path) -> None:
    process, _ = start(program, "stay")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    assert Path(f"/proc/{process.pid}").exists()
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    process.kill()  # nothing to end


def test_a_module_is_run_as_python_does() -> None:
    process = zygote.popen(["-m", "mn", "stop"], log=None, env=dict(os.environ))
    assert process.wait(60) == 2
