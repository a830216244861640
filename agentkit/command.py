"""An agent's command line: `serve --config FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentkit import logs
from agentkit.daemon import EXIT_CANNOT_START, Daemon
from agentkit.errors import HardpointError
from agentkit.settings import S


def serve(name: str, load: Callable[[Path], S], build: Callable[[S], Daemon[Any]], argv: list[str]) -> int:
    """Run the agent `name` and return the exit code: 0 stopped, 1 a fault, 2 cannot start."""
    parser = argparse.ArgumentParser(prog=name)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("serve", help="serve the management node until stopped")
    command.add_argument("--config", type=Path, required=True, help="TOML file")
    arguments = parser.parse_args(argv)
    try:
        settings = load(arguments.config)
        logs.setup(name, settings.log_level)
        daemon = build(settings)
    except HardpointError as error:
        sys.stderr.write(f"{name}: {error.details}; {error.remedy}\n")
        return EXIT_CANNOT_START
    return daemon.run()
