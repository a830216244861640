"""A node, and a home of one's own for the command `hardpoint`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pexpect
import pyte
import pytest

from tests.node import REPOSITORY, Node, Rest, admin, run_node

__all__ = ["admin"]

WAIT_S = 60.0
WIDTH, HEIGHT = 120, 50
ARGV = [sys.executable, "-m", "mnclient.cli"]


@dataclass
class Home:
    """Runs `hardpoint` as a user whose files are in `folder`."""

    folder: Path
    url: str
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HARDPOINT_")},
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
            "XDG_STATE_HOME": str(self.folder),
            "HARDPOINT_URL": self.url,
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            "HARDPOINT_COMPLETION_WAIT": "60",
            "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "COLUMNS": "",
        }
        del self.environment["COLUMNS"]

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*ARGV, *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=WAIT_S * 3,
            check=False,
            cwd=self.folder,
        )

    def log_in(self) -> None:
        done = self.run("login", "--password-stdin", stdin="password\n")
        assert done.returncode == 0, done.stderr

    def terminal(self, *arguments: str, stdout: Path | None = None) -> Terminal:
        """Run a command in a terminal; `stdout` is a file that its output goes to instead."""
        argv = [*ARGV, *arguments]
        if stdout is not None:
            argv = ["sh", "-c", f"exec {shlex.join(argv)} > {shlex.quote(str(stdout))}"]
        return Terminal(
            pexpect.spawn(argv[0], argv[1:], env=self.environment, dimensions=(HEIGHT, WIDTH), timeout=WAIT_S)
        )


class Terminal:
    """A process on a terminal whose screen can be read."""

    def __init__(self, process: pexpect.spawn[bytes]) -> None:
        self.process = process
        self._screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.ByteStream(self._screen)

    def type(self, text: str) -> None:
        self.process.send(text)

    @property
    def lines(self) -> list[str]:
        """The lines on the screen, without the blanks at their ends."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def prompt(self) -> str:
        """The last line that is not empty."""
        return next((line for line in reversed(self.lines) if line), "")

    def wait(self, condition: Callable[[Terminal], bool], what: str = "") -> None:
        """Read until the screen is as wanted."""
        deadline = time.monotonic() + WAIT_S
        while not condition(self):
            try:
                self._stream.feed(self.process.read_nonblocking(4096, timeout=0.1))
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF:
                if condition(self):
                    return
                pytest.fail(f"the process has ended without {what}:\n" + "\n".join(filter(None, self.lines)))
            if time.monotonic() > deadline:
                pytest.fail(f"no {what} on the screen:\n" + "\n".join(filter(None, self.lines)))

    def wait_for(self, text: str) -> None:
        """Read until a text is on the screen."""
        self.wait(lambda terminal: any(text in line for line in terminal.lines), repr(text))

    def wait_for_prompt(self, prompt: str) -> None:
        """Read until the last line is a prompt."""
        self.wait(lambda terminal: terminal.prompt == prompt, repr(prompt))

    def end(self) -> int:
        """Read to the end of the process and return its exit code."""
        self.process.expect(pexpect.EOF)
        self._stream.feed(self.process.before or b"")
        self.process.close()
        return int(self.process.exitstatus if self.process.exitstatus is not None else -1)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from run_node(tmp_path_factory.mktemp("node") / "state")


@pytest.fixture
def home(node: Node, tmp_path: Path) -> Home:
    """A user that is not logged in."""
    return Home(tmp_path, node.url)


@pytest.fixture
def user(home: Home) -> Home:
    """A user that is logged in as admin."""
    home.log_in()
    return home


@pytest.fixture(scope="session")
def zone(admin: Rest) -> dict[str, str]:
    """A zone whose name is like no other's."""
    return admin.create("/zones", name="paris-1", description="first")
