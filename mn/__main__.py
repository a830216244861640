"""The management node as a command: `serve` it, `stop` it with its local agents, print its `openapi`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from agentkit.errors import HardpointError
from mn import state_folder
from mn.state_folder import AlreadyRunningError

EXIT_REFUSED = 2
EXIT_RUNNING = 3
"""Another process serves the state folder."""


def main(argv: list[str] | None = None, boundary: Callable[[str], None] = lambda _name: None) -> int:
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


def _serve(arguments: argparse.Namespace, boundary: Callable[[str], None]) -> int:
    gc.disable()  # a fifth of the time that loading takes
    from mn.serve import serve  # everything but `stop` is slow to load

    gc.enable()
    return serve(
        arguments.state.absolute(),
        boundary,
        listen_address=arguments.listen,
        port=arguments.port,
        local_agents=arguments.local_agents,
    )


def _stop(arguments: argparse.Namespace) -> int:
    print(json.dumps(state_folder.stop(arguments.state.absolute())))  # noqa: T201 - a command speaks to its user
    return 0


def _python_version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _wheelhouse(arguments: argparse.Namespace) -> int:
    from mn.fleet import wheelhouse
    from mn.fleet.wheelhouse_sources import HostPython

    python = HostPython(arguments.python, arguments.architecture, arguments.glibc)
    for name in wheelhouse.fill(arguments.to, python, arguments.index):
        print(name)  # noqa: T201
    return 0


def _bundle(arguments: argparse.Namespace) -> int:
    from mn.fleet import wheelhouse
    from mn.fleet.wheelhouse_sources import HostPython

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
    from mn import facilities
    from mn.rest import describe

    facilities.load()
    print(describe.render(), end="")  # noqa: T201
    return 0


def _openapi(_arguments: argparse.Namespace) -> int:
    from mn import facilities
    from mn.rest import openapi
    from mn.rest.operation import registry

    facilities.load()
    sys.stdout.buffer.write(openapi.render(openapi.document(registry.values())))
    return 0


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # nothing is open any more, and taking all modules apart takes half a second
