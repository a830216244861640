"""Every measurement runs, with counts so small that its figures mean nothing; timing decides no test."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))


def names(table) -> list[str]:
    return [row[0] for row in table.rows]


def without(*peers: str, found: bool) -> pytest.MarkDecorator:
    """Run a test as this machine is, and without peers when it has one of them."""
    return pytest.mark.parametrize("forbidden", [(), peers] if found else [()])


def forbid(monkeypatch: pytest.MonkeyPatch, commands: tuple[str, ...]) -> None:
    """Have commands not found."""
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, **rest: None if name in commands else which(name, **rest)
    )


@without("dbos", found=importlib.util.find_spec("dbos") is not None)
def test_jobs(monkeypatch: pytest.MonkeyPatch, forbidden: tuple[str, ...]) -> None:
    from bench import jobs

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in forbidden else find_spec(name, *rest)
    )
    has_dbos = importlib.util.find_spec("dbos") is not None
    table = jobs.table(rounds=1, seconds=0.05, at_once=(2,))
    expected = [jobs.HARDPOINT, jobs.EACH, jobs.GROUP, jobs.DBOS, jobs.DBOS_WAL, jobs.HTTP]
    assert names(table) == [name for name in expected if has_dbos or "DBOS" not in name]
    assert any("not installed" in note for note in table.notes) is not has_dbos
    assert table.text().startswith("## jobs of three empty steps")


@without("wrk", found=shutil.which("wrk") is not None)
def test_reads(monkeypatch: pytest.MonkeyPatch, forbidden: tuple[str, ...]) -> None:
    from bench import reads

    forbid(monkeypatch, forbidden)
    has_wrk = shutil.which("wrk") is not None
    table = reads.table(rounds=1, seconds=1 if has_wrk else 0.1, rows=60, per_host=20)
    assert [row[:2] for row in table.rows] == [
        ["one inventory", "mn"],
        ["one inventory", "aiohttp"],
        ["20 of 60", "mn"],
        ["20 of 60", "aiohttp"],
    ]
    assert any(("wrk -t1" if has_wrk else "asyncio client") in note for note in table.notes)


def test_agent() -> None:
    from bench import agent

    assert names(agent.table(rounds=1, readings=1)) == ["kvmagent", "empty aiohttp"]


@without("lspci", found=shutil.which("lspci") is not None)
def test_inventory(monkeypatch: pytest.MonkeyPatch, forbidden: tuple[str, ...]) -> None:
    from bench import inventory

    forbid(monkeypatch, forbidden)
    has_tools = all(shutil.which(tool) for tool in inventory.TOOLS)
    table = inventory.table(rounds=1, readings=1)
    assert (inventory.PEER in names(table)) is has_tools
    assert any("left out" in note for note in table.notes) is not has_tools
    assert "in process: virtio-guest" in names(table)


def test_query() -> None:
    from bench import query

    table = query.table(rows=2000, rounds=2)
    assert names(table) == [case.name for case in query.CASES] * 2
    assert {row[1] for row in table.rows} == {"SQLite", "PostgreSQL"}


@without("clush", "ansible", found=True)  # ansible is always there
def test_shell(monkeypatch: pytest.MonkeyPatch, forbidden: tuple[str, ...]) -> None:
    from bench import shell

    if os.geteuid() != 0 or not Path(shell.SSHD).exists():
        pytest.skip("needs root and sshd")
    forbid(monkeypatch, forbidden)
    installed = [name for name in ("clush", "ansible") if shutil.which(name, path=shell.command_path())]
    table = shell.table(hosts=3, at_once=2, rounds=1)
    peers = {
        "clush": [shell.CLUSH_PASSWORD, shell.CLUSH, shell.CLUSH_KEPT],
        "ansible": [shell.ANSIBLE, shell.ANSIBLE_KEPT],
    }
    assert names(table) == [shell.FIRST, shell.KEPT, *(row for name in installed for row in peers[name])]
    left_out = [name for name in ("clush", "ansible") if name not in installed]
    assert [n.split()[0] for n in table.notes if n.endswith("left out")] == left_out


def test_fleet() -> None:
    from bench import fleet

    table = fleet.table(hosts=3, idle_s=0.1)
    assert names(table) == ["bare asyncio", "Hardpoint"]


@without("restic", found=shutil.which("restic") is not None)
def test_images(monkeypatch: pytest.MonkeyPatch, forbidden: tuple[str, ...]) -> None:
    from bench import images

    has_restic = shutil.which("restic") is not None and not forbidden
    forbid(monkeypatch, forbidden)
    table = images.table(megabytes=8)
    assert [name for name in names(table) if not name.startswith("floor")] == [
        "AddImage from a file",
        "export, by HTTPS to a file and sync",
        "LocalStorageMigrateVolume to another host",
    ]
    assert any("restic took" in note for note in table.notes) is has_restic


def test_vms() -> None:
    from bench import vms

    table = vms.table(rounds=1)
    assert names(table) == ["virsh create", "StartVmInstance", "virsh destroy", "StopVmInstance"]
