"""The interactive shell on a terminal, as a person sees it."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest

from tests.integration.client.conftest import Home, Terminal

PROMPT = "admin >>>"
NO_ACCOUNT = "- >>>"


@pytest.fixture
def shell(user: Home) -> Iterator[Terminal]:
    terminal = user.terminal("cli")
    terminal.wait_for_prompt(PROMPT)
    yield terminal
    terminal.process.close(force=True)


def test_tab_completes_the_name_of_an_operation(shell: Terminal) -> None:
    shell.type("QueryZo\t")
    shell.wait_for_prompt(f"{PROMPT}QueryZone")


def test_tab_lists_what_can_be_queried_as_the_manual_prints_it(shell: Terminal) -> None:
    shell.type("QueryHost cluster.\t")
    shell.wait_for("[Query Conditions:]")
    shell.wait_for("cluster.zoneUuid=")
    begin = shell.lines.index("[Query Conditions:]")
    assert shell.lines[begin - 1] == f"{PROMPT}QueryHost cluster."
    assert shell.lines[begin + 1].split() == ["cluster.host.", "cluster.zone."]
    assert shell.lines[begin + 2] == ""
    assert "cluster.name=" in " ".join(shell.lines[begin + 3 : begin + 7]).split()
    shell.wait_for_prompt(f"{PROMPT}QueryHost cluster.")


def test_tab_completes_the_names_of_live_zones(shell: Terminal, zone: dict[str, str]) -> None:
    shell.type("QueryZone name=par\t")
    shell.wait_for_prompt(f"{PROMPT}QueryZone name=paris-1")


def test_tab_puts_the_uuid_of_a_zone_for_its_name(shell: Terminal, zone: dict[str, str]) -> None:
    shell.type("CreateCluster zoneUuid=paris\t")
    shell.wait_for_prompt(f"{PROMPT}CreateCluster zoneUuid={zone['uuid']}")


def test_a_query_is_shown_as_a_table(shell: Terminal, zone: dict[str, str]) -> None:
    shell.type("QueryZone name=paris-1 fields=name,uuid\r")
    shell.wait_for(f"│ paris-1 │ {zone['uuid']} │")
    shell.type("output json\r")
    shell.type("QueryZone name=paris-1 fields=name\r")
    shell.wait_for('"name": "paris-1"')


def test_an_error_leaves_the_shell_where_it_is(shell: Terminal) -> None:
    shell.type("CreateZone nmae=x\r")
    shell.wait_for("CreateZone: there is no parameter 'nmae'; did you mean 'name'?")
    shell.type('CreateZone name="open\r')
    shell.wait_for("a quote is not closed")
    shell.type("help CreateZone\r")
    shell.wait_for("POST /zstack/v1/zones (a job)")
    shell.wait_for_prompt(PROMPT)


def test_ctrl_c_empties_the_line_and_ctrl_d_leaves(shell: Terminal) -> None:
    shell.type("QueryZone x")
    shell.wait_for_prompt(f"{PROMPT}QueryZone x")
    shell.process.sendcontrol("c")
    shell.wait_for_prompt(PROMPT)
    shell.process.sendcontrol("d")
    assert shell.end() == 0


def test_a_login_with_a_wrong_password_is_refused_and_a_right_one_changes_the_prompt(home: Home) -> None:
    shell = home.terminal("cli")
    shell.wait_for_prompt(NO_ACCOUNT)
    shell.type("LogInByAccount accountName=admin password=wrong\r")
    shell.wait_for("LogInByAccount: wrong account name or password")
    shell.wait_for_prompt(NO_ACCOUNT)
    shell.type("LogInByAccount accountName=admin\r")
    shell.wait_for("password:")
    shell.type("password\r")
    shell.wait_for_prompt(PROMPT)
    shell.type("exit\r")
    assert shell.end() == 0
    history = home.folder / "hardpoint" / "history"
    assert "accountName=admin password=*****" in history.read_text()
    assert "wrong" not in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_the_login_command_asks_for_the_password_unseen(home: Home) -> None:
    terminal = home.terminal("login")
    terminal.wait_for("password of admin at")
    terminal.type("password\r")
    terminal.wait_for("logged in as admin")
    assert terminal.end() == 0
    assert not any(line.endswith(": password") for line in terminal.lines)


def test_a_job_shows_its_progress_and_goes_on_after_ctrl_c(user: Home, cluster: dict[str, str]) -> None:
    words = [
        "AddKVMHost",
        "name=slow",
        f"clusterUuid={cluster['uuid']}",
        "managementIp=127.0.0.1",
        "username=root",
        "password=unused",
    ]
    terminal = user.terminal("cli", *words)
    terminal.wait_for("%")
    terminal.process.sendcontrol("c")
    terminal.wait_for("interrupted; the job goes on")
    terminal.wait_for("follow it: hardpoint job ")
    said = next(line for line in terminal.lines if "follow it" in line)
    assert terminal.end() == 130
    followed = user.run("job", said.split()[-1])
    assert followed.returncode == 0, followed.stderr
    assert '"slow"' in followed.stdout


def test_ctrl_c_during_a_job_leaves_the_shell_and_the_connection_usable(
    user: Home, cluster: dict[str, str]
) -> None:
    shell = user.terminal("cli")
    shell.wait_for_prompt(PROMPT)
    where = f"clusterUuid={cluster['uuid']} managementIp=127.0.0.9"
    shell.type(f"AddKVMHost name=slow2 {where} username=root password=unused\r")
    shell.wait_for("%")
    shell.process.sendcontrol("c")
    shell.wait_for("follow it: hardpoint job ")
    shell.wait_for_prompt(PROMPT)
    job = next(line for line in shell.lines if "follow it" in line).split()[-1]
    shell.type(f"job {job}\r")
    shell.wait_for("│ slow2")
    shell.type("QueryZone count=true\r")
    shell.wait_for("total: ")
    shell.process.close(force=True)
