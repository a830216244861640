"""Runs one command: parse, ask for what is missing, call, show."""

from __future__ import annotations

import getpass
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnclient.errors import (
    NO_SESSION,
    HardpointClientError,
    NotLoggedInError,
    OperationError,
    RequestError,
)
from mnclient.outputs import Output
from mnclient.protocol import Options
from mnclient.sdk import Connection, sha512
from mnclient.shell import output
from mnclient.shell.login import Login, Logins, chosen_url
from mnclient.shell.progress import Bar
from mnclient.shell.syntax import Command, UnknownNameError, is_hashed, parse
from mnclient.transport import Node

HASHED_OF = frozenset(
    {"LogInByAccount", "LogInByUser", "CreateAccount", "UpdateAccount", "CreateUser", "UpdateUser"}
)
"""Operations whose password is sent as its SHA-512."""


@dataclass
class Runner:
    """A connection with its login, and how to show what it answers."""

    connection: Connection
    logins: Logins
    account: str = ""
    form: str = "json"
    learned: bool = False
    ask: Callable[[str], str] = field(default=getpass.getpass)

    @classmethod
    def start(cls, url: str | None = None, form: str | None = None, logins: Logins | None = None) -> Runner:
        """Return a runner for the node given, with the login that is kept for it."""
        kept_in = logins or Logins()
        kept = kept_in.load()
        where = chosen_url(url, kept)
        mine = kept if kept is not None and kept.url == where else None
        options = Options(session=mine.session if mine else None)
        shown = form or ("table" if sys.stdout.isatty() else "json")
        account = mine.account if mine and mine.session else ""
        return cls(Connection(Node(where), options), kept_in, account, shown)

    def run(self, words: Sequence[str]) -> int:
        """Run a command and return its exit code; whatever goes wrong is said in words."""
        what = words[0]
        try:
            command = self._parsed(words)
            what = command.operation.name
            self._complete(command)
            return self._call(command)
        except HardpointClientError as error:
            return self._failed(error, what)
        except KeyboardInterrupt:
            print(f"\n{what}: interrupted", file=sys.stderr)
            return output.EXIT_INTERRUPTED

    def follow(self, job_uuid: str) -> int:
        """Wait for a job that was begun before and show its result."""
        what = f"job {job_uuid}"
        try:
            if self.connection.options.session is None:
                raise NotLoggedInError("to look at a job needs a session")
            options = self.connection.options
            return self._guarded(
                what,
                job_uuid,
                lambda bar: self.connection.follow(job_uuid, replace(options, on_progress=bar.show)),
            )
        except HardpointClientError as error:
            return self._failed(error, what)

    def fetch_output(self, location: str, target: str) -> int:
        """Fetch a long output of a script into a file and return the exit code."""
        what = "shell-output"
        try:
            output_of = Output.at(location)
            where = Path(target or output_of.name)
            with Bar() as bar:
                options = replace(self.connection.options, on_progress=bar.show)
                file = self.connection.fetch_output(location, where, options)
        except HardpointClientError as error:
            return self._failed(error, what)
        except KeyboardInterrupt:
            print(f"\n{what}: interrupted; the same command goes on from there", file=sys.stderr)
            return output.EXIT_INTERRUPTED
        print(output.render({"file": str(file), "bytes": file.stat().st_size}, self.form), flush=True)
        return output.EXIT_OK

    def log_in(self, account: str, password: str) -> str:
        """Open a session and keep it; return where it is kept. Raises HardpointClientError."""
        session = self.connection.log_in(account, password)
        self.account = account
        return self.logins.save(Login(self.connection.node.url, account, session))

    def _parsed(self, words: Sequence[str]) -> Command:
        try:
            return parse(words, self.connection.description)
        except UnknownNameError:
            if self.learned:
                raise
            self.learned = True
            try:
                return parse(words, self.connection.learn())
            except ConnectionError:
                pass
            raise

    def _complete(self, command: Command) -> None:
        """Ask for secrets that are missing, hash passwords, default LogOut's session."""
        operation, values = command.operation, command.values
        session = self.connection.options.session
        if operation.name == "LogOut" and "sessionUuid" not in values:
            if session is None:
                raise NotLoggedInError("there is no session to end")
            values["sessionUuid"] = session
        if operation.session and session is None:
            raise NotLoggedInError(f"{operation.name} needs a session")
        for parameter in operation.parameters.values():
            missing = parameter.required and parameter.name not in values
            if missing and parameter.secret and sys.stdin.isatty():
                values[parameter.name] = self.ask(f"{parameter.name}: ")
        if operation.name in HASHED_OF and "password" in values and not is_hashed(values["password"]):
            values["password"] = sha512(values["password"])

    def _call(self, command: Command) -> int:
        operation = command.operation
        job_uuid = uuid.uuid4().hex if operation.job else None
        options = replace(self.connection.options, job_uuid=job_uuid)
        if command.timeout_s is not None:
            options = replace(options, timeout_s=command.timeout_s)
        return self._guarded(
            operation.name,
            job_uuid,
            lambda bar: self._sent(command, replace(options, on_progress=bar.show)),
            tuple(command.values.get("fields", ())),
        )

    def _sent(self, command: Command, options: Options) -> Any:
        name = command.operation.name
        body = self.connection.call(name, command.values, options)
        if name in ("LogInByAccount", "LogInByUser"):
            self._entered(str(command.values.get("accountName", "")), body)
        elif name == "LogOut" and command.values["sessionUuid"] == self.connection.options.session:
            self._left()
        return body

    def _guarded(
        self, what: str, job_uuid: str | None, call: Callable[[Bar], Any], columns: Sequence[str] = ()
    ) -> int:
        """Show what a call returns, once its bar is gone."""
        try:
            with Bar() as bar:
                body = call(bar)
        except KeyboardInterrupt:
            if job_uuid is None:
                raise
            print(f"\n{what}: interrupted; the job goes on", file=sys.stderr)
            print(f"  follow it: hardpoint job {job_uuid}", file=sys.stderr)
            return output.EXIT_INTERRUPTED
        print(output.render(body, self.form, columns), flush=True)
        return output.EXIT_OK

    def _failed(self, error: HardpointClientError, what: str) -> int:
        if isinstance(error, OperationError) and error.error.code == NO_SESSION:
            self.account = ""
        if isinstance(error, RequestError) and str(error).startswith(f"{what}: "):
            error = RequestError(str(error).removeprefix(f"{what}: "))
        return output.explain(error, what, sys.stderr)

    def _entered(self, account: str, body: Any) -> None:
        session = str(body["inventory"]["uuid"])
        self.connection.options = replace(self.connection.options, session=session)
        self.account = account
        self.logins.save(Login(self.connection.node.url, account, session))

    def _left(self) -> None:
        self.connection.options = replace(self.connection.options, session=None)
        self.account = ""
        self.logins.forget()
