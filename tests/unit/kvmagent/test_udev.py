from __future__ import annotations

import select
import socket
from pathlib import Path

import pytest

pytest.importorskip("pyudev")

from kvmagent.udev import SUBSYSTEMS, DeviceWatch

NULL_UEVENT = Path("/sys/class/net/lo/uevent")


@pytest.fixture
def watch():
    try:
        made = DeviceWatch()
    except (OSError, ImportError) as error:
        pytest.skip(f"no device events here: {error}")
    yield made
    made.close()


def test_without_events_nothing_is_drained(watch: DeviceWatch) -> None:
    watch.drain()
    assert watch.drain() == frozenset()


def test_an_event_makes_the_descriptor_readable_and_names_its_subsystem(watch: DeviceWatch) -> None:
    try:
        NULL_UEVENT.write_text("change")
    except OSError as error:
        pytest.skip(f"events cannot be made here: {error}")
    if watch.source == "kernel":
        readable, _, _ = select.select([watch.fileno()], [], [], 5)
        assert readable
        assert "net" in watch.drain()


def test_udevs_own_events_are_preferred_where_udevd_runs(tmp_path: Path, watch: DeviceWatch) -> None:
    (tmp_path / "run/udev").mkdir(parents=True)
    assert DeviceWatch(tmp_path).source == "udev"
    assert DeviceWatch(tmp_path / "run").source == "kernel"


def test_an_overflow_means_that_all_may_have_changed(watch: DeviceWatch) -> None:
    with socket.socket(fileno=watch.fileno()) as tiny:
        try:
            tiny.setsockopt(socket.SOL_SOCKET, 33, 1)  # SO_RCVBUFFORCE: the kernel gives its least
            for _ in range(3000):
                NULL_UEVENT.write_text("change")
        except OSError as error:
            pytest.skip(f"events cannot be made here: {error}")
        finally:
            tiny.detach()
    assert watch.drain() == SUBSYSTEMS
    assert watch.drain() == frozenset()
