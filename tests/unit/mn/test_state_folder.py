"""The end of who runs in a state folder."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mn import state_folder


def test_local_agents_are_stopped_side_by_side_and_those_that_ran_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = tmp_path / state_folder.AGENTS_DIR
    for name in ("one", "two", "three"):
        (agents / name).mkdir(parents=True)
    all_begun = threading.Barrier(3, timeout=60)

    def stop_agent(home: Path) -> bool:
        if home.parent == agents:
            all_begun.wait()
        return home.name in ("one", "two")

    monkeypatch.setattr(state_folder, "stop_agent", stop_agent)
    assert state_folder.stop(tmp_path) == {"mn": False, "agents": 2, "simulator": False}
