"""What a machine must be to become a host, as pure functions of what was seen of it.

Each check raises HardpointError naming the host, the reason and the next step; `where` names the host.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol import HostFacts
from mn.fleet.families import KNOWN, family
from mn.fleet.survey import HostSurvey

LEAST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Peer:
    """A host that is in the cluster already."""

    name: str
    distribution: str
    distribution_version: str
    architecture: str
    cpu_model: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a new host must fit into; `peers` are connected hosts of the cluster, one of each kind."""

    fleet_uuid: str
    peers: Sequence[Peer]
    same_distribution: bool
    same_cpu_model: bool
    clock_offset_s: float


def check_address(address: str) -> None:
    """Refuse an address that no single machine can have."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return
    if ip.is_multicast or ip.is_unspecified or address == "255.255.255.255":
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"managementIp {address} is no address of a single machine",
            remedy="give the address that the host is reached at",
            blame=Blame.CALLER,
        )


def check_survey(
    survey: HostSurvey, host_uuid: str, where: str, around: Surroundings, owner_name: str | None
) -> None:
    """Check what a login saw, in the order in which an administrator would want to know.

    `owner_name` is the name of the host of this fleet that the machine's agent belongs to, if there is one.
    """
    check_server(survey, host_uuid, where, around, owner_name)
    check_virtualisation(survey, where)


def check_server(
    survey: HostSurvey, uuid: str, where: str, around: Surroundings, owner_name: str | None
) -> None:
    """Check what any server must be that an agent is installed on."""
    _check_owner(survey, uuid, where, around, owner_name)
    _check_system(survey, where)
    _check_clock(survey.clock_offset_s, where, around.clock_offset_s)


def check_fit(machine: HostSurvey | HostFacts, where: str, around: Surroundings) -> None:
    """Check that a new host is like the others of its cluster."""
    for peer in around.peers:
        if machine.architecture != peer.architecture:
            raise _unsuitable(
                f"{where} is {machine.architecture}, host {peer.name} of the same cluster is "
                f"{peer.architecture}",
                "add it to a cluster of its own architecture",
            )
        here = f"{machine.distribution} {machine.distribution_version}".strip()
        there = f"{peer.distribution} {peer.distribution_version}".strip()
        if around.same_distribution and here.lower() != there.lower():
            raise _unsuitable(
                f"{where} runs {here}, host {peer.name} of the same cluster runs {there}",
                "install the same distribution and version, choose another cluster, or switch the global "
                "setting kvm checkHostDistribution off",
            )


def check_virtualisation(machine: HostSurvey | HostFacts, where: str) -> None:
    """Check that the machine can run VMs."""
    if machine.virtualisation is None and not machine.architecture.startswith("aarch64"):
        raise _unsuitable(
            f"{where} has no hardware virtualisation: none of its processors has the flag vmx or svm",
            "enable VT-x or AMD-V in the machine's firmware; in a VM, enable nested virtualisation",
        )
    if not machine.kvm:
        module = {"vmx": "kvm_intel", "svm": "kvm_amd"}.get(machine.virtualisation or "", "kvm")
        raise _unsuitable(
            f"{where} has no /dev/kvm",
            f"load the kernel's module with `modprobe {module}`; when it refuses, see dmesg and the "
            "firmware's settings",
        )


def check_facts(facts: HostFacts, where: str, around: Surroundings) -> None:
    """Check again what the agent saw, and what only it sees."""
    check_virtualisation(facts, where)
    check_fit(facts, where, around)
    for peer in around.peers:
        if around.same_cpu_model and facts.cpu_model != peer.cpu_model:
            raise _unsuitable(
                f"{where} has the CPU model {facts.cpu_model or 'unknown'}, host {peer.name} of the same "
                f"cluster has {peer.cpu_model or 'unknown'}",
                "choose another cluster, or switch the check off: the cluster's system tag "
                "check::cluster::cpu::model and the global setting kvm checkHostCpuModelName",
            )


def former_host(survey: HostSurvey, host_uuid: str, around: Surroundings) -> str | None:
    """Return the uuid under which the agent still knows this fleet, from a host that was deleted by force."""
    owned = survey.owner_fleet_uuid == around.fleet_uuid and survey.owner_host_uuid != host_uuid
    return survey.owner_host_uuid if owned else None


def _check_owner(
    survey: HostSurvey, host_uuid: str, where: str, around: Surroundings, owner_name: str | None
) -> None:
    owner, fleet = survey.owner_host_uuid, survey.owner_fleet_uuid
    if fleet is not None and fleet != around.fleet_uuid:
        raise _unsuitable(
            f"{where} belongs to another fleet, {fleet}, as its host {owner}",
            "delete the host in that fleet first; when that fleet is gone, remove the agent from the host",
        )
    if owner is not None and owner != host_uuid and owner_name is not None:
        raise _unsuitable(
            f"{where} is the machine of host {owner_name} ({owner}) already",
            "use that host, or delete it before you add the machine again",
        )


def _check_system(survey: HostSurvey, where: str) -> None:
    if not survey.root and not survey.admin:
        raise _unsuitable(
            f"{where}: the user may not become root",
            "log in as root, or as a user that may do everything with sudo",
        )
    if family(survey) is None:
        named = survey.distribution_name or survey.distribution or "something unknown"
        raise _unsuitable(
            f"{where} runs {named}, which agents are not installed on",
            f"install one of {KNOWN}",
        )
    if survey.python is None or survey.python < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        found = "no Python" if survey.python is None else f"Python {'.'.join(map(str, survey.python))}"
        raise _unsuitable(
            f"{where} has {found}, the agent needs {least} or newer", f"install Python {least} on it"
        )


def _check_clock(offset_s: float, where: str, most_s: float) -> None:
    if abs(offset_s) > most_s:
        side = "ahead of" if offset_s > 0 else "behind"
        raise _unsuitable(
            f"the clock of {where} is {abs(offset_s):.0f} s {side} the management node's, more than "
            f"{most_s:g} s: certificates and leases depend on it",
            "set both clocks, best with chrony or another NTP client",
        )


def _unsuitable(details: str, remedy: str) -> HardpointError:
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy)
