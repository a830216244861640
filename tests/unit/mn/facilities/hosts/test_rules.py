"""What a machine must be to become a host: each check, what it says, and which comes first."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from agentkit.errors import Blame, HardpointError
from kvmagent.protocol import HostFacts
from mn.facilities.hosts.rules import (
    Peer,
    Surroundings,
    check_address,
    check_facts,
    check_fit,
    check_survey,
    check_virtualisation,
    former_host,
)
from mn.fleet.survey import HostSurvey

FLEET, HOST, OTHER = "f" * 32, "a" * 32, "b" * 32
WHERE = "host h1 (192.0.2.1)"
XEON, EPYC = "Intel(R) Xeon(R) Gold 6226", "AMD EPYC 7302"

FINE = HostSurvey(
    host_key="ssh-ed25519 AAAA",
    architecture="x86_64",
    kernel="6.1.0",
    distribution="debian",
    distribution_version="12",
    distribution_name="Debian GNU/Linux 12 (bookworm)",
    machine_id=None,
    python=(3, 11),
    libc=None,
    virtualisation="vmx",
    kvm=True,
    root=True,
    clock_offset_s=0.2,
)
FACTS = HostFacts(
    hostname="h1",
    machine_id=None,
    boot_id=None,
    architecture="x86_64",
    kernel="6.1.0",
    distribution="debian",
    distribution_version="12",
    distribution_name="Debian GNU/Linux 12 (bookworm)",
    cpu_model=XEON,
    cpu_vendor="GenuineIntel",
    cpu_num=4,
    cpu_sockets=1,
    cpu_cores=2,
    cpu_mhz=2700.0,
    memory_bytes=16 << 30,
    virtualisation="vmx",
    kvm=True,
    iommu=False,
    system_vendor=None,
    system_product=None,
    system_serial=None,
)
PEER = Peer("h0", "debian", "12", "x86_64", XEON)


def around(*peers: Peer, same_distribution: bool = True, same_cpu_model: bool = False) -> Surroundings:
    return Surroundings(FLEET, peers, same_distribution, same_cpu_model, clock_offset_s=5.0)


def like(**changed: Any) -> HostSurvey:
    return msgspec.structs.replace(FINE, **changed)


def refused(survey: HostSurvey, owner_name: str | None = None) -> HardpointError:
    with pytest.raises(HardpointError) as caught:
        check_survey(survey, HOST, WHERE, around(), owner_name)
    return caught.value


@pytest.mark.parametrize("address", ["224.0.0.1", "0.0.0.0", "255.255.255.255", "ff02::1", "::"])
def test_an_address_that_no_single_machine_has_is_refused(address: str) -> None:
    with pytest.raises(HardpointError) as caught:
        check_address(address)
    assert (caught.value.code, caught.value.blame) == ("SYS.1007", Blame.CALLER)
    assert address in caught.value.details


@pytest.mark.parametrize("address", ["192.0.2.1", "127.0.0.1", "2001:db8::1", "kvm1.example.com"])
def test_an_address_of_a_machine_is_taken(address: str) -> None:
    check_address(address)


OTHER_FLEET = {"owner_fleet_uuid": "e" * 32, "owner_host_uuid": OTHER}
MACHINE_OF_ANOTHER = {"owner_fleet_uuid": FLEET, "owner_host_uuid": OTHER}
NO_ADMIN = {"root": False, "admin": False}
UNKNOWN_SYSTEM = {"distribution": "slackware", "distribution_name": "Slackware 15.0"}
OLD_PYTHON = {"python": (3, 9)}
CLOCK_OFF = {"clock_offset_s": -61.0}
NO_FLAG = {"virtualisation": None}
NO_KVM = {"kvm": False}

IN_ORDER: list[tuple[dict[str, Any], str]] = [
    (OTHER_FLEET, f"{WHERE} belongs to another fleet, {'e' * 32}, as its host {OTHER}"),
    (NO_ADMIN, f"{WHERE}: the user may not become root"),
    (UNKNOWN_SYSTEM, f"{WHERE} runs Slackware 15.0, which agents are not installed on"),
    (OLD_PYTHON, f"{WHERE} has Python 3.9, the agent needs 3.11 or newer"),
    (CLOCK_OFF, f"the clock of {WHERE} is 61 s behind the management node's, more than 5 s"),
    (NO_FLAG, f"{WHERE} has no hardware virtualisation"),
    (NO_KVM, f"{WHERE} has no /dev/kvm"),
]
"""What makes a machine unsuitable, in the order in which it is told."""


def test_a_machine_without_a_fault_is_taken() -> None:
    check_survey(FINE, HOST, WHERE, around(PEER), None)


@pytest.mark.parametrize(("fault", "said"), IN_ORDER, ids=[said for _, said in IN_ORDER])
def test_each_fault_is_refused_with_its_reason_and_a_remedy(fault: dict[str, Any], said: str) -> None:
    error = refused(like(**fault))
    assert error.code == "SYS.1006"
    assert error.details.startswith(said)
    assert len(error.remedy) > 10


@pytest.mark.parametrize("first", range(len(IN_ORDER)))
def test_of_several_faults_the_first_of_the_order_is_told(first: int) -> None:
    faults: dict[str, Any] = {}
    for fault, _ in reversed(IN_ORDER[first:]):
        faults.update(fault)
    assert refused(like(**faults)).details.startswith(IN_ORDER[first][1])


def test_the_machine_of_another_host_is_refused_before_anything_else() -> None:
    error = refused(like(**{**MACHINE_OF_ANOTHER, **NO_ADMIN, **CLOCK_OFF}), owner_name="h7")
    assert error.code == "SYS.1006"
    assert error.details == f"{WHERE} is the machine of host h7 ({OTHER}) already"


def test_an_agent_of_this_host_or_of_one_that_was_deleted_is_no_fault() -> None:
    mine = like(owner_fleet_uuid=FLEET, owner_host_uuid=HOST)
    check_survey(mine, HOST, WHERE, around(), "h1")
    check_survey(like(**MACHINE_OF_ANOTHER), HOST, WHERE, around(), None)


def test_an_agent_of_a_deleted_host_is_released_first() -> None:
    assert former_host(like(**MACHINE_OF_ANOTHER), HOST, around()) == OTHER
    assert former_host(like(owner_fleet_uuid=FLEET, owner_host_uuid=HOST), HOST, around()) is None
    assert former_host(like(**OTHER_FLEET), HOST, around()) is None
    assert former_host(FINE, HOST, around()) is None


def test_sudo_is_as_good_as_root() -> None:
    check_survey(like(root=False, admin=True), HOST, WHERE, around(), None)


def test_a_distribution_that_is_like_a_known_one_is_taken() -> None:
    check_survey(like(distribution="mint", distribution_like=("Ubuntu",)), HOST, WHERE, around(), None)


def test_no_python_is_said_as_such() -> None:
    assert refused(like(python=None)).details.startswith(f"{WHERE} has no Python, the agent needs 3.11")


def test_a_newer_python_is_taken() -> None:
    check_survey(like(python=(3, 13)), HOST, WHERE, around(), None)


@pytest.mark.parametrize(("offset_s", "side"), [(5.5, "ahead of"), (-5.5, "behind")])
def test_a_clock_is_refused_on_either_side_beyond_the_limit(offset_s: float, side: str) -> None:
    assert f"s {side} the management node's" in refused(like(clock_offset_s=offset_s)).details
    check_survey(like(clock_offset_s=offset_s * 5 / 5.5), HOST, WHERE, around(), None)


@pytest.mark.parametrize(
    ("flag", "architecture", "module"),
    [("vmx", "x86_64", "kvm_intel"), ("svm", "x86_64", "kvm_amd"), (None, "aarch64", "kvm")],
)
def test_without_dev_kvm_the_module_to_load_is_named(
    flag: str | None, architecture: str, module: str
) -> None:
    survey = like(virtualisation=flag, architecture=architecture, kvm=False)
    with pytest.raises(HardpointError) as caught:
        check_virtualisation(survey, WHERE)
    assert re.search(rf"`modprobe {module}`", caught.value.remedy)


def test_arm_has_no_flag_to_show() -> None:
    check_virtualisation(like(virtualisation=None, architecture="aarch64"), WHERE)


@pytest.mark.parametrize("machine", [FINE, FACTS], ids=["survey", "facts"])
@pytest.mark.parametrize(
    ("peer", "said"),
    [
        (Peer("h0", "debian", "12", "aarch64", XEON), "is x86_64, host h0 of the same cluster is aarch64"),
        (
            Peer("h0", "debian", "11", "x86_64", XEON),
            "runs debian 12, host h0 of the same cluster runs debian 11",
        ),
        (
            Peer("h0", "ubuntu", "24.04", "x86_64", XEON),
            "runs debian 12, host h0 of the same cluster runs ubuntu",
        ),
    ],
)
def test_a_machine_must_be_like_the_others_of_its_cluster(
    machine: HostSurvey | HostFacts, peer: Peer, said: str
) -> None:
    with pytest.raises(HardpointError) as caught:
        check_fit(machine, WHERE, around(PEER, peer))
    assert caught.value.code == "SYS.1006"
    assert said in caught.value.details


def test_the_architecture_comes_before_the_distribution() -> None:
    with pytest.raises(HardpointError, match="is aarch64"):
        check_fit(FINE, WHERE, around(Peer("h0", "ubuntu", "24.04", "aarch64", XEON)))


def test_distributions_may_be_mixed_where_the_setting_says_so_but_not_architectures() -> None:
    ubuntu = Peer("h0", "ubuntu", "24.04", "x86_64", XEON)
    check_fit(FINE, WHERE, around(ubuntu, same_distribution=False))
    arm = Peer("h0", "ubuntu", "24.04", "aarch64", XEON)
    with pytest.raises(HardpointError, match="is aarch64"):
        check_fit(FINE, WHERE, around(arm, same_distribution=False))


def test_case_makes_no_other_distribution() -> None:
    check_fit(like(distribution="Debian"), WHERE, around(PEER))


def test_what_the_agent_sees_is_checked_again_and_virtualisation_comes_first() -> None:
    check_facts(FACTS, WHERE, around(PEER))
    facts = msgspec.structs.replace(FACTS, kvm=False, architecture="i686")
    with pytest.raises(HardpointError, match="has no /dev/kvm"):
        check_facts(facts, WHERE, around(PEER))
    with pytest.raises(HardpointError, match="is i686, host h0"):
        check_facts(msgspec.structs.replace(facts, kvm=True), WHERE, around(PEER))


def test_another_cpu_model_is_refused_where_the_cluster_wants_one() -> None:
    facts = msgspec.structs.replace(FACTS, cpu_model=EPYC)
    check_facts(facts, WHERE, around(PEER))
    with pytest.raises(HardpointError) as caught:
        check_facts(facts, WHERE, around(PEER, same_cpu_model=True))
    assert caught.value.code == "SYS.1006"
    assert f"has the CPU model {EPYC}, host h0 of the same cluster has {XEON}" in caught.value.details
    assert "check::cluster::cpu::model" in caught.value.remedy


def test_a_distribution_that_does_not_fit_is_told_before_the_cpu_model() -> None:
    facts = msgspec.structs.replace(FACTS, cpu_model=EPYC, distribution_version="13")
    with pytest.raises(HardpointError, match="runs debian 13"):
        check_facts(facts, WHERE, around(PEER, same_cpu_model=True))
