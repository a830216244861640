"""Which host a VM goes to."""

import dataclasses

import pytest

from mn.facilities.vms.placing import LEAST_VMS, Candidate, Need, choose, explain, reason_against, size_of

DEFAULT = "DefaultHostAllocatorStrategy"


def host(name: str, cpus: int = 4, memory: int = 8, vms: int = 0, obstacle: str | None = None) -> Candidate:
    return Candidate(name, name, cpus, memory, vms, obstacle)


def need(cpus: int = 1, memory: int = 1, strategy: str = DEFAULT) -> Need:
    return Need(cpus, memory, strategy)


def test_the_host_with_the_most_free_memory_is_the_best() -> None:
    assert choose([host("a", memory=4), host("b", memory=9), host("c", memory=8)], need()).name == "b"


def test_of_hosts_with_equal_memory_the_one_with_more_cpus_is_better() -> None:
    assert choose([host("a", cpus=2), host("b", cpus=3)], need()).name == "b"


def test_the_other_strategy_prefers_the_fewest_vms() -> None:
    hosts = [host("a", memory=9, vms=2), host("b", memory=2, vms=1)]
    assert choose(hosts, need(strategy=LEAST_VMS)).name == "b"


def test_a_host_is_filled_to_the_last_byte_and_cpu() -> None:
    exact = host("a", cpus=2, memory=3)
    assert choose([exact], need(2, 3)) is exact
    assert choose([exact], need(3, 3)) is None
    assert choose([exact], need(2, 4)) is None


def test_the_order_of_the_hosts_does_not_matter() -> None:
    hosts = [host("a"), host("b"), host("c")]
    assert choose(hosts, need()) == choose(hosts[::-1], need())


def test_each_host_has_its_reason() -> None:
    hosts = [host("a", cpus=-1), host("b", memory=0), host("c", obstacle="its state is Disabled")]
    assert [reason_against(one, need()) for one in hosts] == [
        "0 of 1 CPUs are free",
        "0 of 1 bytes of memory are free",
        "its state is Disabled",
    ]
    assert explain([], need()) == "there is no such host"
    assert explain(hosts, need()).startswith("a: 0 of 1 CPUs are free; b: ")
    many = [dataclasses.replace(hosts[0], name=f"h{n}") for n in range(9)]
    assert explain(many, need()).endswith("; and 4 more")


@pytest.mark.parametrize(("text", "size"), [("5", 5), ("2K", 2048), ("3GB", 3 * 2**30), ("1t", 2**40)])
def test_sizes_as_tags_have_them(text: str, size: int) -> None:
    assert size_of(text) == size
