from __future__ import annotations

import pytest

from agentkit.errors import HardpointError
from agentkit.wire import Hello
from mn.fleet.protocol import check_protocol


def hello(protocol: int) -> Hello:
    return Hello(
        agent="kvmagent",
        version="0.9.0+abc",
        protocol=protocol,
        instance="i",
        host_uuid=None,
        inventory_hash="",
        time=0.0,
    )


@pytest.mark.parametrize("protocol", [4, 5, 6])
def test_neighbours_work_together(protocol: int) -> None:
    check_protocol(hello(protocol), "192.0.2.1:7070", own=5)


def test_an_agent_that_is_too_old_is_refused_with_both_versions_and_the_way_to_upgrade_it() -> None:
    with pytest.raises(HardpointError) as caught:
        check_protocol(hello(3), "192.0.2.1:7070", own=5)
    error = caught.value
    assert error.code == "HOST.1003"
    for part in ("192.0.2.1:7070", "0.9.0+abc", "protocol 3", "older", "speaks 5", "4 to 6"):
        assert part in error.details
    assert "ReconnectHost" in error.remedy


def test_an_agent_that_is_too_new_asks_for_the_management_node_to_be_upgraded() -> None:
    with pytest.raises(HardpointError) as caught:
        check_protocol(hello(7), "192.0.2.1:7070", own=5)
    assert "newer" in caught.value.details
    assert "upgrade the management node" in caught.value.remedy
