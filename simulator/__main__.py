"""The simulator as a command: `serve` a fleet; `lose` hosts of it, `recover` and `count` them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from agentkit import logs
from agentkit.errors import HardpointError
from simulator.control import Order, ask
from simulator.process import CONTROL, serve

EXIT_REFUSED = 2


def main(argv: list[str]) -> int:
    """Run a command; return the exit status: 0, or 2 with one line on standard error."""
    arguments = _parser().parse_args(argv)
    state: Path = arguments.state.absolute()
    try:
        if arguments.command == "serve":
            logs.setup("simulator", arguments.log_level)
            serve(state, arguments.port)
            return 0
        answer = asyncio.run(ask(state / CONTROL, _order(arguments)))
    except HardpointError as error:
        print(f"simulator: {error.details}; {error.remedy}", file=sys.stderr)
        return EXIT_REFUSED
    print(json.dumps(answer))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator", description="Simulated KVM hosts.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("serve", "serve the hosts of a state folder until stopped"),
        ("lose", "let hosts die, as if their agents were killed"),
        ("recover", "bring all hosts back that were lost"),
        ("count", "say how many hosts are in which state"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--state", type=Path, required=True, help="the simulator's state folder")
        if name == "serve":
            command.add_argument("--port", type=int, default=0, help="port of all hosts (0: any free one)")
            command.add_argument("--log-level", default="INFO")
        elif name == "lose":
            command.add_argument(
                "--count", type=int, default=0, help="how many, drawn from those that are up"
            )
            command.add_argument("--host", action="append", default=[], help="a host's uuid")
            command.add_argument(
                "--silently", action="store_true", help="as if their power were cut: nothing says so"
            )
    return parser


def _order(arguments: argparse.Namespace) -> Order:
    if arguments.command == "lose":
        return Order(do="lose", count=arguments.count, hosts=arguments.host, silently=arguments.silently)
    return Order(do=arguments.command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
