"""AddKVMHost with a look at the machine, over a real SSH login: a node that is killed at any step adds the
host once or leaves nothing of it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests import postgres
from tests.helpers import wait_until
from tests.integration.crash.sampling import sample
from tests.integration.crash.scene import OTHER_FLEET
from tests.integration.crash.test_hosts import TIMEOUT_S, Stage, in_any_state, no_locks
from tests.integration.hosts.conftest import make_machine
from tests.node import REPOSITORY, Answer
from tests.sshd import Sshd

DOOMED = str(Path(__file__).with_name("doomed_surveyed_node.py"))
ADDRESS = "127.7.1.1"
LOOKS = ("resolve_address", "check_addition", "survey_host", "name_of")
TABLES = ("host", "host_address", "pci_device", "usb_device", "block_device", "tag")


@dataclass(frozen=True)
class Ending:
    """How an addition ends and what is journalled of it; `survey` is what is not fine about the machine."""

    steps: tuple[str, ...]
    survey: dict[str, object] = field(default_factory=dict)
    foreign: bool = False
    """The machine's agent turns out to belong to another fleet."""
    said: str = ""
    """Why it was refused; empty: it is added."""


ENDINGS = {
    "added": Ending((*LOOKS, "insert_host", "deploy_agent", "connect_host", "save_connected")),
    "refused for what the login saw": Ending(LOOKS, survey={"kvm": False}, said="has no /dev/kvm"),
    "refused by the agent": Ending(
        (*LOOKS, "insert_host", "deploy_agent", "connect_host"), foreign=True, said=OTHER_FLEET
    ),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("crash")
    make_machine(folder / "machine")
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(folder / "machine"), "PYTHONPATH": str(REPOSITORY)}
    stage = Stage(folder, program=DOOMED, environment=environment)
    try:
        yield stage
    finally:
        stage.node.stop()


def set_scene(stage: Stage, ending: Ending) -> None:
    """Make the machine what it is to be, for a host that has not been there before."""
    stage.host = uuid.uuid4().hex
    surveys = stage.node.state / "surveys"
    surveys.mkdir(exist_ok=True)
    (surveys / f"{ADDRESS}.json").write_text(json.dumps({"ssh": True, "survey": ending.survey}))
    if ending.foreign:
        stage.home.mkdir(parents=True)
        owner = {"hostUuid": stage.host, "fleetUuid": OTHER_FLEET}
        (stage.home / "owner.json").write_text(json.dumps(owner))


def submit(stage: Stage, job: str, sshd: Sshd) -> str | None:
    params = {
        "name": "host",
        "clusterUuid": stage.cluster,
        "managementIp": ADDRESS,
        "sshPort": sshd.port,
        "username": sshd.account.name,
        "password": sshd.account.password,
        "resourceUuid": stage.host,
    }
    return stage.submit(job, "POST", "/hosts/kvm", {"params": params})


def agents(stage: Stage) -> list[int]:
    """Return the processes of the host's agent."""
    found = psutil.process_iter(["cmdline"])
    return [p.pid for p in found if any(str(stage.home) in word for word in p.info["cmdline"] or ())]


def check(stage: Stage, ending: Ending, job: str, answer: Answer) -> None:
    """Check that the host is there once, or that nothing is left of it."""
    rows = {table: postgres.rows(stage.node.state, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    steps = f"SELECT name, undone FROM job_step WHERE job_uuid = '{job}' ORDER BY position"
    journalled = postgres.rows(stage.node.state, steps)
    assert tuple(name for name, _ in journalled) == ending.steps
    if not ending.said:
        assert answer.status == 200, answer
        in_any_state(stage)
        assert rows["host"] == rows["host_address"] == len(agents(stage)) == 1
        (key,) = postgres.rows(stage.node.state, "SELECT ssh_host_key FROM host")
        assert key[0].startswith("ssh-ed25519 "), "the key that the login showed is pinned"
        return
    assert (answer.status, answer.error["code"]) == (503, "HOST.1000")
    assert ending.said in answer.error["details"]
    assert {name for name, undone in journalled if undone} == set(ending.steps) - set(LOOKS)
    assert rows == dict.fromkeys(TABLES, 0)
    assert not stage.home.exists()
    assert agents(stage) == []


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ENDINGS)
def test_an_addition_ends_once_at_whatever_step_the_node_is_killed(
    stage: Stage, start_sshd: Callable[..., Sshd], name: str
) -> None:
    ending, sshd = ENDINGS[name], start_sshd(address=ADDRESS)
    places: list[str] = []
    for doom in places_of(places):
        set_scene(stage, ending)
        stage.node.kill()
        stage.start(doom or "none")
        job = uuid.uuid4().hex
        location = submit(stage, job, sshd)
        if doom is not None:
            wait_until(stage.node.has_ended, f"the node to be killed at {doom}", TIMEOUT_S)
            stage.start()
            location = submit(stage, job, sshd)
        assert location is not None
        answer = stage.admin.wait(location)
        if doom is None:
            places += dict.fromkeys(stage.boundaries())
        check(stage, ending, job, answer)
        if not ending.said:
            assert stage.admin.run("DELETE", f"/hosts/{stage.host}?deleteMode=Enforcing", None).status == 200
        wait_until(lambda: no_locks(stage), "jobs that came of it to end", TIMEOUT_S)


def places_of(found: list[str]) -> Iterator[str | None]:
    """Yield None for a run without a kill, which finds the places, then those to kill the node at."""
    yield None
    assert any(place.startswith("survey_host:") for place in found)
    yield from sample(found)
