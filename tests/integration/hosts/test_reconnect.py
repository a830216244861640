"""ReconnectHost: cheap when nothing changed, one for all who ask at once, and honest when it fails."""

from __future__ import annotations

import json
import threading

import pytest

from tests.integration.hosts.conftest import Place
from tests.sshd import Sshd

LOCALHOST = "127.0.0.1"


def steps(place: Place, operation: str = "ReconnectHost") -> list[list[str]]:
    """Return the names of the steps of each job of an operation, in their order."""
    from tests import postgres

    rows = postgres.rows(
        place.node.state,
        "SELECT job.uuid, job_step.name FROM job JOIN job_step ON job_step.job_uuid = job.uuid "
        f"WHERE operation = '{operation}' ORDER BY job.seq, position",
    )
    jobs: dict[str, list[str]] = {}
    for uuid, name in rows:
        jobs.setdefault(str(uuid), []).append(str(name))
    return list(jobs.values())


def test_an_agent_that_answers_as_it_should_is_not_deployed_again(place: Place) -> None:
    host = place.added("127.3.0.1")
    cpu = place.machine / "proc/meminfo"
    cpu.write_text("MemTotal:       33554432 kB\n")
    answer = place.act(host["uuid"], "reconnectHost")
    assert answer.status == 200
    assert answer.body["inventory"]["status"] == "Connected"
    assert answer.body["inventory"]["totalMemoryCapacity"] == 32 << 30
    assert place.deployments("127.3.0.1") == 1


def test_an_agent_that_is_gone_is_deployed_again(place: Place) -> None:
    host = place.added("127.3.0.1")
    place.kill_agent(host["uuid"])
    assert place.act(host["uuid"], "reconnectHost").body["inventory"]["status"] == "Connected"
    assert place.deployments("127.3.0.1") == 2
    assert place.agent(host["uuid"]).is_running()


def test_a_reconnect_that_fails_leaves_the_host_disconnected_and_says_why(place: Place) -> None:
    host = place.added("127.3.0.1")
    place.kill_agent(host["uuid"])
    place.script("127.3.0.1", broken="the disk is full")
    error = place.act(host["uuid"], "reconnectHost").error
    assert (error["code"], error["cause"]["code"]) == ("HOST.1002", "SYS.1006")
    assert "host host 127.3.0.1 (127.3.0.1) was not reconnected: the disk is full" in error["details"]
    assert place.host(host["uuid"])["status"] == "Disconnected"


def test_calls_that_come_at_once_share_one_reconnect(place: Place) -> None:
    host = place.added("127.3.0.1")
    place.kill_agent(host["uuid"])
    path, body = f"/hosts/{host['uuid']}/actions", {"reconnectHost": {}}
    before = len(steps(place))
    answers = []

    def call() -> None:
        answers.append(place.admin.run("PUT", path, body))

    threads = [threading.Thread(target=call) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a.body["inventory"]["status"] for a in answers] == ["Connected"] * 10
    assert place.deployments("127.3.0.1") == 2
    assert sum("connect_host" in job for job in steps(place)[before:]) < 10


def test_calls_that_wait_for_a_reconnect_that_fails_fail_alike_and_later_ones_try_again(
    place: Place,
) -> None:
    host = place.added("127.3.0.1")
    place.kill_agent(host["uuid"])
    place.script("127.3.0.1", broken="the disk is full")
    path, body = f"/hosts/{host['uuid']}/actions", {"reconnectHost": {}}
    accepted = [place.admin.call("PUT", path, body) for _ in range(5)]
    codes = {place.admin.wait(a.location).error["code"] for a in accepted}
    assert codes == {"HOST.1002"}
    shared = place.deployments("127.3.0.1")
    place.script("127.3.0.1")
    assert place.act(host["uuid"], "reconnectHost").status == 200
    assert place.deployments("127.3.0.1") == shared + 1


@pytest.mark.parametrize("name", ["nobody", "0" * 32])
def test_a_host_that_does_not_exist_is_named(place: Place, name: str) -> None:
    assert place.act(name, "reconnectHost").error["code"] == "SYS.1003"


