"""A node that is killed at any step of a change of a host finishes the change when it is started again."""

from __future__ import annotations

import contextlib
import http.client
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import postgres
from tests.helpers import wait_until
from tests.integration.crash.sampling import sample
from tests.node import Node, Rest

DOOMED = str(Path(__file__).with_name("doomed_node.py"))
ADDRESS = "127.7.0.1"
TIMEOUT_S = 120.0


@dataclass
class Stage:
    """A state folder with one host, whose node is started with or without a doom."""

    folder: Path
    host: str = field(default_factory=lambda: uuid.uuid4().hex)
    session: str | None = None
    cluster: str = ""
    program: str = DOOMED
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.node = Node(self.folder / "state", self.environment)
        self.start()
        admin = self.node.rest().logged_in()
        self.session = admin.session
        zone = admin.create("/zones", name="zone")["uuid"]
        self.cluster = admin.create("/clusters", name="c", zoneUuid=zone, hypervisorType="KVM")["uuid"]

    @property
    def admin(self) -> Rest:
        return Rest(self.node.url, self.session)

    @property
    def home(self) -> Path:
        return self.node.state / "agents" / self.host

    def start(self, doom: str = "none") -> None:
        log = self.folder / "boundaries"
        log.write_text("")
        self.node.program = (self.program, str(log), "1", doom)
        self.node.start()

    def boundaries(self) -> list[str]:
        """Return the boundaries that were passed since the last start."""
        return (self.folder / "boundaries").read_text().split()

    def add(self) -> None:
        if not self.admin.query(f"/hosts/{self.host}"):
            wanted = {"name": "host", "managementIp": ADDRESS, "clusterUuid": self.cluster}
            login = {"username": "root", "password": "unset", "sshPort": 1}
            self.admin.create("/hosts/kvm", **wanted, **login, resourceUuid=self.host)

    def submit(self, job: str, method: str, path: str, body: object) -> str | None:
        """Send a request; None when the node died meanwhile."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self.admin.call(method, path, body, headers={"X-Job-UUID": job})
            assert answer.status == 202, answer
            return answer.location
        return None

    def inventory(self) -> dict[str, object]:
        (found,) = self.admin.query(f"/hosts/{self.host}")
        return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("crash"))
    try:
        yield stage
    finally:
        stage.node.stop()


def change(stage: Stage, operation: str, **params: object) -> None:
    answer = stage.admin.run("PUT", f"/hosts/{stage.host}/actions", {operation: params})
    assert answer.status == 200, answer


def new_password(stage: Stage) -> None:
    """Have the next reconnect go all the way: the login has not been used."""
    body = {"updateKVMHost": {"password": "another"}}
    assert stage.admin.run("PUT", f"/hosts/kvm/{stage.host}/actions", body).status == 200


def in_state(state: str) -> Callable[[Stage], None]:
    def check(stage: Stage) -> None:
        wait_until(lambda: stage.inventory()["status"] == "Connected", "the host to be connected", TIMEOUT_S)
        assert stage.inventory()["state"] == state
        assert (stage.home / "owner.json").exists()

    return check


def gone(stage: Stage) -> None:
    assert stage.admin.query("/hosts") == []
    assert not stage.home.exists()
    for table in ("host_address", "pci_device", "tag"):
        assert postgres.rows(stage.node.state, f"SELECT count(*) FROM {table}") == [(0,)], table


@dataclass(frozen=True)
class Play:
    """An operation on a host: what comes before it, and what must be true after it."""

    method: str
    body: object
    prepare: Callable[[Stage], None]
    check: Callable[[Stage], None]
    steps: tuple[str, ...]


def event(name: str) -> dict[str, object]:
    return {"changeHostState": {"stateEvent": name}}


PLAYS = {
    "reconnect": Play(
        "PUT",
        {"reconnectHost": {}},
        new_password,
        in_state("Enabled"),
        (
            "have_link_renewed",
            "begin_reconnect",
            "untrack",
            "survey_known_host",
            "redeploy_agent",
            "connect_host",
            "save_reconnected",
            "follow_host",
        ),
    ),
    "maintain": Play(
        "PUT",
        event("maintain"),
        lambda stage: change(stage, "changeHostState", stateEvent="enable"),
        in_state("Maintenance"),
        ("read_state", "begin_maintenance", "write_state"),
    ),
    "leave maintenance": Play(
        "PUT",
        event("disable"),
        lambda stage: change(stage, "changeHostState", stateEvent="maintain"),
        in_state("Disabled"),
        ("read_state", "submit_reconnect", "leave_maintenance"),
    ),
    "delete": Play(
        "DELETE",
        None,
        lambda _stage: None,
        gone,
        ("load_leaving", "unfollow_host", "disable_host", "release", "undeploy_host", "delete_row"),
    ),
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLAYS)
def test_a_change_of_a_host_ends_once_at_whatever_step_the_node_is_killed(stage: Stage, name: str) -> None:
    play = PLAYS[name]
    for doom in ["none", *sample(_boundaries(play))]:
        stage.add()
        in_any_state(stage)
        play.prepare(stage)
        in_any_state(stage)
        stage.node.kill()
        stage.start(doom)
        in_any_state(stage)
        path = f"/hosts/{stage.host}" + ("/actions" if play.method == "PUT" else "")
        job = uuid.uuid4().hex
        location = stage.submit(job, play.method, path, play.body)
        if doom == "none":
            assert location is not None
            assert stage.admin.wait(location).status == 200
            assert [b for b in stage.boundaries() if b in _boundaries(play)][: len(_boundaries(play))]
        else:
            wait_until(stage.node.has_ended, f"the node to be killed at {doom}", TIMEOUT_S)
            stage.start()
            location = stage.submit(job, play.method, path, play.body)
            assert location is not None
            ended = stage.admin.wait(location)
            assert ended.status == 200, (doom, ended)
        play.check(stage)
        wait_until(lambda stage=stage: no_locks(stage), "jobs that came of it to end", TIMEOUT_S)  # type: ignore[misc]
        states = postgres.rows(stage.node.state, f"SELECT state FROM job WHERE uuid = '{job}'")
        assert states == [("Succeeded",)], doom


def no_locks(stage: Stage) -> bool:
    return postgres.rows(stage.node.state, "SELECT * FROM job_lock") == []


def in_any_state(stage: Stage) -> None:
    """Wait until the host is connected and no job works on it."""
    wait_until(lambda: stage.inventory()["status"] == "Connected", "the host to be connected", TIMEOUT_S)


def _boundaries(play: Play) -> list[str]:
    return [f"{step}:{when}" for step in play.steps for when in ("before", "journalled")]
