"""One crash scene: a state folder, a node that is killed and started again, and what must be true at
the end.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import time
import urllib.error
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from mnclient.api import ApiError, Client
from tests import postgres, zygote

DOOMED = Path(__file__).with_name("doomed_node.py")
DEADLINE_S = 120.0
OTHER_FLEET = "f" * 32

LOOK = (
    "resolve_address:before",
    "resolve_address:after",
    "resolve_address:journalled",
    "check_addition:before",
    "check_addition:journalled",
    "survey_host:before",
    "survey_host:after",
    "survey_host:journalled",
)
FORWARD = (
    *LOOK,
    "insert_host:before",
    "insert_host:journalled",
    "deploy_agent:before",
    "deploy_agent:after",
    "deploy_agent:journalled",
    "connect_host:before",
    "connect_host:after",
    "connect_host:journalled",
    "save_connected:before",
    "save_connected:journalled",
)
"""Every boundary of an AddKVMHost that succeeds, in its order."""

BACKWARD = (
    *LOOK,
    "insert_host:before",
    "insert_host:journalled",
    "deploy_agent:before",
    "deploy_agent:after",
    "deploy_agent:journalled",
    "connect_host:before",
    "job:failing",
    "connect_host:undo",
    "connect_host:undone",
    "deploy_agent:undo",
    "deploy_agent:undone",
    "insert_host:undo",
    "insert_host:undone",
)
"""Every boundary of an AddKVMHost whose host belongs to another fleet."""


@dataclass(frozen=True)
class Plan:
    """What happens in a scene. `dooms` are boundaries that kill one start of the node each."""

    seed: int
    refused: bool
    """The host belongs to another fleet, so the addition fails and is undone."""
    dooms: tuple[str, ...] = ()
    node_after_s: float | None = None
    """Kill the node from outside so long after the job was submitted."""
    agent_in_task: bool = False
    """Kill the agent while it works on its task."""


def plan(seed: int) -> Plan:
    """Seeds go round all boundaries of both kinds and the kills from outside; the rest is drawn from
    the seed.
    """
    draw = random.Random(seed)
    kinds: list[Plan] = [
        *(Plan(seed, False, (doom, *_second(draw, FORWARD))) for doom in FORWARD),
        *(Plan(seed, True, (doom, *_second(draw, BACKWARD))) for doom in BACKWARD),
        Plan(seed, False, agent_in_task=True),
        Plan(seed, False, (draw.choice(FORWARD[13:]),), agent_in_task=True),
        Plan(seed, False, node_after_s=draw.uniform(0, 0.8)),
        Plan(seed, True, node_after_s=draw.uniform(0, 0.8)),
    ]
    return kinds[seed % len(kinds)]


SCENES = len(FORWARD) + len(BACKWARD) + 4


def _second(draw: random.Random, boundaries: tuple[str, ...]) -> tuple[str, ...]:
    return (draw.choice(boundaries),) if draw.random() < 0.3 else ()


@dataclass
class Scene:
    """Plays a plan in a folder of its own, which begins as a copy of `template` (a zone and a KVM
    cluster).
    """

    plan: Plan
    folder: Path
    cluster: str
    kills: int = 0
    _process: zygote.Process | None = None
    _url: str = ""
    _job: str = field(default_factory=lambda: uuid.uuid4().hex)
    _host: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def home(self) -> Path:
        return self.state / "agents" / self._host

    def play(self) -> None:
        """Run the scene. Raises AssertionError saying what is wrong at its end."""
        try:
            if self.plan.refused:
                self.home.mkdir(parents=True)
                owner = {"hostUuid": self._host, "fleetUuid": OTHER_FLEET}
                (self.home / "owner.json").write_text(json.dumps(owner))
            for doom in self.plan.dooms or ("none",):
                self._start(doom)
                self._submit()
                self._outside()
                self._wait_for_end()
            self._start("none")
            self._submit()
            self._check()
        finally:
            self._end()

    def boundaries(self) -> list[str]:
        """The boundaries that were passed, over all starts of the node."""
        return (self.folder / "boundaries").read_text().split()

    def _start(self, doom: str) -> None:
        if self._process and self._process.poll() is None:
            return
        argv = [str(DOOMED), str(self.folder / "boundaries"), "1", doom, "serve"]
        argv += ["--state", str(self.state), "--port", "0", "--local-agents"]
        with (self.folder / "mn.log").open("ab") as log:
            environment = {**os.environ, **postgres.environment(self.state)}
            self._process = zygote.popen(argv, log=log, env=environment, cwd=str(Path.cwd()))
        deadline = time.monotonic() + DEADLINE_S
        while self._process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                content = json.loads((self.state / "mn.lock").read_text())
                if content.get("pid") == self._process.pid and "url" in content:
                    self._url = content["url"]
                    return
            assert time.monotonic() < deadline, "the node does not serve"
            time.sleep(0.01)
        self._expect_killed()

    def _submit(self) -> None:
        """Send the job's request; it is the same job each time.

        A node that dies meanwhile is part of the play.
        """
        body = {
            "params": {
                "name": "host",
                "clusterUuid": self.cluster,
                "managementIp": "127.0.0.1",
                "username": "root",
                "password": "unset",
                "resourceUuid": self._host,
            }
        }
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            self._client().submit("POST", "/hosts/kvm", body, job_uuid=self._job)

    def _outside(self) -> None:
        assert self._process
        if self.plan.agent_in_task and self.kills == 0:
            self._kill_agent_in_task()
        if self.plan.node_after_s is not None and self._process.poll() is None:
            time.sleep(self.plan.node_after_s)
            self._process.kill()

    def _kill_agent_in_task(self) -> None:
        """Kill the agent as soon as it has a task that is on disk and not done."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            for task in (self.home / "tasks").glob("*.json"):
                with contextlib.suppress(OSError, ValueError):
                    if "report" not in json.loads(task.read_bytes()):
                        os.kill(json.loads((self.home / "ready.json").read_text())["pid"], signal.SIGKILL)
                        self.kills += 1
                        return
            if self._process and self._process.poll() is not None:
                return
            time.sleep(0.002)
        raise AssertionError("no task reached the agent")

    def _wait_for_end(self) -> None:
        """Wait until the node has died of its doom, or the job has ended without meeting it."""
        assert self._process
        deadline = time.monotonic() + DEADLINE_S
        while self._process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, ApiError):
                if self._job_ended():
                    return
            assert time.monotonic() < deadline, "the node neither died nor finished the job"
            time.sleep(0.02)
        self._expect_killed()

    def _job_ended(self) -> bool:
        try:
            return self._client().poll(f"/api-jobs/{self._job}") is not None
        except ApiError as error:
            return error.status == 503

    def _expect_killed(self) -> None:
        assert self._process
        log = (self.folder / "mn.log").read_text()[-2000:]
        assert self._process.returncode == -signal.SIGKILL, f"the node ended by itself:\n{log}"
        self.kills += 1

    def _client(self) -> Client:
        client = Client(self._url)
        client.resume((self.folder / "session").read_text())
        return client

    def _check(self) -> None:
        client = self._client()
        try:
            client.wait(f"/api-jobs/{self._job}", timeout_s=DEADLINE_S)
            outcome = "done"
        except ApiError as error:
            outcome = error.code
        assert outcome == ("HOST.1000" if self.plan.refused else "done")
        hosts = client.query("/hosts")
        if self.plan.refused:
            assert hosts == []
            assert not self.home.exists(), "the agent's folder is left over"
            assert self._agents() == [], "an agent is left over"
        else:
            self._check_added(client, hosts)
        self._check_journal()

    def _check_added(self, client: Client, hosts: list[dict[str, object]]) -> None:
        assert [h["uuid"] for h in hosts] == [self._host]
        deadline = time.monotonic() + DEADLINE_S
        while client.query("/hosts")[0]["status"] != "Connected":
            assert time.monotonic() < deadline, "the host does not become Connected"
            time.sleep(0.05)
        assert len(self._agents()) == 1, "there is not exactly one agent"
        owner = json.loads((self.home / "owner.json").read_text())
        assert owner["hostUuid"] == self._host
        addresses = [d["pciDeviceAddress"] for d in client.query("/pci-device/pci-devices")]
        assert addresses
        assert len(addresses) == len(set(addresses)), "devices are there twice"
        starts = (self.home / "agent.log").read_text().count('"event":"ready"')
        assert starts <= 1 + self.plan.agent_in_task, f"the agent was started {starts} times"

    def _check_journal(self) -> None:
        jobs = postgres.rows(self.state, "SELECT uuid, state FROM job WHERE operation = 'AddKVMHost'")
        assert jobs == [(self._job, "Failed" if self.plan.refused else "Succeeded")], jobs
        assert postgres.rows(self.state, "SELECT * FROM job_lock") == []
        steps = postgres.rows(
            self.state,
            f"SELECT name, undone FROM job_step WHERE job_uuid = '{self._job}' ORDER BY position",
        )
        looks = ["resolve_address", "check_addition", "survey_host"]
        changes = ["insert_host", "deploy_agent", "connect_host"]
        saves = [] if self.plan.refused else ["save_connected"]
        assert [name for name, _ in steps] == looks + changes + saves
        undone = [name for name, undone in steps if undone]
        assert undone == (changes if self.plan.refused else [])

    def _agents(self) -> list[int]:
        """The agents of the host. Children of theirs are like them until they are other programs."""
        found = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and str(self.home).encode() in (folder / "cmdline").read_bytes():
                    _state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                    found[int(folder.name)] = int(parent)
        return [pid for pid, parent in found.items() if parent not in found]

    def _end(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in self._agents():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def prepare(template: Path) -> str:
    """Make a state folder with a zone and a KVM cluster and a session in `template`; return the
    cluster's uuid.
    """
    state = template / "state"
    argv = ["-m", "mn", "serve", "--state", str(state), "--port", "0"]
    environment = {**os.environ, **postgres.environment(state)}
    process = zygote.popen(argv, log=None, env=environment, cwd=str(Path.cwd()))
    try:
        deadline = time.monotonic() + DEADLINE_S
        url = None
        while url is None:
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError, ValueError):
                url = json.loads((state / "mn.lock").read_text()).get("url")
            time.sleep(0.02)
        client = Client(url)
        client.log_in("admin", "password")
        zone = client.run("POST", "/zones", {"params": {"name": "zone"}})["inventory"]
        wanted = {"name": "cluster", "zoneUuid": zone["uuid"], "hypervisorType": "KVM"}
        cluster = client.run("POST", "/clusters", {"params": wanted})["inventory"]
        (template / "session").write_text(client.session or "")
        return str(cluster["uuid"])
    finally:
        process.terminate()
        process.wait()


def stage(template: Path, folder: Path, cluster: str, chosen: Plan) -> Scene:
    """Return a scene in `folder`, made from the template."""
    shutil.copytree(template, folder)
    postgres.environment(folder / "state", template / "state")
    return Scene(chosen, folder, cluster)
