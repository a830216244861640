"""The management node as a command: `serve` it, `stop` it with its local agents, print its `openapi`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from agentkit import logs, notify
from agentkit.errors import HardpointError
from mn import app, facilities
from mn.fleet import wheelhouse
from mn.fleet.local import agent_homes, stop_agent, stop_process
from mn.fleet.wheelhouse_sources import HostPython
from mn.jobs.job import Boundary
from mn.rest import describe, openapi
from mn.rest.operation import registry
from mn.settings import Settings

LOCK = "mn.lock"
EXIT_REFUSED = 2
EXIT_RUNNING = 3
"""Another process serves the state folder."""


class AlreadyRunningError(HardpointError):
    """The state folder is in use."""


def main(argv: list[str] | None = None, boundary: Boundary = lambda _name: None) -> int:
    """Run a subcommand and return its exit code: 0 done, 2 refused with a line on standard error, 3
    runs already.
    """
    parser = argparse.ArgumentParser(prog="python -m mn", description="The Hardpoint management node.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve until SIGTERM or SIGINT")
    serve.add_argument("--state", type=Path, required=True, help="folder of the database, keys and logs")
    serve.add_argument("--listen", help="address of the REST API")
    serve.add_argument("--port", type=int, help="port of the REST API (0: any)")
    serve.add_argument(
        "--local-agents", action="store_true", default=None, help="agents of loopback hosts run here"
    )
    serve.set_defaults(run=lambda arguments: _serve(arguments, boundary))
    stop = commands.add_parser("stop", help="stop the node of a state folder and its local agents")
    stop.add_argument("--state", type=Path, required=True, help="the folder given to serve")
    stop.set_defaults(run=_stop)
    wheels = commands.add_parser("wheelhouse", help="download the agent's wheels for another Python")
    wheels.add_argument("--python", type=_python_version, required=True, help="of the hosts, 3.12")
    wheels.add_argument("--architecture", default="x86_64", help="what `uname -m` prints on the hosts")
    wheels.add_argument("--glibc", type=_python_version, default=(2, 28), help="of the oldest host, 2.28")
    wheels.add_argument("--to", type=Path, required=True, help="folder; copy it to the node's wheels_dir")
    wheels.add_argument("--index", default="", help="URL of a package index; pip's own by default")
    wheels.set_defaults(run=_wheelhouse)
    bundle = commands.add_parser("bundle", help="pack the management node itself for ansible/mn.yml")
    bundle.add_argument("--to", type=Path, required=True, help="folder of the bundle and its variables")
    bundle.set_defaults(run=_bundle)
    described = commands.add_parser("describe", help="print the description of the API that clients ship")
    described.set_defaults(run=_describe)
    description = commands.add_parser("openapi", help="print the API's description (OpenAPI 3.1)")
    description.set_defaults(run=_openapi)
    arguments = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except HardpointError as error:
        remedy = f"; {error.remedy}" if error.remedy else ""
        print(f"mn: {error.details}{remedy}", file=sys.stderr)  # noqa: T201 - a command speaks to its user
        return EXIT_RUNNING if isinstance(error, AlreadyRunningError) else EXIT_REFUSED


def _serve(arguments: argparse.Namespace, boundary: Boundary) -> int:
    state: Path = arguments.state.absolute()
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = Settings.load(
            state,
            listen_address=arguments.listen,
            port=arguments.port,
            local_agents=arguments.local_agents,
        )
        lock = _take_lock(state)
    except OSError as error:
        raise HardpointError(
            "SYS.1000",
            "Internal error",
            f"the state folder {state} cannot be used: {error.strerror}",
            remedy="run as the user that owns it, or name another folder",
        ) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise HardpointError(
            "SYS.1007", "Invalid argument", f"settings of {state}: {faults}", remedy="correct mn.toml"
        ) from error
    logs.setup("mn", settings.log_level)
    with lock:
        asyncio.run(_serve_until_stopped(settings, lock, boundary))
    return 0


async def _serve_until_stopped(settings: Settings, lock: IO[str], boundary: Boundary) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    node = await app.start(settings, boundary)
    _write_lock(lock, {"pid": os.getpid(), "url": node.url})
    notifier = notify.Notifier()
    notifier.ready()
    await stopped.wait()
    notifier.stopping()
    await app.stop(node)


def _take_lock(state: Path) -> IO[str]:
    file = (state / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = _parsed(file.read())
        file.close()
        raise AlreadyRunningError(
            "SYS.1000",
            "Internal error",
            f"a management node (pid {holder.get('pid', 'unknown')}) runs on the state folder {state}",
            remedy=f"use it at {holder.get('url', 'its port')}, or `hardpoint down --state {state}`",
        ) from None
    _write_lock(file, {"pid": os.getpid()})
    return file


def _write_lock(file: IO[str], content: dict[str, object]) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(content))
    file.flush()


def _parsed(text: str) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        content = json.loads(text)
        if isinstance(content, dict):
            return content
    return {}


def _stop(arguments: argparse.Namespace) -> int:
    state: Path = arguments.state.absolute()
    if not state.is_dir():
        raise HardpointError(
            "SYS.1007", "Invalid argument", f"there is no state folder {state}", remedy="give the one of `up`"
        )
    stopped = stop_process(lambda: _holder(state))
    agents = sum(stop_agent(home) for home in agent_homes(state / app.AGENTS_DIR))
    simulator = stop_agent(state / app.SIMULATOR_DIR)
    print(json.dumps({"mn": stopped, "agents": agents, "simulator": simulator}))  # noqa: T201
    return 0


def _python_version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _wheelhouse(arguments: argparse.Namespace) -> int:
    python = HostPython(arguments.python, arguments.architecture, arguments.glibc)
    for name in wheelhouse.fill(arguments.to, python, arguments.index):
        print(name)  # noqa: T201
    return 0


def _bundle(arguments: argparse.Namespace) -> int:
    version, content = wheelhouse.pack_node(HostPython.own())
    folder: Path = arguments.to.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"mn-{version}-{HostPython.own().label}.tar.gz"
    path.write_bytes(content)
    variables = {"hardpoint_version": version, "hardpoint_bundle": str(path)}
    (folder / "mn.json").write_text(json.dumps(variables) + "\n")
    print(f"ansible-playbook -i HOST, -e @{folder / 'mn.json'} {wheelhouse.ansible_directory() / 'mn.yml'}")  # noqa: T201
    return 0


def _describe(_arguments: argparse.Namespace) -> int:
    facilities.load()
    print(describe.render(), end="")  # noqa: T201
    return 0


def _openapi(_arguments: argparse.Namespace) -> int:
    facilities.load()
    sys.stdout.buffer.write(openapi.render(openapi.document(registry.values())))
    return 0


def _holder(state: Path) -> int | None:
    try:
        with (state / LOCK).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = _parsed(file.read()).get("pid")
                return pid if isinstance(pid, int) else None
    except FileNotFoundError:
        return None
    return None


if __name__ == "__main__":
    sys.exit(main())
