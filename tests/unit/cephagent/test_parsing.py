"""What `ceph` and `rbd` say."""

from __future__ import annotations

import json

import pytest

from agentkit.errors import HardpointError
from agentkit.rbd import Trashed, documents
from cephagent.parsing import (
    capabilities,
    mon_hosts,
    mon_names,
    parse_report,
    pool_named,
    pool_owner,
    session_owners,
)

MON = {
    "name": "a",
    "public_addrs": {
        "addrvec": [
            {"type": "v2", "addr": "[2001:db8::1]:3300", "nonce": 0},
            {"type": "v1", "addr": "[2001:db8::1]:6789", "nonce": 0},
        ]
    },
}
STATUS = {"fsid": "f", "health": {"status": "HEALTH_WARN", "checks": {}}, "quorum_names": ["a"]}
DF = {
    "stats": {"total_bytes": 100, "total_avail_bytes": 60, "num_osds": 3},
    "pools": [{"name": "rbd", "id": 1, "stats": {"stored": 7, "max_avail": 20, "objects": 1}}],
}
POOLS = [
    {
        "pool_name": "rbd",
        "size": 3,
        "flags_names": "hashpspool,full_quota,full",
        "application_metadata": {"rbd": {"hardpoint": "owner"}},
    },
    {"pool_name": "other", "size": 2, "flags_names": "hashpspool"},
]


def answers(*found: object) -> str:
    return "\n\n".join(json.dumps(each) for each in found) + "\n"


def test_a_report_is_made_of_four_answers() -> None:
    report = parse_report(answers(STATUS, {"mons": [MON]}, DF, POOLS), ["::1"])
    (mon,) = report.mons
    assert (mon.address, mon.port, mon.in_quorum) == ("2001:db8::1", 6789, True)
    pool = pool_named(report, "rbd")
    assert (pool.replicated_size, pool.used_bytes, pool.available_bytes, pool.is_full) == (3, 7, 20, True)
    assert (report.total_bytes, report.health, report.addresses) == (100, "HEALTH_WARN", ["::1"])
    again = parse_report(answers(STATUS, {"mons": [MON]}, DF, POOLS), ["::1"])
    assert report.hash == again.hash != ""
    with pytest.raises(HardpointError, match="there is no pool absent"):
        pool_named(report, "absent")


def test_an_answer_that_is_missing_is_no_report() -> None:
    with pytest.raises(ValueError, match="2 of 4"):
        parse_report(answers(STATUS, DF), [])


def test_documents_stand_one_after_the_other() -> None:
    assert documents('{"a": 1}\n\n[2] 3') == [{"a": 1}, [2], 3]
    with pytest.raises(ValueError, match="Expecting"):
        documents("no JSON")


def test_who_made_a_pool_is_known() -> None:
    text = json.dumps(POOLS)
    assert [pool_owner(text, name) for name in ("rbd", "other", "absent")] == ["owner", "", None]
    assert pool_owner('{"a": 1}\n' + text, "rbd") == "owner", "the last answer is it"


@pytest.mark.parametrize("text", ["", "no JSON", '{"a": 1}'])
def test_pools_that_are_not_told_are_not_taken_for_none(text: str) -> None:
    with pytest.raises(HardpointError, match="does not say whether there is a pool rbd"):
        pool_owner(text, "rbd")


def test_hosts_get_the_monitors_with_both_protocols() -> None:
    assert mon_hosts({"mons": [MON]}) == ["[v2:[2001:db8::1]:3300,v1:[2001:db8::1]:6789]"]


def test_a_client_may_use_its_pools_and_read_others() -> None:
    assert capabilities(["a", "b"], ["b", "c"]) == [
        "mon",
        "profile rbd",
        "osd",
        "profile rbd pool=a, profile rbd pool=b, profile rbd-read-only pool=c",
    ]


def test_an_image_in_the_trash_is_due_when_its_time_is_over() -> None:
    assert not Trashed("1", "a", "protected until Fri Dec  4 20:42:40 2026").is_due
    assert Trashed("1", "a", "expired at Fri Nov 27 20:42:40 2026").is_due


def test_who_has_sessions_with_a_monitor_is_known() -> None:
    assert mon_names(json.dumps({"epoch": 1, "mons": [MON]}).encode()) == ["a"]
    sessions = [{"name": "mon.0", "entity_name": ""}, {"name": "client.4", "entity_name": "client.hosts"}]
    assert session_owners(json.dumps(sessions).encode()) == {"", "client.hosts"}
