"""System tags of hosts: which a user may give, and what a host's facts become."""

from __future__ import annotations

import msgspec
import pytest

from agentkit.errors import HardpointError
from mn.facilities.hosts.tags import CONNECTED, INHERENT, clock_rate, connected_now, tags_of
from mn.facilities.tags.rules import known_patterns, pattern_of
from tests.unit.mn.facilities.hosts.test_rules import FACTS, XEON


@pytest.mark.parametrize(
    "tag",
    [
        "reservedCpu::4",
        "reservedMemory::1073741824",
        "reservedMemory::2G",
        "reservedMemory::512mb",
        "extraips::192.0.2.7",
        "extraips::192.0.2.7,2001:db8::7",
    ],
)
def test_a_tag_that_a_host_may_have_is_taken(tag: str) -> None:
    assert pattern_of("Host", tag).text.split("::")[0] == tag.split("::", maxsplit=1)[0]


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("reservedCpu::many", "'many' is no whole number"),
        ("reservedCpu::-1", "'-1' is no whole number"),
        ("reservedCpu::٤", "is no whole number"),
        ("reservedMemory::much", "'much' is no size"),
        ("reservedMemory::1.5G", "'1.5G' is no size"),
        ("extraips::192.0.2.300", "'192.0.2.300' is no IP address"),
        ("extraips::192.0.2.7,", "'' is no IP address"),
        ("reservedCpu::", "is none that a Host may have"),
        ("reservedDisk::1G", "is none that a Host may have"),
    ],
)
def test_another_one_is_refused_with_what_would_be_right(tag: str, said: str) -> None:
    with pytest.raises(HardpointError) as caught:
        pattern_of("Host", tag)
    assert caught.value.code == "SYS.1007"
    assert said in caught.value.details
    assert "{" in caught.value.remedy, "the pattern is shown"


@pytest.mark.parametrize("pattern", [*INHERENT, CONNECTED])
def test_what_the_system_writes_no_user_may_give(pattern: str) -> None:
    tag = pattern.split("{", maxsplit=1)[0] + "x"
    with pytest.raises(HardpointError, match="is written by the system"):
        pattern_of("Host", tag)
    assert pattern not in [known.text for known in known_patterns("Host")]


def test_the_facts_of_a_host_become_its_tags() -> None:
    facts = msgspec.structs.replace(
        FACTS,
        cpu_model=f"{XEON} CPU @ 2.70GHz",
        distribution_codename="bookworm",
        ept=True,
        libvirt_version="9.0.0",
        iscsi_initiator="iqn.2016-04.com.example:h1",
        system_product="R730",
        system_serial="ABC123",
    )
    assert tags_of(facts) == {
        "os::distribution::{distribution}": "debian",
        "os::release::{release}": "bookworm",
        "os::version::{version}": "12",
        "hvm::{flag}": "vmx",
        "ept::{enabled}": "true",
        "cpuModelName::{model}": f"{XEON} CPU @ 2.70GHz",
        "hostCpuModelName::{model}": f"{XEON} CPU @ 2.70GHz",
        "cpuGHz::{rate}": "2.70",
        "cpuProcessorNum::{number}": "4",
        "systemProductName::{name}": "R730",
        "systemSerialNumber::{number}": "ABC123",
        "libvirt::version::{version}": "9.0.0",
        "iscsiInitiatorName::{name}": "iqn.2016-04.com.example:h1",
    }


def test_what_a_host_does_not_tell_is_no_tag() -> None:
    tags = tags_of(FACTS)
    assert {text for text, value in tags.items() if value is None} == {
        "os::release::{release}",
        "ept::{enabled}",
        "systemProductName::{name}",
        "systemSerialNumber::{number}",
        "libvirt::version::{version}",
        "iscsiInitiatorName::{name}",
    }
    assert tags_of(msgspec.structs.replace(FACTS, ept=False))["ept::{enabled}"] == "false"


def test_every_tag_that_is_written_is_registered_and_the_other_way_round() -> None:
    assert tags_of(FACTS).keys() == INHERENT.keys()
    (text,) = connected_now()
    assert text == CONNECTED


@pytest.mark.parametrize(
    ("model", "mhz", "rate"),
    [
        ("Intel(R) Xeon(R) CPU E5-2630 v3 @ 2.40GHz", 1200.0, "2.40"),
        ("Intel(R) Core(TM) i7 CPU @ 3GHz", None, "3.00"),
        ("AMD EPYC 7302 16-Core Processor", 2994.375, "2.99"),
        ("AMD EPYC 7302 16-Core Processor", None, None),
        ("", 0.0, None),
    ],
)
def test_the_rated_clock_comes_before_the_one_of_the_moment(
    model: str, mhz: float | None, rate: str | None
) -> None:
    assert clock_rate(model, mhz) == rate