def test_a_host_of_the_fleet_that_another_fleet_took_is_not_taken_back(place: Place) -> None:
    host = place.added("127.3.0.1")
    place.kill_agent(host["uuid"])
    other = {"owner_fleet_uuid": "f" * 32, "owner_host_uuid": "e" * 32}
    place.script("127.3.0.1", survey=other)
    error = place.act(host["uuid"], "reconnectHost").error
    assert error["code"] == "HOST.1002"
    assert "belongs to another fleet" in error["details"]
    assert place.deployments("127.3.0.1") == 1


def test_a_refused_password_is_said_and_the_new_one_is_used(place: Place, sshd: Sshd) -> None:
    place.script(LOCALHOST, ssh=True)
    name, password = sshd.account.name, sshd.account.password
    host = place.added(LOCALHOST, sshPort=sshd.port, username=name, password=password)
    assert place.act(host["uuid"], "updateKVMHost", password="wrong").status == 200
    error = place.act(host["uuid"], "reconnectHost").error
    assert error["code"] == "HOST.1012"
    assert "UpdateKVMHost" in error["details"]
    logins = sshd.logins()
    assert place.act(host["uuid"], "updateKVMHost", password=password).status == 200
    assert place.act(host["uuid"], "reconnectHost").status == 200
    assert sshd.logins() == logins + 1
    place.wait_for(host["uuid"], status="Connected")


def test_a_changed_host_key_is_refused_until_it_is_to_be_forgotten(place: Place, sshd: Sshd) -> None:
    place.script(LOCALHOST, ssh=True)
    name, password = sshd.account.name, sshd.account.password
    host = place.added(LOCALHOST, sshPort=sshd.port, username=name, password=password)
    place.kill_agent(host["uuid"])
    old = sshd.fingerprint
    sshd.make_host_key()
    error = place.act(host["uuid"], "reconnectHost").error
    assert (error["code"], error["cause"]["code"]) == ("HOST.1002", "HOST.1003")
    assert f"the host key changed: pinned {old}, the host presented {sshd.fingerprint}" in error["details"]
    assert "UpdateKVMHost with resetHostKey" in error["details"]
    shell = {"kvmRunShell": {"hostUuids": [host["uuid"]], "script": "true"}}
    refused = place.admin.run("PUT", "/hosts/kvm/actions", shell).body["inventory"][host["uuid"]]
    assert refused["errorCode"]["code"] == "HOST.1003"
    assert place.act(host["uuid"], "updateKVMHost", resetHostKey=True).status == 200
    assert place.act(host["uuid"], "reconnectHost").status == 200
    sshd.make_host_key()
    place.kill_agent(host["uuid"])
    assert "host key changed" in place.act(host["uuid"], "reconnectHost").error["details"]


def test_a_host_that_loses_its_agent_meanwhile_is_found_again_after_the_node_was_killed(
    place: Place,
) -> None:
    hosts = [place.added(f"127.3.0.{n}") for n in (1, 2)]
    place.node.kill()
    place.node.start()
    place.restarted()
    for host in hosts:
        place.wait_for(host["uuid"], status="Connected")
    assert len(steps(place)) == len([s for s in steps(place) if s])
    assert [place.deployments(h["managementIp"]) for h in hosts] == [1, 1]


def test_a_machine_that_was_deleted_by_force_can_be_added_again(place: Place) -> None:
    old = place.added("127.3.0.1")
    owner = json.loads((place.home(old["uuid"]) / "owner.json").read_text())
    survey = {"owner_fleet_uuid": owner["fleetUuid"], "owner_host_uuid": owner["hostUuid"]}
    place.script("127.3.0.2", survey=survey)
    assert "is the machine of host" in place.add("127.3.0.2").error["details"]
    assert place.delete(old["uuid"], "Enforcing").status == 200
    # The double's new agent has never been the old host: it is free, and lets the former name be released.
    added = place.added("127.3.0.2")
    (job,) = [job for job in steps(place, "AddKVMHost") if "release_former" in job]
    assert job.index("release_former") == job.index("connect_host") - 1
    place.wait_for(added["uuid"], status="Connected")
