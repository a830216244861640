"""How the client of a storage's hosts is called, and which agent is asked first."""

from mn.facilities.ceph.asking import At, in_turn
from mn.facilities.primary_storage.ceph_hosts import next_client


def test_each_rotation_makes_another_client() -> None:
    first = "hardpoint-" + "a" * 32
    assert next_client(first) == f"{first}-2"
    assert next_client(f"{first}-9") == f"{first}-10"


def test_the_agent_that_is_known_to_be_there_is_asked_first() -> None:
    a, b = (At(name, "192.0.2.1", 7762, "cephagent") for name in "ab")
    assert in_turn(None, [a, b]) == [a, b]
    assert in_turn(b, [a, b]) == [b, a]
    assert in_turn(b, []) == [b]
