"""An agent with commands made for tests; `python sample_agent.py CONFIG_JSON`."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agentkit import logs
from agentkit.agent import Identity, new_instance
from agentkit.daemon import Daemon, DaemonConfig
from agentkit.errors import HardpointError
from agentkit.events import EventHub
from agentkit.tls import ServerCredentials
from agentkit.wire import Command, EventKind, Wire


class Reply(Wire):
    text: str


class Echo(Command[Reply], tag="echo"):
    text: str


class HoldSafely(Command[Reply], tag="holdSafely"):
    """Runs until the file `go-NAME` is there; may be run again."""

    name: str


class HoldRiskily(Command[Reply], tag="holdRiskily"):
    """The same, but may not be run again."""

    name: str


class Fail(Command[Reply], tag="fail"):
    properly: bool


class Publish(Command[Reply], tag="publish"):
    number: int
    size: int = 10


@dataclass
class Context:
    state_dir: Path
    hub: EventHub

    def note(self, text: str) -> None:
        with (self.state_dir / "ran.log").open("a") as file:
            file.write(text + "\n")


async def echo(context: Context, command: Echo) -> Reply:
    context.note(f"echo {command.text}")
    return Reply(text=command.text)


async def hold(context: Context, command: HoldSafely | HoldRiskily) -> Reply:
    context.note(f"hold {command.name}")
    while not (context.state_dir / f"go-{command.name}").exists():
        await asyncio.sleep(0.01)
    return Reply(text=f"held {command.name}")


async def fail(context: Context, command: Fail) -> Reply:
    if command.properly:
        raise HardpointError("SYS.1006", "Failed", "the widget is stuck", remedy="pull it")
    raise ValueError("surprise")


async def publish(context: Context, command: Publish) -> Reply:
    for number in range(command.number):
        context.hub.publish(EventKind.DEVICE, {"number": number, "pad": "x" * command.size})
    return Reply(text="published")


async def no_owner() -> str:
    return "0" * 64


async def break_down() -> None:
    """A part of the agent that fails when the environment says so."""
    if "BREAK_DOWN" in os.environ:
        raise RuntimeError("worn out")


def main() -> int:
    given = msgspec.json.decode(sys.argv[1])
    files = [Path(given.pop(name)) for name in ("certificate", "key", "ca")]
    config = msgspec.convert(
        {**given, "credentials": files},
        DaemonConfig,
        dec_hook=lambda kind, value: kind(*value) if kind is ServerCredentials else kind(value),
    )
    logs.setup("sample", "INFO")
    hub = EventHub(new_instance())
    handlers = {Echo: echo, HoldSafely: hold, HoldRiskily: hold, Fail: fail, Publish: publish}
    identity = Identity("sample", "1", lambda: None, no_owner)
    context = Context(config.state_dir, hub)
    return Daemon(
        config, identity, hub, context, handlers, rerunnable={HoldSafely}, background=[break_down]
    ).run()


if __name__ == "__main__":
    sys.exit(main())
