"""An update on a small Debian of its own, by real apt and dpkg, in a process that outlives who began it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from agentkit.runner import ProcessRunner
from kvmagent.os_update.follower import STARTS_MAX, OsUpdates
from kvmagent.protocol import OsUpdateReply, PackageChange, UpdateOs
from tests.apt_root import AptRoot
from tests.helpers import wait_until

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AptRoot:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    apt = AptRoot(tmp_path / "machine")
    apt.install({"one": "1.0", "two": "1.0", "linux-image-amd64": "6.1"})
    apt.publish(
        {"one": "2.0", "two": "2.0", "linux-image-amd64": "6.2", "linux-image-6.2": "6.2"},
        {"run/reboot-required": "linux-image-6.2"},
        linux_image_amd64="linux-image-6.2",
    )
    return apt


class Host:
    def __init__(self, apt: AptRoot, state: Path) -> None:
        self.apt, self.state = apt, state

    def updates(self) -> OsUpdates:
        """A follower as each start of the agent makes one."""
        return OsUpdates(self.apt.root, self.state, ProcessRunner())

    def run(self, command: UpdateOs) -> OsUpdateReply:
        return asyncio.run(self.updates().run(command))

    def folder(self, command: UpdateOs) -> Path:
        return self.state / "os-updates" / command.update_uuid

    def worker(self) -> int | None:
        """The process id of the update's process."""
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
                if b"kvmagent.os_update.worker" in words and str(self.state).encode() in b" ".join(words):
                    return int(folder.name)
        return None


@pytest.fixture
def host(apt: AptRoot, tmp_path: Path) -> Host:
    return Host(apt, tmp_path / "state")


def order(*exclude: str) -> UpdateOs:
    return UpdateOs(update_uuid=uuid.uuid4().hex, exclude_packages=list(exclude))


def test_everything_is_updated_new_dependencies_come_and_the_reboot_is_told(host: Host) -> None:
    reply = host.run(order())
    assert reply.manager == "apt"
    assert reply.packages == [
        PackageChange(name="linux-image-6.2", before=None, after="6.2"),
        PackageChange(name="linux-image-amd64", before="6.1", after="6.2"),
        PackageChange(name="one", before="1.0", after="2.0"),
        PackageChange(name="two", before="1.0", after="2.0"),
    ]
    assert (reply.reboot_needed, reply.reboot_reason) == (True, "asked for by an updated package")
    assert host.apt.installed()["one"] == "2.0"
    again = host.run(order())
    assert again.packages == []


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (["kernel"], {"linux-image-amd64": "6.1"}),
        (["tw*"], {"two": "1.0"}),
        (["one", "t?o"], {"one": "1.0", "two": "1.0"}),
        (["no-such-package"], {}),
    ],
)
def test_what_is_excluded_stays_as_it_is(host: Host, exclude: list[str], left: dict[str, str]) -> None:
    host.run(order(*exclude))
    versions = {"one": "2.0", "two": "2.0", "linux-image-amd64": "6.2", **left}
    assert {name: host.apt.installed()[name] for name in versions} == versions
    assert host.apt.calls("apt-mark") == []


def test_the_same_update_again_is_the_one_that_was(host: Host) -> None:
    command = order()
    first = host.run(command)
    assert host.run(command) == first
    assert len(host.apt.calls("apt-get -q -y")) == 1


def test_an_agent_that_goes_leaves_the_update_and_the_next_one_finds_it(host: Host) -> None:
    command = order()
    host.apt.hold()

    async def begin() -> None:
        following = asyncio.create_task(host.updates().run(command))
        while not host.apt.reached():
            await asyncio.sleep(0.02)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(begin())
    pid = host.worker()
    assert pid is not None
    progress = asyncio.run(host.updates().progress(command.update_uuid))
    assert (progress.phase, progress.percent) == ("update", 15)

    async def find() -> OsUpdateReply:
        following = asyncio.create_task(host.updates().run(command))
        await asyncio.sleep(0)
        host.apt.release()
        return await following

    reply = asyncio.run(find())
    assert [change.name for change in reply.packages][-1] == "two"
    assert len(host.apt.calls("apt-get -q -y")) == 1
    assert asyncio.run(host.updates().progress(command.update_uuid)).percent == 100


def test_an_update_that_is_killed_is_mended_and_done_and_tells_all_that_changed(host: Host) -> None:
    command = order()
    host.apt.hold()

    async def play() -> OsUpdateReply:
        following = asyncio.create_task(host.updates().run(command))
        while not host.apt.reached():
            await asyncio.sleep(0.02)
        worker = host.worker()
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        # What the first process had begun goes on without it, and holds apt's lock meanwhile.
        host.apt.release()
        return await following

    reply = asyncio.run(play())
    assert {change.name for change in reply.packages} >= {"one", "two"}
    assert host.apt.installed()["two"] == "2.0"
    assert len(host.apt.calls("dpkg --force-confdef --force-confold --configure -a")) == 2


def test_a_package_manager_that_fails_is_quoted_and_its_log_is_kept(host: Host) -> None:
    command = order()
    host.apt.fail_once("E: You don't have enough free space in /var/cache/apt/archives/.\n")
    with pytest.raises(HardpointError) as caught:
        host.run(command)
    assert caught.value.code == "SYS.1006"
    assert "apt-get upgrade" in caught.value.details
    assert "enough free space" in caught.value.details
    assert "enough free space" in (host.folder(command) / "log").read_text()
    assert host.apt.installed()["one"] == "1.0"


def test_a_repository_that_does_not_answer_ends_the_update_before_anything_is_changed(host: Host) -> None:
    (host.apt.repository / "Packages").unlink()
    with pytest.raises(HardpointError) as caught:
        host.run(order())
    assert caught.value.code == "SYS.1006"
    assert "apt-get update" in caught.value.details
    assert host.apt.calls("apt-get -q -y") == []


def test_another_process_that_has_the_lock_is_waited_for(host: Host) -> None:
    host.apt.fail_once("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)\n")
    reply = host.run(order())
    assert {change.name for change in reply.packages} >= {"one", "two"}
    assert len(host.apt.calls("apt-get -q -y")) == 2


def test_an_update_that_dies_again_and_again_is_given_up(host: Host) -> None:
    command = order()
    host.folder(command).mkdir(parents=True)
    (host.folder(command) / "starts").write_text(str(STARTS_MAX))
    with pytest.raises(HardpointError, match=f"has died {STARTS_MAX} times"):
        host.run(command)


def test_a_host_without_a_known_package_manager_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    (tmp_path / "machine").mkdir()
    updates = OsUpdates(tmp_path / "machine", tmp_path / "state", ProcessRunner())
    with pytest.raises(HardpointError) as caught:
        asyncio.run(updates.run(order()))
    assert caught.value.code == "SYS.1014"


def test_a_name_that_is_no_uuid_does_not_become_a_folder(host: Host) -> None:
    with pytest.raises(HardpointError, match="no uuid"):
        host.run(UpdateOs(update_uuid="../../etc", exclude_packages=[]))


def test_the_update_ends_with_no_process_left(host: Host) -> None:
    host.run(order())
    wait_until(lambda: host.worker() is None, "the process has ended")
