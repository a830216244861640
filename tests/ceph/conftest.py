"""One cluster for the tests of a run: it takes long to start. Each test has pools of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.ceph.cluster import Cluster
from tests.ceph.programs import programs
from tests.integration.agent.conftest import make_agent, new_uuid, pki

__all__ = ["make_agent", "new_uuid", "pki"]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with three monitors."""
    made = Cluster(tmp_path_factory.mktemp("ceph"), programs(), mons=3)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def make_pool(cluster: Cluster) -> Iterator[Callable[[], str]]:
    """Makes pools that are gone when the test has ended."""
    made: list[str] = []

    def make() -> str:
        made.append(cluster.make_pool(f"pool-{next(_numbers)}"))
        return made[-1]

    yield make
    for pool in made:
        cluster.ceph("osd", "pool", "delete", pool, pool, "--yes-i-really-really-mean-it")


@pytest.fixture
def pool(make_pool: Callable[[], str]) -> str:
    """A pool for RBD images."""
    return make_pool()
