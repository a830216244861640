"""Fixtures of the lab tier: one lab for all modules, guests as new for each."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator

import pytest

from tests.conftest import LEFT_OUT
from tests.lab.hosts import Fleet, run_fleet
from tests.lab.lab import Lab

TEST_TIMEOUT_S = 1200  # hung guests are found by the lab's own time limits, which say more

LAB_UNTIL = "HARDPOINT_LAB_UNTIL"
"""Seconds since 1970: a module that may not be done by then is not begun, for a CI whose time is limited."""

MINUTES = 8
"""What a module may take that does not say it by the marker `takes`."""

_lab = pytest.StashKey[Lab]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Guests are emulated: what takes seconds elsewhere may take minutes. What takes longest comes first."""
    items.sort(key=lambda item: -minutes(item))
    for item in items:
        if item.path.parent.name == "lab" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S, method="signal"))


def minutes(node: pytest.Item | pytest.Collector) -> float:
    """Return what a test's module may take."""
    marker = node.get_closest_marker("takes")
    return float(marker.kwargs["minutes"]) if marker is not None else MINUTES


@pytest.fixture(scope="session")
def whole_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab of a run, images built; no guest runs."""
    if os.geteuid() != 0:
        pytest.skip("the lab makes network namespaces, which needs root: sudo make lab")
    with Lab() as lab:
        request.config.stash[_lab] = lab
        yield lab


@pytest.fixture(scope="module")
def lab(whole_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab with guests as new; the test is on its network."""
    if time.time() + 60 * minutes(request.node) > float(os.environ.get(LAB_UNTIL, "inf")):
        pytest.skip(f"{LEFT_OUT}; make lab runs it")
    whole_lab.power_off()
    with whole_lab.network.entered():
        yield whole_lab


@pytest.fixture(scope="module")
def fleet(lab: Lab, testrun_uid: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A management node with the hosts kvm1 and kvm2: deployed once in a run, as new for each module."""
    yield from run_fleet(lab, testrun_uid, tmp_path_factory.mktemp("fleet"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the consoles and journals of the guests when a test fails."""
    report = yield
    lab = item.config.stash.get(_lab, None)
    if report.failed and lab is not None:
        for guest in lab.brought_up():
            said = "\n".join(filter(None, (guest.last_words(), guest.journal())))
            report.sections.append((f"what {guest.name} said", said))
    return report
