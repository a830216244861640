"""The interactive shell: a prompt with history and completion; Tab shows the page that the manual prints."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from mnclient.errors import HardpointClientError, RequestError
from mnclient.shell import helptext, output
from mnclient.shell.complete import Candidate, Completion, complete
from mnclient.shell.execute import Runner
from mnclient.shell.live import LiveNames
from mnclient.shell.syntax import split, without_secrets

HISTORY = "history"
LIVE_WAIT_S = 3.0
NOTE_WIDTH = 60
_UUID_AT_END = re.compile("[=,][0-9a-f]{32}$")
_NOTED = ("Required Parameters", "Operators")
COMMANDS = {"help": "operation", "output": "|".join(output.FORMATS), "job": "", "exit": "", "quit": ""}
"""The shell's own commands, with what completes them."""


class _PrivateHistory(FileHistory):
    """A history file of mode 0600 that never sees a password."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        super().__init__(str(path))

    def append_string(self, string: str) -> None:
        super().append_string(without_secrets(string))

    def store_string(self, string: str) -> None:
        super().store_string(without_secrets(string))


class Shell:
    """Reads commands until the user leaves."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._live = LiveNames(runner.connection)
        self._session: PromptSession[str] = PromptSession(
            history=_history(runner.logins.folder / HISTORY),
            key_bindings=self._keys(),
            auto_suggest=AutoSuggestFromHistory(),
            complete_while_typing=False,
            enable_history_search=True,
        )
        self._session.default_buffer.on_text_changed += self._prefetch

    def run(self) -> int:
        """Read and run commands; return the exit code of leaving."""
        print(
            f"Hardpoint at {self._runner.connection.node.url}; Tab completes, `help` explains, `exit` leaves."
        )
        threading.Thread(target=self._learn, daemon=True).start()
        try:
            while True:
                try:
                    line = self._session.prompt(f"{self._runner.account or '-'} >>>")
                except KeyboardInterrupt:
                    continue
                if not self.execute(line):
                    return output.EXIT_OK
        except EOFError:
            return output.EXIT_OK
        finally:
            self._live.close()

    def execute(self, line: str) -> bool:
        """Run a line; return whether the shell goes on."""
        words = split(line)
        if not words:
            return True
        if words[-1].is_open:
            print("a quote is not closed", file=sys.stderr)
            return True
        texts = [word.text for word in words]
        if texts[0] in ("exit", "quit", "bye"):
            return False
        own: dict[str, Callable[[list[str]], None]] = {
            "help": self._help,
            "?": self._help,
            "output": self._output,
            "job": self._job,
        }
        if texts[0] in own:
            own[texts[0]](texts[1:])
        else:
            account = self._runner.account
            self._runner.run(texts)
            if account != self._runner.account:
                self._live.forget()
        return True

    def _help(self, arguments: list[str]) -> None:
        try:
            description = self._runner.connection.description
            print(helptext.about(arguments[0], description) if arguments else helptext.overview(description))
        except RequestError as error:
            print(error, file=sys.stderr)

    def _output(self, arguments: list[str]) -> None:
        if arguments and arguments[0] in output.FORMATS:
            self._runner.form = arguments[0]
        else:
            print(f"output is {self._runner.form}; give one of {', '.join(output.FORMATS)}")

    def _job(self, arguments: list[str]) -> None:
        if arguments:
            self._runner.follow(arguments[0])
        else:
            print("give the job's uuid: job UUID", file=sys.stderr)

    def _learn(self) -> None:
        with contextlib.suppress(HardpointClientError):
            self._runner.connection.learn()
            self._runner.learned = True

    def _complete(self, line: str) -> Completion:
        return complete(line, self._runner.connection.description, self._live.get, COMMANDS)

    def _prefetch(self, buffer: Buffer) -> None:
        """Begin to fetch what a Tab would need, while the user goes on typing."""
        line = buffer.document.text_before_cursor
        if line.endswith("="):
            for need in self._complete(line).needs:
                self._live.fetch(need)

    def _keys(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add("tab")
        def _tab(event: KeyPressEvent) -> None:
            event.app.create_background_task(self._tab(event.app, event.current_buffer))

        return bindings

    async def _tab(self, app: Application[object], buffer: Buffer) -> None:
        line = buffer.document.text_before_cursor
        found = self._complete(line)
        if found.needs:
            fetches = [asyncio.wrap_future(self._live.fetch(need)) for need in found.needs]
            await asyncio.wait(fetches, timeout=LIVE_WAIT_S)
            if buffer.document.text_before_cursor != line:
                return
            found = self._complete(line)
        if not found.candidates:
            return
        text, only = found.common(), len(found.candidates) == 1
        if only or len(text) > len(line) - found.start:
            buffer.delete_before_cursor(len(line) - found.start)
            buffer.insert_text(text + (" " if only and found.candidates[0].closed else ""))
            app.invalidate()
        else:
            await run_in_terminal(lambda: print(page(found.candidates)), render_cli_done=True)


def _history(path: Path) -> History:
    try:
        return _PrivateHistory(path)
    except OSError:
        return InMemoryHistory()


def page(candidates: Iterable[Candidate], width: int | None = None) -> str:
    """Return the candidates under their headings, joins before fields, in columns."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    lines: list[str] = []
    for group, members in groups.items():
        lines.append(f"[{group}:]")
        joins = [c for c in members if c.join]
        for part in (joins, [c for c in members if not c.join]):
            if part:
                lines += [*_columns(part, width or output.terminal_width()), ""]
    return "\n".join(lines)


def _columns(candidates: list[Candidate], width: int) -> list[str]:
    if candidates[0].group in _NOTED or any(_UUID_AT_END.search(c.text) for c in candidates):
        widest = max(len(c.text) for c in candidates)
        lines = (f"{c.text:<{widest}}  {c.note[:NOTE_WIDTH]}".rstrip() for c in candidates)
        return [output.without_controls(line) for line in lines]
    cell = max(len(c.text) for c in candidates) + 2
    count = max(1, width // cell)
    texts = [output.without_controls(c.text) for c in candidates]
    rows = [texts[i : i + count] for i in range(0, len(texts), count)]
    return ["".join(f"{text:<{cell}}" for text in row).rstrip() for row in rows]
