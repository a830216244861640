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
from mn.facilities.hosts.shell_output import LOCATION
from mn.facilities.hosts.tables import HOST, change_host
from mn.facilities.hosts.targets import load_logins
from mn.fleet.outputs import Kept, OutputStore
from mn.fleet.script_session import Keep
from mn.fleet.shell import ScriptLimits, ShellResult, fan_out
from mn.rest.envelope import error_code
from mn.rest.operation import Action, Reply
from mn.rest.services import Job, Services
from mn.rest.types import Ref
from mn.settings import Settings

log = logging.getLogger(__name__)

SCRIPT_MAX_BYTES = 1024 * 1024
OUTPUT_MIN_BYTES = 1024

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
    locations: dict[str, str] = {}
    """Where the whole of a stream is fetched that is cut here, by stdoutLocation and stderrLocation."""


class KvmRunShell(Action, path="/hosts/kvm/actions"):
    """Run a shell script on KVM hosts over SSH (manual 4.3.10).

    The reply maps each host's uuid to returnCode, stdout, stderr and, when SSH failed or the time limit was
    hit, errorCode. A script that returns non-zero is no error of the operation. A long stream is cut and says
    so at its end; stdoutLocation or stderrLocation then is the path to fetch the whole from with GET.
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
    log.info("shell script begun", extra={"job": job_uuid, "hosts": uuids, "bytes": len(script)})
    found = await fan_out(
        targets,
        script,
        script_limits(services.settings, len(targets)),
        services.shell_turns,
        pool=services.fleet.ssh,
        keep=lambda uuid: _keeper(services.outputs, job_uuid, uuid),
    )
    codes = {uuid: result.return_code for uuid, result in found.items()}
    log.info("shell script ended", extra={"job": job_uuid, "return_codes": codes})
    return {uuid: _kept(job_uuid, uuid, result) for uuid, result in found.items()}


def script_limits(settings: Settings, hosts: int) -> ScriptLimits:
    """Return what each of so many hosts may take: streams share what the reply may hold."""
    share = max(settings.shell_reply_bytes // (2 * hosts), OUTPUT_MIN_BYTES)
    return ScriptLimits(settings.shell_timeout_s, min(settings.shell_output_bytes, share))


def _keeper(outputs: OutputStore, job_uuid: str, host_uuid: str) -> Keep:
    return lambda stream, on_room: outputs.file(job_uuid, host_uuid, stream, on_room)


def keep_host_keys(connection: Connection, results: dict[str, HostResult]) -> None:
    """Pin the keys of hosts that were logged in to for the first time."""
    for uuid, result in results.items():
        if result.host_key and find(connection, HOST, uuid).ssh_host_key is None:
            change_host(connection, uuid, ssh_host_key=result.host_key)


def _kept(job: str, host: str, result: ShellResult) -> HostResult:
    stdout, stderr = result.stdout, result.stderr
    locations: dict[str, str] = {}
    if result.stdout_truncated:
        where = LOCATION.format(job=job, host=host, stream="stdout")
        stdout += _cut(result.stdout_bytes, result.stdout_kept, where)
        locations |= {"stdoutLocation": where} if _is_there(result.stdout_kept) else {}
    if result.stderr_truncated:
        where = LOCATION.format(job=job, host=host, stream="stderr")
        stderr += _cut(result.stderr_bytes, result.stderr_kept, where)
        locations |= {"stderrLocation": where} if _is_there(result.stderr_kept) else {}
    error = result.error.to_body() if result.error else None
    return HostResult(result.return_code, stdout, stderr, error, result.host_key, locations)


def _is_there(kept: Kept | None) -> bool:
    return kept is not None and not kept.error


def _cut(length: int, kept: Kept | None, where: str) -> str:
    """Return what stands for the rest of a stream of `length` bytes."""
    if kept is None or kept.error:
        rest = "the rest is lost" + (f": {kept.error}" if kept else "")
    elif kept.length < length:
        rest = f"the first {kept.length}: GET {where}"
    else:
        rest = f"all of them: GET {where}"
    return f"\n[cut here: the script printed {length} bytes; {rest}]\n"


def _answer(result: HostResult) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "returnCode": result.return_code,
        "stdout": result.stdout,
        "stderr": result.stderr,
        **result.locations,
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
