"""What is looked at on a host, by SSH, before anything is installed on it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from pathlib import Path

import asyncssh
import msgspec

from agentkit.errors import HardpointError
from mn.fleet import ssh_errors
from mn.fleet.agents import KVM_AGENT, AgentKind
from mn.fleet.ssh import SshLink, SshPool, SshTarget

SURVEY_TIMEOUT_S = 60.0
_OUTPUT_LIMIT = 256 * 1024


class HostSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """A host as a login sees it.

    `host_key` is the OpenSSH line it showed; `clock_offset_s` is its clock minus ours (half the round trip
    taken off); `python` is `(major, minor)` of the interpreter that an agent would run with
    (`python3` when it is new enough, else the newest there is), None when there is none; `python_path` is
    where it is;
    `virtualisation` is `vmx`, `svm` or None; `root` says that the user is root, `admin` that root's rights
    can be had (by sudo, without a password or with the user's); `owner_fleet_uuid` and `owner_host_uuid` are
    those of the fleet whose agent is installed, None when no agent is. `agent_version` is the installed
    agent's, `releases` are all that lie there; `certificate` and `authority` are the agent's and the one it
    trusts (PEM).
    """

    host_key: str
    architecture: str
    kernel: str
    distribution: str
    distribution_version: str
    distribution_name: str
    machine_id: str | None
    python: tuple[int, int] | None
    libc: str | None
    virtualisation: str | None
    kvm: bool
    root: bool
    clock_offset_s: float
    agent_version: str | None = None
    owner_host_uuid: str | None = None
    owner_fleet_uuid: str | None = None
    admin: bool = True
    python_path: str | None = None
    distribution_like: tuple[str, ...] = ()
    systemd: bool = False
    firewalld: bool = False
    releases: tuple[str, ...] = ()
    certificate: str | None = None
    authority: str | None = None


class _Owner(msgspec.Struct, rename="camel"):
    host_uuid: str
    fleet_uuid: str


def script(agent: AgentKind = KVM_AGENT) -> str:
    """Return the command that looks at a host, and at the agent of a kind that it may have.

    One line without a single quote, so that any login shell hands it to sh unharmed. Its input is one line,
    the password for sudo.
    """
    lines = Path(__file__).with_name("survey.sh").read_text().splitlines()
    return f"exec /bin/sh -c 'agent={agent.name}; {' '.join(line.strip() for line in lines)}'"


async def take_survey(pool: SshPool, target: SshTarget, agent: AgentKind = KVM_AGENT) -> HostSurvey:
    """Look at a host in one SSH session, changing nothing.

    Raises HardpointError: those of `open_link`; HOST.1003 when the session breaks off or takes too long, or
    the host cannot run the script.
    """
    async with pool.session(target, fresh=True) as link:
        text, sent_s, heard_s, said = await _run(link, target.password, script(agent))
        return parse_survey(
            text, host_key=link.host_key, label=link.label, sent_s=sent_s, heard_s=heard_s, said=said
        )


async def _run(link: SshLink, password: str, command: str) -> tuple[str, float, float, str]:
    """Return the script's output, when its start was sent, when its first line came, what it complained."""
    try:
        async with link.connection.create_process(command, encoding="utf-8", errors="replace") as process:
            lines: list[str] = []
            sent_s = heard_s = 0.0
            length = 0
            async with asyncio.timeout(SURVEY_TIMEOUT_S):
                async for line in process.stdout:
                    if line.startswith("ready="):
                        sent_s = time.time()
                        process.stdin.write(f"{password}\n")
                    elif line.startswith("now="):
                        heard_s = time.time()
                    lines.append(line)
                    length += len(line)
                    if length > _OUTPUT_LIMIT:
                        break
                said = await process.stderr.read(4096) if not heard_s else ""
            return "".join(lines), sent_s, heard_s, said
    except TimeoutError:
        raise _not_looked_at(link.label, f"it did not end within {SURVEY_TIMEOUT_S:g} s") from None
    except (OSError, asyncssh.Error) as error:
        raise ssh_errors.session_refused(link.label, str(error) or type(error).__name__) from error


def parse_survey(
    text: str, *, host_key: str, label: str, sent_s: float = 0.0, heard_s: float = 0.0, said: str = ""
) -> HostSurvey:
    """Return what the script printed; lines of a login shell around it are passed over.

    `sent_s` and `heard_s` are this machine's times (seconds since 1970) around the host's own. Raises
    HardpointError (HOST.1003) when the script did not come to its end.
    """
    values = _values(text)
    if "end" not in values:
        raise _not_looked_at(label, said.strip() or text.strip())

    def one(key: str) -> str:
        return values.get(key, [""])[0].strip()

    python, python_path = _python(one("python"))
    owner = _owner(values.get("owner", []))
    return HostSurvey(
        host_key=host_key,
        architecture=one("architecture"),
        kernel=one("kernel"),
        distribution=one("distribution").lower(),
        distribution_version=one("distribution_version"),
        distribution_name=one("distribution_name"),
        distribution_like=tuple(one("distribution_like").lower().split()),
        machine_id=one("machine_id") or None,
        python=python,
        python_path=python_path,
        libc=_libc(one("libc")),
        virtualisation=one("virtualisation") or None,
        kvm=one("kvm") == "yes",
        root=one("root") == "yes",
        admin=one("admin") == "yes",
        systemd=one("systemd") == "yes",
        firewalld=one("firewalld") == "yes",
        clock_offset_s=_clock_offset_s(one("now"), sent_s, heard_s),
        agent_version=one("agent_version") or None,
        releases=tuple(values.get("release", [])),
        owner_host_uuid=owner.host_uuid if owner else None,
        owner_fleet_uuid=owner.fleet_uuid if owner else None,
        certificate=_pem(values.get("certificate", [])),
        authority=_pem(values.get("authority", [])),
    )


def _values(text: str) -> Mapping[str, list[str]]:
    """Return the values by key, in their order, of what follows the first line of the script."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and (key == "now" or "now" in values):
            values.setdefault(key, []).append(value)
    return values


def _python(text: str) -> tuple[tuple[int, int] | None, str | None]:
    match = re.fullmatch(r"(\d+)\.(\d+) (/\S.*)", text)
    return ((int(match[1]), int(match[2])), match[3]) if match else (None, None)


def _libc(text: str) -> str | None:
    """Return `glibc 2.36` or `musl`."""
    if "musl" in text:
        return "musl"
    match = re.search(r"(?:glibc|GLIBC|libc\D*) ?.*?(\d+\.\d+)", text)
    return f"glibc {match[1]}" if match else None


def _owner(documents: list[str]) -> _Owner | None:
    for document in documents:
        try:
            return msgspec.json.decode(document, type=_Owner)
        except msgspec.DecodeError:
            continue
    return None


def _clock_offset_s(told: str, sent_s: float, heard_s: float) -> float:
    match = re.match(r"\d+(\.\d+)?", told)  # a `date` without %N prints `.N` or `.%N`
    return float(match[0]) - (sent_s + heard_s) / 2 if match else 0.0


def _pem(lines: list[str]) -> str | None:
    return "\n".join(lines) + "\n" if lines else None


def _not_looked_at(label: str, said: str) -> HardpointError:
    reason = said[-500:] or "it printed nothing"
    return ssh_errors.connection_error(
        f"{label}: the host could not be looked at: {reason}",
        "Check that the user's login shell can start /bin/sh and that the host has coreutils and sed.",
    )
