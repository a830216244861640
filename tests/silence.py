"""Agents that do not answer for a while."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager

from tests.node import Node


def agent_pid(node: Node, address: str) -> int:
    """Return the process of the agent that listens at an address."""
    for file in (node.state / "agents").glob("*/agent.toml"):
        if tomllib.loads(file.read_text())["listen_address"] == address:
            return int(json.loads(file.with_name("ready.json").read_text())["pid"])
    raise AssertionError(f"no agent listens at {address}")


@contextmanager
def silent(node: Node, *addresses: str) -> Iterator[None]:
    """Have agents answer nobody; they go on when this ends."""
    pids = [agent_pid(node, address) for address in addresses]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
