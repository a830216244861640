"""The `hardpoint` command."""

from __future__ import annotations

import os
import sys
import urllib.error
from pathlib import Path
from typing import Annotated

import typer

from mnclient.api import ApiError
from mnclient.local import (
    LocalError,
    LocalNode,
    enrol,
    log_in,
    start_node,
    stop_node,
    stop_requests,
    wait_for_end,
)
from mnclient.tables import console, show_hardware

DEFAULT_STATE = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "hardpoint"
EXIT_REFUSED = 2

app = typer.Typer(
    help="Hardpoint: the hardware of KVM hosts behind one REST API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

State = Annotated[Path, typer.Option("--state", help="folder of database, keys, certificates and logs")]


@app.command()
def up(
    state: State = DEFAULT_STATE,
    port: Annotated[
        int, typer.Option(help="port of the REST API (0: any free one)", min=0, max=65535)
    ] = 8080,
    listen: Annotated[str, typer.Option(help="address of the REST API")] = "127.0.0.1",
    detach: Annotated[bool, typer.Option("--detach", help="return when this machine is Connected")] = False,
) -> None:
    """Start a management node and an agent on this machine, and show the machine's hardware through
    the API.
    """
    state = state.absolute()
    asked = None if detach else stop_requests()
    node = start_node(state, listen, port)
    if node.process is None and asked is not None:
        raise LocalError(
            f"a management node runs on {state} already, at {node.url}; stop it with {_down(state)}"
        )
    try:
        _show(node)
    except BaseException:
        if node.process is not None:
            stop_node(state)
        raise
    print(f"REST API: {node.url}/zstack/v1    (admin; log in with PUT /accounts/login)")
    if asked is None:
        print(f"stop it with: {_down(state)}")
        return
    print("Ctrl-C stops everything; what is known is kept in", state, flush=True)
    try:
        wait_for_end(node, asked)
    finally:
        stop_node(state)
    print("stopped")


@app.command()
def down(state: State = DEFAULT_STATE) -> None:
    """Stop the management node of a state folder and the agents on this machine."""
    stopped = stop_node(state.absolute())
    if not stopped["mn"] and not stopped["agents"]:
        print("nothing was running")
        return
    node = "yes" if stopped["mn"] else "was not running"
    print(f"stopped: management node {node}, agents {stopped['agents']}")


def _show(node: LocalNode) -> None:
    client = log_in(node.url, os.environ.get("HARDPOINT_PASSWORD", "password"))
    host = enrol(client)
    out = console()
    show_hardware(out, client, host["uuid"])
    if client.notice:
        print(f"Notice: {client.notice}")
    client.log_out()


def _down(state: Path) -> str:
    return f"hardpoint down --state {state}"


def main() -> None:
    """Run the command; an error is one line on standard error and exit code 2."""
    try:
        app()
    except LocalError as error:
        print(f"hardpoint: {error}", file=sys.stderr)
    except ApiError as error:
        print(f"hardpoint: the management node refused: {error}", file=sys.stderr)
    except (urllib.error.URLError, TimeoutError) as error:
        print(f"hardpoint: the management node does not answer: {error}; see mn.log", file=sys.stderr)
    else:
        return
    sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
