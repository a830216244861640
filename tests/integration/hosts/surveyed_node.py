"""A management node whose hosts are looked at before agents are deployed, for tests: a double.

Agents are real processes of this machine, as the LocalDeployer starts them. What a login would see of a host
stands in STATE/surveys/ADDRESS.json, a `Script`; with `ssh` the login itself is real. As with agents that a
service manager starts, a dead agent is not started by its link. STATE/deployments has a line for each
deployment. A host whose uuid is the name of a file in STATE/stuck cannot be drained: the file says why.
"""

import sys
from pathlib import Path

import msgspec

from agentkit.errors import HardpointError
from mn import app
from mn.__main__ import main
from mn.facilities.hosts.drains import drained_by
from mn.fleet.client import Endpoint
from mn.fleet.deploy import Report, Target, silent
from mn.fleet.local import LocalDeployer
from mn.fleet.ssh import check_login
from mn.fleet.survey import HostSurvey
from mn.rest.services import Job

FINE = HostSurvey(
    host_key="",
    architecture="x86_64",
    kernel="6.1.0",
    distribution="debian",
    distribution_version="12",
    distribution_name="Debian GNU/Linux 12 (bookworm)",
    machine_id=None,
    python=(3, 11),
    libc="glibc 2.36",
    virtualisation="vmx",
    kvm=True,
    root=True,
    clock_offset_s=0.0,
)


class Script(msgspec.Struct):
    """What happens to a host: its survey where it differs from a fine one, whether a login is real, and
    whether a deployment fails.
    """

    survey: dict[str, object] = {}
    ssh: bool = False
    broken: str | None = None


class SurveyingDeployer(LocalDeployer):
    """Local agents with scripted surveys."""

    async def survey(self, target: Target) -> HostSurvey | None:
        script = self._script(target)
        seen = msgspec.to_builtins(FINE) | script.survey
        if script.ssh and target.ssh is not None:
            seen["host_key"] = await check_login(target.ssh)
        return msgspec.convert(seen, HostSurvey, strict=False)

    async def deploy(self, target: Target, report: Report = silent) -> Endpoint:
        with (self._state / "deployments").open("a") as file:
            file.write(f"{target.address}\n")
        broken = self._script(target).broken
        if broken is not None:
            raise HardpointError("SYS.1006", "Operation failed", broken, remedy="mend it")
        report("start the agent")
        return await super().deploy(target, report)

    async def revive(self, target: Target) -> Endpoint | None:
        return None

    @property
    def _state(self) -> Path:
        return self._directory.parent

    def _script(self, target: Target) -> Script:
        try:
            text = (self._state / "surveys" / f"{target.address}.json").read_bytes()
        except FileNotFoundError:
            return Script()
        return msgspec.json.decode(text, type=Script)


async def drain(job: Job, uuid: str) -> None:
    """Refuse as the test says."""

    async def look() -> str | None:
        file = job.services.settings.state_dir / "stuck" / uuid
        return file.read_text() if file.exists() else None

    reason = await job.step(look)
    if reason is not None:
        raise HardpointError("SYS.1006", "Operation failed", reason, remedy="move it")


if __name__ == "__main__":
    app.LocalDeployer = SurveyingDeployer  # type: ignore[misc]
    drained_by(drain)
    sys.exit(main(sys.argv[1:]))
