"""Taking a lock that others look at, or have."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from agentkit import locks
from agentkit.place import StateDirectory


def test_a_look_does_not_keep_anybody_from_a_lock(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    with (tmp_path / "agent.lock").open("a+b") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.2, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        directory.take()
        timer.join()
    assert locks.content_if_taken(tmp_path / "agent.lock") == f"{os.getpid()}\n".encode()
    directory.release()
    assert locks.content_if_taken(tmp_path / "agent.lock") is None


def test_a_lock_that_somebody_keeps_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOOK_S", 0.1)
    with (tmp_path / "lock").open("ab") as kept, (tmp_path / "lock").open("ab") as wanted:
        assert locks.take(kept)
        assert not locks.take(wanted)
