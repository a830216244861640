"""A node that is killed at a boundary of a job and started again, and what lives through its deaths."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from tests import postgres
from tests.helpers import wait_until
from tests.integration.crash.scene import DOOMED
from tests.node import Answer, Node, Rest

DEADLINE_S = 120.0
GB = 2**30


def boundaries(steps: Iterable[str], units: Iterable[str]) -> list[str]:
    """Return the places of a job: the three times of each step, before and after each transaction."""
    return [
        *(f"{name}:{at}" for name in steps for at in ("before", "after", "journalled")),
        *(f"{name}:{at}" for name in units for at in ("before", "journalled")),
    ]


@dataclass
class World:
    """A node with a zone, a cluster and what `make` adds."""

    node: Node
    folder: Path
    hypervisor: ClassVar[str] = "Simulator"
    admin: Rest = field(init=False)
    zone: str = field(init=False)
    cluster: str = field(init=False)

    def __post_init__(self) -> None:
        self.node.start()
        self.admin = self.node.rest().logged_in()
        self.zone = self.admin.create("/zones", name="zone")["uuid"]
        wanted = {"zoneUuid": self.zone, "hypervisorType": self.hypervisor, "name": "cluster"}
        self.cluster = self.admin.create("/clusters", **wanted)["uuid"]
        self.make()

    def make(self) -> None:
        """Make what the jobs are about."""

    def is_ready(self) -> bool:
        """Say whether all that the jobs need is there again after a start."""
        return {host["status"] for host in self.admin.query("/hosts")} <= {"Connected"}

    def add_simulated_host(self, address: str, **more: object) -> str:
        """Add a host that is only simulated; return its uuid."""
        params = {"name": address, "clusterUuid": self.cluster, "managementIp": address, **more}
        return str(self.admin.create("/hosts/simulators", **params)["uuid"])

    def start(self, doom: str = "none") -> None:
        """Start the node anew, to be killed at a boundary."""
        self.boundaries.unlink(missing_ok=True)
        self.node.program = (str(DOOMED), str(self.boundaries), "1", doom)
        self.node.start()
        self.admin.url = self.node.url
        wait_until(self.is_ready, "what the jobs need is ready", DEADLINE_S)

    @property
    def boundaries(self) -> Path:
        """Return the file that boundaries are written to."""
        return self.folder / "boundaries"

    def passed(self) -> list[str]:
        """Return the boundaries that were passed since the start."""
        return self.boundaries.read_text().split() if self.boundaries.exists() else []

    def ask(self, job: str, method: str, path: str, body: Mapping[str, object]) -> None:
        """Ask for a job; the same request is the same job. The node may die of it."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self.admin.call(method, path, body, headers={"X-Job-UUID": job})
            assert answer.status == 202, answer

    def ended(self, job: str, status: int = 200) -> Answer:
        """Return the answer of a job that must end so, and keep no lock."""
        answer = self.admin.wait(f"/api-jobs/{job}")
        assert answer.status == status, answer
        assert postgres.rows(self.node.state, "SELECT * FROM job_lock") == []
        return answer


W = TypeVar("W", bound=World)


def run_world(kind: type[W], folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[W]:
    """Make a world; its node does not run."""
    node = Node(folder / "state", environment or {})
    try:
        world = kind(node, folder)
        node.kill()
        yield world
    finally:
        node.stop()
