"""KvmRunShell: a script on hosts over SSH, one answer for each."""

from __future__ import annotations

import hashlib
import logging
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from agentkit.errors import ErrorBody, HardpointError
from mn.facilities.common import find
from mn.facilities.hosts.tables import HOST, change_host
from mn.facilities.hosts.targets import load_logins
from mn.fleet.shell import ScriptLimits, ShellResult, fan_out
from mn.rest.envelope import error_code
from mn.rest.operation import Action, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref

log = logging.getLogger(__name__)

SCRIPT_MAX_BYTES = 1024 * 1024

HostUuids = Annotated[list[Ref], Meta(min_length=1, description="a list of host uuids, at least one")]
Script = Annotated[
    str,
    Meta(
        min_length=1, max_length=SCRIPT_MAX_BYTES, description="a shell script of 1 to 1,048,576 characters"
    ),
]


class HostResult(msgspec.Struct):
    """What a script did on one host, as the journal holds it."""

    return_code: int
    stdout: str
    stderr: str
    error: ErrorBody | None = None
    host_key: str | None = None


class KvmRunShell(Action, path="/hosts/kvm/actions"):
    """Run a shell script on KVM hosts over SSH (manual 4.3.10).

    The reply maps each host's uuid to returnCode, stdout, stderr and, when SSH failed or the time limit was
    hit, errorCode. A script that returns non-zero is no error of the operation.
    """

    host_uuids: HostUuids
    script: Script

    def audit_details(self) -> dict[str, Any]:
        """Put the script's digest on record, not the script: it may hold secrets."""
        return {"scriptSha256": hashlib.sha256(self.script.encode()).hexdigest()}

    async def run(self, job: Job) -> Reply:
        """Run the script once on every host; after a crash its outcome is unknown, it is not run again."""
        services = job.services
        await job.transact(check_hosts, self.host_uuids)
        begun_by = await job.step(_incarnation, services)
        results = await job.step(run_script, services, job.uuid, self.host_uuids, self.script, begun_by)
        await job.transact(keep_host_keys, results)
        return {"inventory": {uuid: _answer(result) for uuid, result in results.items()}}


def check_hosts(connection: Connection, uuids: list[str]) -> None:
    """Raise HardpointError (SYS.1003) when one of the hosts does not exist."""
    for uuid in uuids:
        find(connection, HOST, uuid)


async def _incarnation(services: Services) -> str:
    return services.incarnation


async def run_script(
    services: Services, job_uuid: str, uuids: list[str], script: str, begun_by: str
) -> dict[str, HostResult]:
    """Run the script, unless another incarnation of the management node had begun to."""
    if begun_by != services.incarnation:
        return {uuid: _unknown_outcome(uuid) for uuid in uuids}
    targets = await services.db.read(load_logins, services.vault, uuids)
    settings = services.settings
    limits = ScriptLimits(settings.shell_timeout_s, settings.shell_output_bytes)
    log.info("shell script begun", extra={"job": job_uuid, "hosts": uuids, "bytes": len(script)})
    found = await fan_out(targets, script, limits, settings.shell_hosts_at_once, pool=services.fleet.ssh)
    codes = {uuid: result.return_code for uuid, result in found.items()}
    log.info("shell script ended", extra={"job": job_uuid, "return_codes": codes})
    return {uuid: _kept(result) for uuid, result in found.items()}


def keep_host_keys(connection: Connection, results: dict[str, HostResult]) -> None:
    """Pin the keys of hosts that were logged in to for the first time."""
    for uuid, result in results.items():
        if result.host_key and find(connection, HOST, uuid).ssh_host_key is None:
            change_host(connection, uuid, ssh_host_key=result.host_key)


def _kept(result: ShellResult) -> HostResult:
    stdout = _marked(result.stdout, result.stdout_bytes, cut=result.stdout_truncated)
    stderr = _marked(result.stderr, result.stderr_bytes, cut=result.stderr_truncated)
    error = result.error.to_body() if result.error else None
    return HostResult(result.return_code, stdout, stderr, error, result.host_key)


def _marked(text: str, length: int, *, cut: bool) -> str:
    return f"{text}\n[cut here: the script printed {length} bytes]\n" if cut else text


def _answer(result: HostResult) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "returnCode": result.return_code,
        "stdout": result.stdout,
        "stderr": result.stderr,
    }
    if result.error is not None:
        answer["errorCode"] = error_code(HardpointError.from_body(result.error))
    return answer


def _unknown_outcome(uuid: str) -> HostResult:
    error = HardpointError(
        "SYS.1012",
        "Management node unavailable",
        f"the management node was restarted while the script ran on host {uuid}; its outcome is not known",
        remedy="look at the host, and run the script again if need be",
    )
    return HostResult(-1, "", "", error.to_body())
