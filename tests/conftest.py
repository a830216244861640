"""Hooks for all tests: HARDPOINT_REQUIRE_ALL=1 turns a skip into a failure in the tiers that CI must run."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REQUIRE_ALL = "HARDPOINT_REQUIRE_ALL"
LEFT_OUT = "left out, as the time is up"
"""Begins the reason of the one skip that is no failure: CI says when to begin nothing more."""
REQUIRED_TIERS = tuple(
    Path(__file__).parent / tier for tier in ("unit", "contract", "integration", "ceph", "lab")
)

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how quick a machine is decides no test

_refused = pytest.StashKey[list[str]]()


def _refuse_skip(
    report: pytest.TestReport | pytest.CollectReport, node: pytest.Item | pytest.Collector
) -> None:
    """Make a skip of a required tier a failure with the reason of the skip; an expected failure is none."""
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get(REQUIRE_ALL, "") in ("", "0"):
        return
    if not any(node.path.is_relative_to(tier) for tier in REQUIRED_TIERS):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if reason.startswith(LEFT_OUT):
        return
    report.outcome = "failed"
    report.longrepr = f"{REQUIRE_ALL} is set and this was skipped: {reason}"
    node.config.stash.setdefault(_refused, []).append(f"{report.nodeid}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report, item)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report, collector)
    return report


def pytest_unconfigure(config: pytest.Config) -> None:
    if "tests.postgres" in sys.modules:
        sys.modules["tests.postgres"].stop_server()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    late = {report.nodeid.partition("::")[0] for report in skipped if LEFT_OUT in str(report.longrepr)}
    if late:
        terminalreporter.section(LEFT_OUT)
        terminalreporter.line(" ".join(sorted(late)))
    refused = terminalreporter.config.stash.get(_refused, [])
    if refused:
        terminalreporter.section(f"skipped although {REQUIRE_ALL} is set")
        for line in refused:
            terminalreporter.line(line)
