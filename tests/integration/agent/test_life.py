import asyncio
import json
import os
import signal
import socket

import pytest


async def test_a_stop_lets_the_running_task_finish_and_refuses_new_ones(agent, new_uuid, wait_until):
    running = new_uuid()
    async with agent.client() as mn:
        await mn.task(running, {"command": "holdRiskily", "name": "a"}, wait=0)
        waiting = asyncio.create_task(mn.ask("GET", f"/v1/tasks/{running}?wait=30"))
        agent.terminate()
        await wait_until(lambda: agent.logged("stopping"), "stopping")
        status, error = await mn.task(new_uuid(), {"command": "echo", "text": "late"})
        assert (status, error["code"]) == (503, "SYS.1010")
        (agent.state_dir / "go-a").touch()
        assert (await waiting)[1]["state"] == "Succeeded"
    assert agent.exit_code() == 0
    assert agent.ran() == ["hold a"]


async def test_a_task_that_outlasts_the_stop_is_left_to_the_journal(make_agent, new_uuid, wait_until):
    agent = make_agent(settings={"stop_limit_s": 0.2}).start()
    uuid = new_uuid()
    async with agent.client() as mn:
        await mn.task(uuid, {"command": "holdSafely", "name": "a"}, wait=0)
        await wait_until(agent.ran, "started")
        agent.terminate()
    assert agent.exit_code() == 0
    assert agent.logged("stopped")[0]["tasks_left_to_the_journal"] == 1
    (agent.state_dir / "go-a").touch()
    agent.start()
    async with agent.client() as mn:
        assert (await mn.ask("GET", f"/v1/tasks/{uuid}?wait=10"))[1]["state"] == "Succeeded"


async def test_sigint_stops_it_too(agent):
    agent.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(agent.exit_code) == 0


def one_line(agent):
    assert agent.exit_code() == 2
    agent.reader.join(60)
    assert len(agent.lines) == 1, agent.lines
    return agent.lines[0]


def test_a_second_agent_on_the_same_state_directory_is_refused(agent, make_agent):
    line = one_line(make_agent("agent").launch())
    pid = (agent.state_dir / "agent.lock").read_text().strip()
    assert int(pid) == agent.process.pid
    assert f"another agent (pid {pid}) uses the state directory {agent.state_dir}" in line


def test_a_taken_port_is_named(make_agent):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = one_line(make_agent(settings={"port": port}).launch())
    assert f"127.0.0.1 port {port} is taken by another process; stop" in line


def test_a_foreign_address_is_named(make_agent):
    line = one_line(make_agent(settings={"listen_address": "192.0.2.77"}).launch())
    assert "this machine has no address 192.0.2.77" in line


def test_a_missing_certificate_is_named(make_agent):
    line = one_line(make_agent(settings={"certificate": "/nowhere/agent.pem"}).launch())
    assert "the certificate /nowhere/agent.pem cannot be read: No such file" in line


def test_an_unusable_state_directory_is_named(make_agent, tmp_path):
    (tmp_path / "agent").write_text("a file")
    line = one_line(make_agent().launch())
    assert f"the state directory {tmp_path / 'agent'} cannot be used: File exists" in line


def test_the_port_of_the_last_time_is_taken_again(agent):
    before = agent.ready
    agent.kill()
    agent.start()
    assert agent.ready["port"] == before["port"]
    assert agent.ready["instance"] != before["instance"]
    assert agent.ready["pid"] == agent.process.pid


def test_another_port_is_taken_when_the_last_one_is_in_use(agent):
    port = agent.ready["port"]
    agent.kill()
    with socket.create_server(("127.0.0.1", port)):
        agent.start()
    assert agent.ready["port"] != port


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_ready_watchdog_and_stopping(make_agent, tmp_path, abstract):
    name = f"@hardpoint-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        systemd.settimeout(20)
        agent = make_agent(environment={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}).start()
        heard = []
        while not any("READY=1" in message for message in heard) or heard.count("WATCHDOG=1") < 3:
            heard.append(systemd.recv(1000).decode())
        assert any(
            f"STATUS=listening on 127.0.0.1 port {agent.ready['port']}" in message for message in heard
        )
        agent.terminate()
        while "STOPPING=1" not in heard[-1]:
            heard.append(systemd.recv(1000).decode())
    assert agent.exit_code() == 0


def test_every_log_line_is_json(agent):
    agent.terminate()
    assert agent.exit_code() == 0
    agent.reader.join(60)
    for line in agent.lines:
        assert {"time", "level", "component", "event"} <= set(json.loads(line))


def test_a_part_that_fails_ends_the_agent_so_that_systemd_starts_it_again(make_agent):
    agent = make_agent(environment={"BREAK_DOWN": "1"}).launch()
    assert agent.exit_code() == 1
    agent.reader.join(60)
    (line,) = agent.logged("a part of the agent failed, it ends")
    assert line["part"] == "break_down"
    assert "worn out" in line["exception"]
