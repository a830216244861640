from __future__ import annotations

import socket
import threading
import uuid

import pytest

from tests.contract.catalogue import JOBS, OPERATIONS, Operation
from tests.contract.conftest import World
from tests.contract.params import ABSENT, new_uuid
from tests.node import Answer


def _zone_with_job(world: World, job: str, name: str) -> Answer:
    return world.admin.call("POST", "/zones", {"params": {"name": name}}, headers={"X-Job-UUID": job})


@pytest.mark.parametrize("operation", JOBS, ids=lambda o: o.name)
def test_an_asynchronous_operation_answers_202_and_only_a_location(
    world: World, operation: Operation
) -> None:
    answer = world.call(operation, world.harmless_params(operation))
    assert answer.status == 202
    assert set(answer.body) == {"location"}
    assert answer.location.startswith(f"{world.admin.url}/zstack/v1/api-jobs/")
    assert len(answer.location.rpartition("/")[2]) == 32
    world.admin.wait(answer.location)


@pytest.mark.parametrize("prefix", ["/zstack/v1", "/v1"])
def test_the_location_has_the_host_and_the_prefix_of_the_request(world: World, prefix: str) -> None:
    body = {"params": {"name": "located"}}
    answer = world.admin.call("POST", f"{prefix}/zones", body, headers={"Host": "mn.example:8989"})
    assert answer.location.startswith(f"http://mn.example:8989{prefix}/api-jobs/")
    job = answer.location.rpartition("/")[2]
    assert world.admin.wait(f"{prefix}/api-jobs/{job}").status == 200


def test_a_running_job_is_202_with_its_location_and_a_finished_one_200_with_its_result(world: World) -> None:
    params = world.params("AddKVMHost")
    with socket.create_server((params["managementIp"], 0)) as silent:  # the script waits for a greeting
        host = world.admin.create("/hosts/kvm", **params | {"sshPort": silent.getsockname()[1]})["uuid"]
        accepted = world.call(OPERATIONS["KvmRunShell"], {"hostUuids": [host], "script": "true"})
        connection, _ = silent.accept()
        running = world.admin.call("GET", accepted.location)
        connection.close()
    assert (running.status, running.body) == (202, {"location": accepted.location})
    assert running.headers["X-Job-State"] == "Running"
    assert running.headers["X-Job-Step"] == "run_script"
    assert running.headers["X-Job-Progress"].isdigit()
    finished = world.admin.wait(accepted.location)
    assert finished.status == 200
    assert finished.body["inventory"][host]["errorCode"]["code"] == "HOST.1003"
    assert world.admin.call("GET", accepted.location).body == finished.body
    assert world.admin.call("GET", accepted.location + "/").body == finished.body


def test_a_failed_job_is_503_with_its_error_each_time_it_is_looked_at(world: World) -> None:
    params = {**world.params("CreateCluster"), "zoneUuid": new_uuid()}
    accepted = world.call(OPERATIONS["CreateCluster"], params)
    failed = world.admin.wait(accepted.location)
    assert failed.status == 503
    assert set(failed.body) == {"error"}
    assert world.admin.call("GET", accepted.location).body == failed.body


@pytest.mark.parametrize("job", [ABSENT, "x", "%27"])
def test_an_unknown_job_is_a_404(world: World, job: str) -> None:
    answer = world.admin.call("GET", f"/api-jobs/{job}")
    assert answer.status == 404
    assert answer.error["code"] == "SYS.1003"
    assert "two days" in answer.error["details"]


def test_a_job_is_named_by_its_caller(world: World) -> None:
    job = new_uuid()
    assert _zone_with_job(world, job, "named").location.endswith(f"/api-jobs/{job}")


