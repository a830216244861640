"""The `hardpoint` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnclient.api import ApiError
from mnclient.errors import HardpointClientError, NoAnswerError
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
from mnclient.shell.output import EXIT_CODES, EXIT_REFUSED, FORMATS, explain

if TYPE_CHECKING:
    from mnclient.shell.execute import Runner

ASK = "_complete"
"""The hidden command that completion scripts call: `hardpoint _complete bash LINE`."""
DEFAULT_STATE = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "hardpoint"

app = typer.Typer(
    help="Hardpoint: the hardware of KVM hosts behind one REST API.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

State = Annotated[Path, typer.Option("--state", help="folder of database, keys, certificates and logs")]
Url = Annotated[
    str | None,
    typer.Option("--url", help="the management node; else HARDPOINT_URL, the last login's, 127.0.0.1:8080"),
]
Form = Annotated[
    str | None,
    typer.Option("--output", help="table (on a terminal), json (elsewhere) or yaml", metavar="FORMAT"),
]


@app.command()
def up(
    state: State = DEFAULT_STATE,
    port: Annotated[
        int, typer.Option(help="port of the REST API (0: any free one)", min=0, max=65535)
    ] = 8080,
    listen: Annotated[str, typer.Option(help="address of the REST API")] = "127.0.0.1",
    detach: Annotated[bool, typer.Option("--detach", help="return when this machine is Connected")] = False,
) -> None:
    """Start a management node and an agent on this machine, and show its hardware through the API."""
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
    if not any(stopped.values()):
        print("nothing was running")
        return
    node = "yes" if stopped["mn"] else "was not running"
    simulated = ", simulated fleet" if stopped["simulator"] else ""
    print(f"stopped: management node {node}, agents {stopped['agents']}{simulated}")


@app.command()
def simulate(
    hosts: Annotated[int, typer.Option(help="how many simulated hosts there are to be", min=1)] = 100,
    state: State = DEFAULT_STATE,
    machine: Annotated[
        Path | None, typer.Option(help="a recording of `kvmagent record` that new hosts are like")
    ] = None,
    port: Annotated[
        int, typer.Option(help="port of the REST API, if it is started", min=0, max=65535)
    ] = 8080,
    lose: Annotated[
        int | None, typer.Option(help="add none; let so many hosts that run die", min=1, metavar="N")
    ] = None,
    silently: Annotated[
        bool, typer.Option("--silently", help="with --lose: as if their power were cut")
    ] = False,
    recover: Annotated[bool, typer.Option("--recover", help="add none; bring back the lost ones")] = False,
) -> None:
    """Run a fleet of simulated hosts: the real agent on recorded machines, at addresses of 127.64.0.0/10."""
    from mnclient.simulate import control  # late: other commands do without

    state = state.absolute()
    if lose is not None:
        words = ["lose", "--count", str(lose), *(["--silently"] if silently else [])]
        print(f"lost: {len(control(state, *words)['hosts'])} hosts")
    elif recover:
        print(f"back: {len(control(state, 'recover')['hosts'])} hosts")
    else:
        _simulate(state, port, hosts, machine)


@app.command(epilog=EXIT_CODES, context_settings={"ignore_unknown_options": True})
def cli(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[OPERATION [PARAMETER=VALUE]...]", show_default=False)
    ] = None,
    url: Url = None,
    output: Form = None,
) -> None:
    """Call an operation: `hardpoint cli QueryZone name=zone1`; without one, the interactive shell.

    Commands that are piped in are run up to the first that fails.
    """
    runner = _runner(url, output)
    if words:
        raise SystemExit(_once(runner, words))
    if not sys.stdin.isatty():
        raise SystemExit(_script(runner))
    from mnclient.shell.repl import Shell  # late: one call does without a prompt

    raise SystemExit(Shell(runner).run())


@app.command(epilog=EXIT_CODES)
def login(
    url: Url = None,
    account: Annotated[str, typer.Option(help="the account's name")] = "admin",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="read the password from standard input")
    ] = False,
) -> None:
    """Log in, and keep the session for later calls.

    The password is asked for, or taken from HARDPOINT_PASSWORD. The session is kept in the keyring where one
    works, else in a file of mode 0600.
    """
    import getpass

    runner = _runner(url, None)
    password = os.environ.get("HARDPOINT_PASSWORD", "")
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    elif not password:
        password = getpass.getpass(f"password of {account} at {runner.connection.node.url}: ")
    try:
        kept = runner.log_in(account, password)
    except HardpointClientError as error:
        raise SystemExit(explain(error, "login", sys.stderr)) from error
    print(f"logged in as {account} at {runner.connection.node.url} (session kept in {kept})")


@app.command(epilog=EXIT_CODES)
def logout() -> None:
    """End the session of `hardpoint login` and forget it."""
    runner = _runner(None, None)
    if runner.connection.options.session is None:
        print("nobody is logged in")
        return
    try:
        runner.connection.log_out()
    except HardpointClientError as error:
        raise SystemExit(explain(error, "logout", sys.stderr)) from error
    finally:
        runner.logins.forget()
    print("logged out")


@app.command(epilog=EXIT_CODES)
def job(
    uuid: Annotated[str, typer.Argument(help="the job's uuid")], url: Url = None, output: Form = None
) -> None:
    """Wait for a job that was begun before, and show its result."""
    raise SystemExit(_runner(url, output).follow(uuid))


@app.command("shell-output", epilog=EXIT_CODES)
def shell_output(
    location: Annotated[
        str, typer.Argument(help="stdoutLocation or stderrLocation of a reply of KvmRunShell")
    ],
    file: Annotated[
        str, typer.Argument(help="where to put it; else <host uuid>.stdout or .stderr here")
    ] = "",
    url: Url = None,
    output: Form = None,
) -> None:
    """Fetch all that a script of KvmRunShell printed, where its reply holds only the beginning.

    The file has its name only when it is whole. Interrupted, the same command goes on where it was.
    """
    raise SystemExit(_runner(url, output).fetch_output(location, file))


@app.command()
def completion(shell: Annotated[str, typer.Argument(help="bash, zsh or fish")]) -> None:
    """Print what completes commands in a shell: `source <(hardpoint completion bash)`."""
    from mnclient.shell.words import SCRIPTS

    if shell not in SCRIPTS:
        print(
            f"hardpoint: there is no completion for '{shell}', only for {', '.join(SCRIPTS)}", file=sys.stderr
        )
        raise SystemExit(EXIT_REFUSED)
    print(SCRIPTS[shell], end="")


def _simulate(state: Path, port: int, hosts: int, machine: Path | None) -> None:
    from mnclient import simulate as fleet

    fleet.check_files(hosts)
    named = fleet.take_machine(state, machine) if machine else None
    node = start_node(state, "127.0.0.1", port)
    print(f"management node: {node.url}", flush=True)
    end = "\r" if sys.stdout.isatty() else "\n"

    def report(done: int, wanted: int) -> None:
        if sys.stdout.isatty() or done == wanted or done % 100 == 0:
            print(f"added {done} of {wanted} hosts", end="\n" if done == wanted else end, flush=True)

    password = os.environ.get("HARDPOINT_PASSWORD", "password")
    summary = fleet.build_fleet(node, password, hosts, named, report)
    rate = f" in {summary.added_s:.1f} s" if summary.added else ""
    print(f"hosts: {summary.before} before, {summary.added} added{rate}, {summary.connected} Connected")
    print(f"their PCI devices: {summary.pci_devices}")
    print(f"lose some: hardpoint simulate --lose 5 --state {state}    stop it with: {_down(state)}")


def _runner(url: str | None, form: str | None) -> Runner:
    from mnclient.shell.execute import Runner

    if form is not None and form not in FORMATS:
        print(f"hardpoint: --output is '{form}': give one of {', '.join(FORMATS)}", file=sys.stderr)
        raise SystemExit(EXIT_REFUSED)
    return Runner.start(url, form)


def _once(runner: Runner, words: list[str]) -> int:
    if words[0] != "help":
        return runner.run(words)
    from mnclient.shell import helptext

    description = runner.connection.description
    try:
        print(helptext.about(words[1], description) if words[1:] else helptext.overview(description))
    except HardpointClientError as error:
        return explain(error, "help", sys.stderr)
    return 0


def _script(runner: Runner) -> int:
    """Run the commands of standard input up to the first that fails."""
    from mnclient.shell.syntax import split

    for number, line in enumerate(sys.stdin, start=1):
        words = [word.text for word in split(line)]
        if not words or words[0].startswith("#"):
            continue
        if code := _once(runner, words):
            print(f"stopped at line {number}", file=sys.stderr)
            return code
    return 0


def _show(node: LocalNode) -> None:
    from mnclient.tables import console, show_hardware  # late: only `up` draws them

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
    if sys.argv[1:2] == [ASK]:
        from mnclient.shell.words import candidates

        print("\n".join(candidates(*sys.argv[2:4])))
        return
    try:
        app()
    except LocalError as error:
        print(f"hardpoint: {error}", file=sys.stderr)
    except ApiError as error:
        print(f"hardpoint: the management node refused: {error}", file=sys.stderr)
    except (NoAnswerError, TimeoutError) as error:
        print(f"hardpoint: {error}; see mn.log", file=sys.stderr)
    else:
        return
    sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
