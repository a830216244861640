"""One playbook as a process of its own: it ends with the management node, and takes ansible along.

Standard input: a `Play` as one line of JSON, then nothing; its end cancels the run. Standard output: a `Told`
as one line of JSON for each task, each failure and the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec

POLL_S = 0.5
SSH_CLOSE_TIMEOUT_S = 5.0


class Play(msgspec.Struct):
    """What is played: a playbook with the inventory `hosts.json` of a private `directory`."""

    directory: str
    playbook: str
    password: str
    become_password: bool
    limit_s: float

    def __repr__(self) -> str:
        """Leave the password out."""
        return f"Play({self.playbook})"


class Told(msgspec.Struct, omit_defaults=True):
    """One thing that happened; `status` is the last one's: successful, failed, timeout, canceled."""

    task: str = ""
    failed: str = ""
    message: str = ""
    remedy: str = ""
    log: str = ""
    unreachable: bool = False
    status: str = ""
    changed: int = 0
    output: str = ""


def main() -> int:
    """Play, tell, clean up."""
    os.umask(0o077)
    play = msgspec.json.decode(sys.stdin.buffer.readline(), type=Play)
    cancelled = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: cancelled.set())
    threading.Thread(target=_watch_input, args=(cancelled,), daemon=True).start()
    # The path of a socket has 100 characters at most, a state folder's may be longer.
    sockets = Path(tempfile.mkdtemp(prefix="hardpoint-ssh-"))
    try:
        _play(play, cancelled, sockets)
    finally:
        _close_connections(sockets)
        shutil.rmtree(sockets, ignore_errors=True)
        shutil.rmtree(play.directory, ignore_errors=True)
    return 0


def _watch_input(cancelled: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    cancelled.set()


def _play(play: Play, cancelled: threading.Event, sockets: Path) -> None:
    from ansible_runner import Runner, RunnerConfig

    teller = _Teller()
    passwords = {r"SSH password:\s*$": play.password}
    options = "--ask-pass"
    if play.become_password:
        passwords[r"BECOME password.*:\s*$"] = play.password
        options += " --ask-become-pass"
    config = RunnerConfig(
        private_data_dir=play.directory,
        playbook=play.playbook,
        inventory=str(Path(play.directory) / "hosts.json"),
        cmdline=options,
        passwords=passwords,
        envvars={"ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets)},
        timeout=int(play.limit_s),
        quiet=True,
    )
    config.prepare()
    runner = Runner(config, cancel_callback=cancelled.is_set, event_handler=teller.event)
    status, _ = runner.run()
    output = Path(config.artifact_dir, "stdout")
    tail = output.read_text(errors="replace")[-2000:] if output.exists() else ""
    _tell(Told(status=status, changed=teller.changed, output=tail))


class _Teller:
    """Turns ansible's events into what is told."""

    def __init__(self) -> None:
        self.changed = 0

    def event(self, event: dict[str, Any]) -> bool:
        kind, data = event.get("event"), event.get("event_data", {})
        if kind == "playbook_on_task_start":
            _tell(Told(task=_task_name(data)))
        elif kind in {"runner_on_failed", "runner_on_unreachable"} and not data.get("ignore_errors"):
            result = data.get("res", {})
            said = result.get("msg") or result.get("stderr") or result.get("module_stderr") or ""
            _tell(
                Told(
                    failed=_task_name(data),
                    message=str(said)[-2000:],
                    remedy=str(result.get("remedy", "")),
                    log=str(result.get("log", ""))[-4000:],
                    unreachable=kind == "runner_on_unreachable",
                )
            )
        elif kind == "playbook_on_stats":
            self.changed = sum(data.get("changed", {}).values())
        if kind == "runner_on_ok" and data.get("res", {}).get("log"):
            _tell(Told(log=str(data["res"]["log"])[-4000:]))
        return False


def _task_name(data: dict[str, Any]) -> str:
    name = str(data.get("task", ""))
    return name.partition(" : ")[2] or name


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


def _close_connections(sockets: Path) -> None:
    """End ssh's kept connections now and not when they have been idle for long enough."""
    for path in sockets.iterdir():
        argv = ["ssh", "-F", "/dev/null", "-o", f"ControlPath={path}", "-O", "exit", "host"]
        try:
            subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SSH_CLOSE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue


if __name__ == "__main__":
    sys.exit(main())