def test_the_same_request_with_the_same_job_uuid_is_done_once(world: World) -> None:
    job, name = new_uuid(), world.name("once")
    first = _zone_with_job(world, job, name)
    running = _zone_with_job(world, job, name)
    done = world.admin.wait(first.location)
    ended = _zone_with_job(world, job, name)
    assert running.location == ended.location == first.location
    assert world.admin.wait(ended.location).body == done.body
    assert len(world.admin.query("/zones", f"name={name}")) == 1


def test_a_request_that_is_sent_many_times_at_once_is_done_once(world: World) -> None:
    job, name = new_uuid(), world.name("at-once")
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(_zone_with_job(world, job, name))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [202] * 8
    assert world.admin.wait(answers[0].location).status == 200
    assert len(world.admin.query("/zones", f"name={name}")) == 1


def test_the_case_of_a_job_uuid_does_not_matter(world: World) -> None:
    job = new_uuid()
    first = _zone_with_job(world, job.upper(), "case")
    again = _zone_with_job(world, job, "case")
    assert first.location == again.location
    assert world.admin.wait(first.location.replace(job, job.upper())).status == 200


def test_another_request_with_the_same_job_uuid_is_refused(world: World) -> None:
    job, name = new_uuid(), world.name("mine")
    world.admin.wait(_zone_with_job(world, job, name).location)
    others = [
        _zone_with_job(world, job, f"{name}-too"),
        world.admin.call(
            "POST",
            "/clusters",
            {"params": world.params("CreateCluster")},
            headers={"X-Job-UUID": job},
        ),
    ]
    for other in others:
        assert other.status == 400
        assert other.error["code"] == "SYS.1007"
        assert job in other.error["details"]
    assert not world.admin.query("/zones", f"name={name}-too")


def test_equal_parameters_in_another_order_and_spelling_are_the_same_request(world: World) -> None:
    job = new_uuid()
    bodies = [
        {"params": {"name": "same", "description": "d", "resourceUuid": new_uuid()}},
        {"systemTags": [], "params": {"description": "d", "name": " same "}, "userTags": []},
    ]
    bodies[1]["params"]["resourceUuid"] = bodies[0]["params"]["resourceUuid"]  # type: ignore[index,call-overload]
    answers = [world.admin.call("POST", "/zones", b, headers={"X-Job-UUID": job}) for b in bodies]
    assert [answer.status for answer in answers] == [202, 202]


@pytest.mark.parametrize(
    "job",
    [
        "",
        "x",
        str(uuid.UUID(ABSENT)),
        ABSENT[:-1],
        ABSENT + "0",
        "2cfbaed2e9ec11f18f0d02fc00000001",  # version 1
        uuid.uuid3(uuid.NAMESPACE_DNS, "a").hex,
        "967a26b7431c49c0c1b50d709ef1aef3",
        "g" * 32,
    ],
)
def test_an_illegal_job_uuid_is_refused(world: World, job: str) -> None:
    name = world.name("refused")
    answer = _zone_with_job(world, job, name)
    assert answer.status == 400
    assert answer.error["code"] == "SYS.1007"
    assert "X-Job-UUID" in answer.error["details"]
    assert not world.admin.query("/zones", f"name={name}")


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "1e3", ""])
def test_an_illegal_timeout_is_refused(world: World, timeout: str) -> None:
    body = {"params": {"name": "late"}}
    answer = world.admin.call("POST", "/zones", body, headers={"X-API-Timeout": timeout})
    assert answer.status == 400
    assert "X-API-Timeout" in answer.error["details"]


def test_a_job_that_takes_longer_than_its_caller_allows_fails_and_leaves_nothing(world: World) -> None:
    params = world.params("AddKVMHost")
    body = {"params": params}
    failed = world.admin.run("POST", "/hosts/kvm", body, headers={"X-API-Timeout": "0.05"})
    assert failed.status == 503
    assert failed.error["code"] in ("SYS.1001", "HOST.1000")
    assert "X-API-Timeout" in failed.error["details"]
    assert not world.admin.query("/hosts", f"managementIp={params['managementIp']}")
