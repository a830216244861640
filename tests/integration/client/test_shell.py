"""The interactive shell on a terminal, as a person sees it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.client.conftest import Home, Terminal
from tests.unit.mnclient.fake_node import Received, Reply, fake_node

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
    end = shell.lines.index("", begin)
    related = ["host", "iscsiServerRef", "primaryStorageRef", "vmInstance", "zone"]
    assert sorted(" ".join(shell.lines[begin + 1 : end]).split()) == [f"cluster.{name}." for name in related]
    assert "cluster.name=" in " ".join(shell.lines[end + 1 : end + 5]).split()
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


class LongJob:
    """What a node answers whose jobs end when they are told to: a real one's may end before a Ctrl-C."""

    def __init__(self) -> None:
        self.has_ended = False

    def __call__(self, received: Received) -> Reply:
        if received.method == "PUT":
            return 200, {"inventory": {"uuid": "5" * 32}}, {}
        if received.method == "GET" and "/api-jobs/" not in received.path:
            return 200, {"total": 7}, {}
        if received.method == "GET" and self.has_ended:
            return 200, {"inventory": {"name": "slow"}}, {}
        progress = {"X-Job-Progress": "60", "X-Job-Step": "connect_host"}
        return 202, {"location": f"http://node{received.path.partition('/hosts')[0]}/api-jobs/1"}, progress


ADD = ("AddKVMHost", "name=slow", "clusterUuid=1", "managementIp=h", "username=root", "password=unused")


@pytest.fixture
def long_job(home: Home) -> Iterator[LongJob]:
    """The user's node is one with a job that goes on and on."""
    job = LongJob()
    with fake_node(job) as node:
        home.environment["HARDPOINT_URL"] = node.url
        home.log_in()
        yield job


def test_a_job_shows_its_progress_and_goes_on_after_ctrl_c(home: Home, long_job: LongJob) -> None:
    terminal = home.terminal("cli", *ADD)
    terminal.wait(lambda t: any("60%" in line and "connect_host" in line for line in t.lines), "progress")
    terminal.process.sendcontrol("c")
    terminal.wait_for("AddKVMHost: interrupted; the job goes on")
    terminal.wait_for("follow it: hardpoint job ")
    said = next(line for line in terminal.lines if "follow it" in line)
    assert terminal.end() == 130
    long_job.has_ended = True
    followed = home.run("job", said.split()[-1])
    assert followed.returncode == 0, followed.stderr
    assert json.loads(followed.stdout)["inventory"]["name"] == "slow"


def test_ctrl_c_during_a_job_leaves_the_shell_and_the_connection_usable(
    home: Home, long_job: LongJob
) -> None:
    shell = home.terminal("cli")
    shell.wait_for_prompt(PROMPT)
    shell.type(" ".join(ADD) + "\r")
    shell.wait_for("60%")
    shell.process.sendcontrol("c")
    shell.wait_for("follow it: hardpoint job ")
    shell.wait_for_prompt(PROMPT)
    job = next(line for line in shell.lines if "follow it" in line).split()[-1]
    long_job.has_ended = True
    shell.type(f"job {job}\r")
    shell.wait_for("│ slow")
    shell.type("QueryZone count=true\r")
    shell.wait_for("total: 7")
    shell.process.close(force=True)


def test_the_result_of_a_job_goes_to_standard_output_and_its_progress_does_not(
    home: Home, long_job: LongJob, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    terminal = home.terminal("cli", *ADD, stdout=out)
    terminal.wait_for("60%")
    long_job.has_ended = True
    assert terminal.end() == 0
    assert json.loads(out.read_text())["inventory"]["name"] == "slow"
    assert not any("slow" in line or "%" in line for line in terminal.lines)
