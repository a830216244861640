"""What is asked of `python -m bench`, and what it reads; the measurements run in the integration tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
KNOWN = [
    "jobs",
    "reads",
    "query",
    "agent",
    "fleet",
    "inventory",
    "shell",
    "images",
    "ceph",
    "vms",
    "add_host",
    "hot_plug",
    "passthrough",
    "iscsi",
    "shared_block",
    "all",
]
SIZED = ["fleet", "shell", "query", "reads", "images", "ceph", "vms", "hot_plug"]
SIZED += ["passthrough", "iscsi", "shared_block"]


@pytest.fixture(autouse=True)
def repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))


def test_the_measurements_are_listed() -> None:
    argv = [sys.executable, "-m", "bench"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert [line.split()[0] for line in done.stdout.splitlines()] == KNOWN


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("cakes", f"there is no 'cakes'; choose from {', '.join(KNOWN)}"),
        (
            "agent=3",
            f"agent has no size; {', '.join(SIZED)} have one",
        ),
        ("fleet=many", "'many' is no number of hosts, as in fleet=200"),
        ("fleet=0", "'0' is no number of hosts, as in fleet=200"),
    ],
)
def test_what_is_not_there_is_refused_with_a_choice(
    word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.__main__ import main

    assert main(["jobs", word]) == 2
    assert capsys.readouterr() == ("", f"bench: {said}\n")


def test_all_are_those_that_need_no_guests_and_sizes_are_told_by_name() -> None:
    from bench.__main__ import parse

    everything = ["jobs", "reads", "query", "agent", "fleet", "inventory", "shell", "images", "vms"]
    assert parse(["all"]) == [(name, None) for name in everything]
    assert parse(["hot_plug=5", "add_host"]) == [("hot_plug", 5), ("add_host", None)]


def test_the_report_of_wrk_is_understood() -> None:
    from bench.load import Load, parse_wrk

    text = """  Latency Distribution
     50%    8.45ms
     75%   10.00ms
     99%    1.02s
  1234 requests in 2.00s, 1.5MB read
Requests/sec:    616.91
"""
    assert parse_wrk(text) == Load(1234, 616.91, 8.45, 1020.0)
    with pytest.raises(RuntimeError):
        parse_wrk(text + "  Non-2xx or 3xx responses: 3\n")


def test_shell_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import shell

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    table = shell.table()
    assert (table.rows, table.notes[0][:9]) == ([], "left out:")
