from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.client.conftest import ARGV, Home
from tests.node import Node


def _json(home: Home, *words: str) -> Any:
    done = home.run("cli", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_zone_is_created_and_found(user: Home) -> None:
    made = _json(user, "CreateZone", "name=with blanks", "description=a b")["inventory"]
    assert made["name"] == "with blanks"
    found = _json(user, "QueryZone", "name=with blanks", "fields=name,uuid")["inventories"]
    assert found == [{"name": "with blanks", "uuid": made["uuid"]}]
    assert _json(user, "QueryZone", "name~=th bla", "count=true") == {"total": 1}
    assert _json(user, "QueryZone", "name~=th%", "count=true") == {"total": 0}


def test_output_is_a_table_json_or_yaml(user: Home, zone: dict[str, str]) -> None:
    words = ("QueryZone", f"uuid={zone['uuid']}", "fields=uuid,name")
    assert (
        yaml.safe_load(user.run("cli", "--output", "yaml", *words).stdout)["inventories"][0]["name"]
        == "paris-1"
    )
    table = user.run("cli", *words, "--output", "table").stdout.splitlines()
    assert [c.strip() for c in table[3].strip("│").split("│")] == [zone["uuid"], "paris-1"]
    refused = user.run("cli", "--output", "xml", *words)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_log_in_by_account_hashes_the_password_and_keeps_the_session(home: Home) -> None:
    assert home.run("cli", "QueryZone").returncode == 3
    done = home.run("cli", "LogInByAccount", "accountName=admin", "password=password")
    assert done.returncode == 0, done.stderr
    assert home.run("cli", "QueryZone").returncode == 0
    assert home.run("cli", "LogOut").returncode == 0
    assert home.run("cli", "QueryZone").returncode == 3


def test_a_wrong_password_is_refused_in_words(home: Home) -> None:
    done = home.run("login", "--password-stdin", stdin="wrong\n")
    assert done.returncode == 3
    assert done.stderr.strip() == "login: wrong account name or password"
    assert not (home.folder / "hardpoint" / "login.json").exists()


def test_logout_ends_the_session_on_the_node_too(user: Home) -> None:
    path = user.folder / "hardpoint" / "login.json"
    session = json.loads(path.read_text())["session"]
    valid = _json(user, "ValidateSession", f"sessionUuid={session}")
    assert valid == {"valid": True}
    assert user.run("logout").stdout.strip() == "logged out"
    assert "session" not in path.read_text() or json.loads(path.read_text())["session"] is None
    assert _json(user, "ValidateSession", f"sessionUuid={session}") == {"valid": False}
    assert user.run("logout").stdout.strip() == "nobody is logged in"


def test_a_session_that_has_ended_is_exit_code_3(user: Home) -> None:
    path = user.folder / "hardpoint" / "login.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "session": "f" * 32}))
    done = user.run("cli", "QueryZone")
    assert done.returncode == 3
    assert "hardpoint login" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["CreateZon", "name=a"], 2, "did you mean 'CreateZone'?"),
        (["CreateZone", "nmae=a"], 2, "did you mean 'name'?"),
        (["CreateZone"], 2, "CreateZone: required and not given: name"),
        (["QueryZone", "limit=many"], 2, "'limit' is 'many'"),
        (["QueryZone", "nmae=a"], 1, "did you mean 'name'?"),
        (["CreateCluster", "name=c", "zoneUuid=none", "hypervisorType=KVM"], 1, "there is no Zone"),
        (["CreateCluster", "name=c", "zoneUuid=none", "hypervisorType=Xen"], 1, "one of KVM, Simulator"),
    ],
)
def test_an_error_says_what_to_do_and_has_its_exit_code(
    user: Home, words: list[str], code: int, said: str
) -> None:
    done = user.run("cli", *words)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_node_that_does_not_answer_is_exit_code_4(user: Home) -> None:
    user.environment["HARDPOINT_URL"] = "http://127.0.0.1:1"
    done = user.run("login", "--password-stdin", stdin="password\n")
    assert done.returncode == 4
    assert "http://127.0.0.1:1 cannot be reached: Connection refused" in done.stderr


def test_commands_that_are_piped_in_run_up_to_the_first_that_fails(user: Home) -> None:
    script = "# zones\n\nCreateZone name=piped\nCreateZone\nCreateZone name=never\n"
    done = user.run("cli", stdin=script)
    assert done.returncode == 2
    assert "stopped at line 4" in done.stderr
    assert _json(user, "QueryZone", "name?=piped,never", "count=true") == {"total": 1}


def test_a_job_can_be_followed_later(user: Home, node: Node) -> None:
    rest = node.rest().logged_in()
    job = "0123456789ab4def8123456789abcdef"
    rest.run("POST", "/zones", {"params": {"name": "followed"}}, headers={"X-Job-UUID": job})
    done = user.run("job", job)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inventory"]["name"] == "followed"
    assert user.run("job", "f" * 32).returncode == 1


def test_the_help_of_the_command_holds_the_exit_codes(home: Home) -> None:
    for arguments in (["--help"], ["cli", "--help"]):
        text = " ".join(home.run(*arguments).stdout.split())
        assert "3 not logged in" in text


def test_help_describes_an_operation_as_the_shipped_description_does(home: Home) -> None:
    text = home.run("cli", "help", "CreateCluster").stdout
    assert "POST /zstack/v1/clusters (a job)" in text
    assert "zoneUuid*" in text
    assert home.run("cli", "help", "CreateClusterr").returncode == 2


def _asked(home: Home, shell: str, line: str) -> list[str]:
    return home.run("_complete", shell, line).stdout.splitlines()


def test_a_shell_completes_commands_operations_parameters_and_live_names(
    user: Home, zone: dict[str, str]
) -> None:
    assert "cli " in _asked(user, "bash", "hardpoint ")
    assert _asked(user, "bash", "hardpoint logi") == ["login "]
    assert _asked(user, "bash", "hardpoint cli QueryZo") == ["QueryZone "]
    assert _asked(user, "bash", "hardpoint cli --output json QueryZone coun") == ["count="]
    assert _asked(user, "bash", "hardpoint cli QueryZone name=par") == ["paris-1 "]
    assert _asked(user, "zsh", "hardpoint cli QueryZone name=par") == ["name=paris-1 "]
    assert _asked(user, "fish", "hardpoint cli CreateCluster zoneUuid=par") == [f"zoneUuid={zone['uuid']} "]


def test_bash_puts_a_completion_in_place(user: Home, tmp_path: Path) -> None:
    command = tmp_path / "bin" / "hardpoint"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {" ".join(ARGV)} "$@"\n')
    command.chmod(0o755)
    user.environment["PATH"] = f"{command.parent}:{os.environ['PATH']}"
    script = user.run("completion", "bash").stdout + (
        'COMP_LINE="hardpoint cli QueryZone sortDirection=de" COMP_POINT=${#COMP_LINE}\n'
        'COMP_POINT=${#COMP_LINE}; _hardpoint; printf "<%s>" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script], env=user.environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "<desc >", done.stderr
    assert user.run("completion", "tcsh").returncode == 2


def test_the_words_of_completion_are_those_of_the_command_line() -> None:
    import typer.main

    from mnclient.cli import app
    from mnclient.shell.words import OWN_OPTIONS

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(OWN_OPTIONS) == set(commands)
    for name, command in commands.items():
        options = {o for p in command.params for o in p.opts if o.startswith("--")} - {"--help"}
        assert {o for o in OWN_OPTIONS[name] if o.startswith("--")} == options, name
