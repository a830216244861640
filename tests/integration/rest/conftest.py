from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.rest.receiver import Receiver
from tests.node import Node, Rest, admin, run_node

__all__ = ["admin"]

QUICK = {
    "HARDPOINT_WEB_HOOK_RETRY_S": "0.05",
    "HARDPOINT_WEB_HOOK_RETRY_MAX_S": "0.3",
    "HARDPOINT_WEB_HOOK_TIMEOUT_S": "20",
    "HARDPOINT_IDLE_TIMEOUT_S": "0.5",
    "HARDPOINT_BODY_TIMEOUT_S": "0.5",
    "HARDPOINT_BODY_MAX_BYTES": "20000",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with short times, so that tests see them pass."""
    yield from run_node(tmp_path_factory.mktemp("rest") / "state", QUICK)


@pytest.fixture(scope="module")
def rest(node: Node) -> Rest:
    """A client that is logged in as admin."""
    return node.rest().logged_in()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that runs."""
    made = Receiver()
    made.start()
    yield made
    made.stop()
