"""Long jobs run as jobs do, say how far they are, and are undone when they are cancelled."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import postgres
from tests.helpers import wait_until
from tests.node import Node, Rest, run_node
from tests.sshd import Sshd

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from run_node(tmp_path_factory.mktemp("node") / "state")


@pytest.fixture
def admin(node: Node) -> Rest:
    return node.rest().logged_in()


def submit(admin: Rest, job_name: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return admin.create("/longjobs", jobName=job_name, jobData=json.dumps(data), **more)


def ended(admin: Rest, long_job: dict[str, Any]) -> dict[str, Any]:
    def now() -> dict[str, Any]:
        return dict(admin.get(f"/longjobs/{long_job['uuid']}").body["inventory"])

    wait_until(lambda: now()["state"] != "Running", "the long job's end", DEADLINE_S)
    return now()


def host_params(admin: Rest, address: str) -> dict[str, Any]:
    zone = admin.create("/zones", name="zone")
    cluster = admin.create("/clusters", name="c", zoneUuid=zone["uuid"], hypervisorType="KVM")
    return {
        "name": "host",
        "clusterUuid": cluster["uuid"],
        "managementIp": address,
        "username": "root",
        "password": "do not tell",
    }


def test_an_operation_runs_as_a_long_job_and_its_secrets_are_stars(node: Node, admin: Rest) -> None:
    params = host_params(admin, "127.0.4.1")
    long_job = submit(admin, "APIAddKVMHostMsg", params, targetResourceUuid=params["clusterUuid"])
    assert long_job["jobName"] == "APIAddKVMHostMsg"
    assert json.loads(long_job["jobData"])["password"] == "*****"
    done = ended(admin, long_job)
    assert done["state"] == "Succeeded"
    assert json.loads(done["jobResult"])["inventory"]["managementIp"] == "127.0.4.1"
    progress = admin.get(f"/task-progresses/{done['apiId']}").body["inventories"]
    assert [(p["taskName"], p["content"]) for p in progress] == [("AddKVMHost", "100")]
    assert admin.run("DELETE", f"/longjobs/{done['uuid']}", None).body == {}
    assert admin.query("/longjobs", f"uuid={done['uuid']}") == []
    assert postgres.holders(node.state, "do not tell") == []
    assert postgres.holders(node.state, "127.0.4.1"), "what is stored in clear would be found"


def test_a_failed_long_job_keeps_its_error(admin: Rest) -> None:
    done = ended(
        admin, submit(admin, "CreateCluster", {"zoneUuid": "0" * 32, "name": "c", "hypervisorType": "KVM"})
    )
    assert done["state"] == "Failed"
    assert json.loads(done["jobResult"])["code"] == "SYS.1003"


@pytest.fixture
def stuck(admin: Rest, start_sshd: Callable[..., Sshd]) -> Iterator[dict[str, Any]]:
    """A long job that does not end by itself: its script sleeps on the host."""
    sshd = start_sshd(address="127.0.4.2")
    login = {"sshPort": sshd.port, "username": sshd.account.name, "password": sshd.account.password}
    params = {**host_params(admin, sshd.address), **login}
    host = admin.create("/hosts/kvm", **params)
    long_job = submit(admin, "KvmRunShell", {"hostUuids": [host["uuid"]], "script": "sleep 600"})
    wait_until(lambda: "sleep 600" in sshd.account.processes(), "the script to run", DEADLINE_S)
    yield long_job
    admin.run("DELETE", f"/clusters/{params['clusterUuid']}", None)


def test_a_long_job_is_kept_while_it_runs_and_can_be_cancelled(admin: Rest, stuck: dict[str, Any]) -> None:
    refused = admin.run("DELETE", f"/longjobs/{stuck['uuid']}", None)
    assert (refused.status, refused.error["code"]) == (503, "SYS.1006")
    assert "cancel it" in refused.error["details"]

    path = f"/longjobs/{stuck['uuid']}/actions"
    assert admin.run("PUT", path, {"cancelLongJob": {}}).body == {}
    done = admin.get(f"/longjobs/{stuck['uuid']}").body["inventory"]
    assert done["state"] == "Canceled"
    error = json.loads(done["jobResult"])
    assert error["code"] == "SYS.1017"
    assert "run_script" in error["details"]
    assert admin.run("PUT", path, {"cancelLongJob": {}}).body == {}, "one that has ended stays as it is"
    assert admin.run("DELETE", f"/longjobs/{stuck['uuid']}", None).body == {}


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("APINonsenseMsg", "{}", "no operation that can be a long job"),
        ("QueryZone", "{}", "no operation that can be a long job"),
        ("SubmitLongJob", "{}", "no operation that can be a long job"),
        ("CreateZone", "no json", "jobData is not JSON"),
        ("CreateZone", "[]", "no JSON object"),
        ("CreateZone", "{}", "'name' is missing"),
    ],
)
def test_what_cannot_be_a_long_job_is_refused_at_once(admin: Rest, name: str, data: str, said: str) -> None:
    answer = admin.call("POST", "/longjobs", {"params": {"jobName": name, "jobData": data}})
    assert answer.status == 400
    assert said in answer.error["details"]
