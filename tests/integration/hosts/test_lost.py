"""Hosts that are lost come back by themselves, as often and as many at a time as the settings say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import postgres
from tests.helpers import wait_until
from tests.integration.hosts.conftest import TIMEOUT_S, Place
from tests.sshd import Sshd

BEGUN, ENDED = '"host is reconnected"', '"automatic reconnect ended"'
"""What the log says of each reconnect that nobody asked for."""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {
        "HARDPOINT_RECONNECT_AFTER_S": "0.2",
        "HARDPOINT_RECONNECT_AFTER_MAX_S": "0.4",
        "HARDPOINT_LOG_LEVEL": "DEBUG",
    }


def attempts(place: Place, uuid: str) -> int:
    """Return how often the host has been reconnected by itself since it was lost."""
    ((count,),) = postgres.rows(
        place.node.state, f"SELECT reconnect_attempts FROM host WHERE uuid = '{uuid}'"
    )
    return int(count)


def add(place: Place, sshd: Sshd, **script: object) -> str:
    """Add the host whose SSH server this is; return its uuid."""
    place.script(sshd.address, ssh=True, **script)
    account = sshd.account
    wanted = {"sshPort": sshd.port, "username": account.name, "password": account.password}
    uuid: str = place.added(sshd.address, **wanted)["uuid"]
    return uuid


def test_a_host_whose_agent_is_gone_is_reconnected_by_itself(place: Place, sshd: Sshd) -> None:
    host = add(place, sshd)
    agent = place.agent(host)
    agent.kill()
    wait_until(lambda: place.deployments(sshd.address) >= 2, "the agent to be deployed again", TIMEOUT_S)
    place.wait_for(host, status="Connected")
    assert place.agent(host).pid != agent.pid
    assert attempts(place, host) == 0


def test_a_host_that_is_off_is_asked_for_until_it_is_there(place: Place, sshd: Sshd) -> None:
    host = add(place, sshd)
    sshd.stop()
    place.kill_agent(host)
    _one_round(place)
    assert attempts(place, host) == 0  # nobody logs in to a closed port, and it counts for nothing
    sshd.start()
    place.wait_for(host, status="Connected")
    assert place.deployments(sshd.address) == 2


def test_nothing_is_reconnected_by_itself_when_that_is_switched_off(place: Place, sshd: Sshd) -> None:
    host = add(place, sshd)
    place.set("host", "connection.autoReconnectOnError", "false")
    place.kill_agent(host)
    logins = sshd.logins()
    _one_round(place)
    assert (attempts(place, host), sshd.logins()) == (0, logins)
    place.set("host", "connection.autoReconnectOnError", "true")
    place.wait_for(host, status="Connected")


def test_a_host_in_maintenance_is_left_alone(place: Place, sshd: Sshd) -> None:
    host = add(place, sshd)
    assert place.act(host, "changeHostState", stateEvent="maintain").status == 200
    place.kill_agent(host)
    _one_round(place)
    assert place.deployments(sshd.address) == 1
    assert place.act(host, "changeHostState", stateEvent="enable").status == 200
    place.wait_for(host, status="Connected", state="Enabled")


def test_a_host_is_given_up_after_as_many_attempts_as_the_setting_says(place: Place, sshd: Sshd) -> None:
    host = add(place, sshd)
    place.set("host", "connection.autoReconnectOnError.maxAttemptsNum", "2")
    place.script(sshd.address, ssh=True, broken="the disk is full")
    before = len(place.node.log().splitlines())
    place.kill_agent(host)
    wait_until(lambda: attempts(place, host) == 2, "two attempts", TIMEOUT_S)
    wait_until(lambda: _count(place, before, ENDED) == 2, "the second to end", TIMEOUT_S)
    place.node.kill()  # what was tried before is not forgotten
    place.node.start()
    place.restarted()
    _one_round(place)
    assert attempts(place, host) == 2
    place.script(sshd.address, ssh=True)
    assert place.act(host, "reconnectHost").status == 200
    assert attempts(place, host) == 0


def test_a_refused_password_ends_the_attempts_until_there_is_another(place: Place, sshd: Sshd) -> None:
    host = add(place, sshd)
    place.act(host, "updateKVMHost", password="wrong")
    place.kill_agent(host)
    wait_until(lambda: login(place, host) == "Refused", "the login to be refused", TIMEOUT_S)
    _one_round(place)
    assert attempts(place, host) == 1
    place.act(host, "updateKVMHost", password=sshd.account.password)
    place.wait_for(host, status="Connected")


def test_a_host_that_was_lost_when_the_node_died_is_reconnected_by_the_next_one(
    place: Place, sshd: Sshd
) -> None:
    host = add(place, sshd)
    sshd.stop()
    place.kill_agent(host)
    place.node.kill()
    place.node.start()
    place.restarted()
    assert place.host(host)["status"] == "Disconnected"
    sshd.start()
    place.wait_for(host, status="Connected")


def test_many_hosts_that_are_lost_at_once_come_back_few_at_a_time(
    place: Place, start_sshd: Callable[..., Sshd]
) -> None:
    place.set("host", "load.parallelismDegree", "1")
    before = len(place.node.log().splitlines())
    servers = [start_sshd(address=f"127.6.1.{n}") for n in range(1, 5)]
    hosts = [add(place, server) for server in servers]
    for host in hosts:
        place.agent(host).kill()
    for host, server in zip(hosts, servers, strict=True):
        wait_until(lambda s=server: place.deployments(s.address) >= 2, "a second deployment", TIMEOUT_S)
        place.wait_for(host, status="Connected")
    wait_until(
        lambda: _count(place, before, ENDED) >= _count(place, before, BEGUN), "the last to end", TIMEOUT_S
    )
    assert _count(place, before, BEGUN) >= len(hosts)
    assert _most_at_once(place, before) == 1


def login(place: Place, uuid: str) -> str:
    ((found,),) = postgres.rows(place.node.state, f"SELECT login FROM host WHERE uuid = '{uuid}'")
    return str(found)


def _count(place: Place, first: int, event: str) -> int:
    return sum(event in line for line in place.node.log().splitlines()[first:])


def _most_at_once(place: Place, first: int) -> int:
    """Return how many reconnects ran at the same time at most, as the log tells it from a line on."""
    running = most = 0
    for line in place.node.log().splitlines()[first:]:
        running += BEGUN in line
        running -= ENDED in line
        most = max(most, running)
    return most


def _one_round(place: Place) -> None:
    """Return when every lost host has had a turn: the log says so of each."""

    def turns() -> int:
        return place.node.log().count('"lost host looked at"')

    before = turns()
    wait_until(lambda: turns() >= before + 3, "lost hosts to be looked at", TIMEOUT_S)
