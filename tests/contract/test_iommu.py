"""The IOMMU of a host (manual 4.3.11.12 to 4.3.11.14), asked for in all the spellings that clients have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.conftest import World
from tests.contract.params import new_uuid
from tests.node import Answer, Node

STATUS_PATHS = (
    "/pci-device/hosts/status/{}",
    "/pci-device/hosts/{}/status",
    "/pci-device/hosts/status/uuid}}?uuid={}",
)
STATE_PATHS = ("/pci-device/hosts/state/{}", "/pci-device/hosts/{}/state")


def update(world: World, state: str, key: str = "updateHostIommuState") -> Answer:
    path = f"/pci-device/hosts/{world.host['uuid']}/actions"
    return world.admin.run("PUT", path, {key: {"state": state}, "systemTags": [], "userTags": []})


@pytest.fixture
def machine(node: Node) -> Path:
    return node.state.parent / "machine"


@pytest.fixture
def disabled(world: World) -> Iterator[World]:
    """The world with the host's IOMMU not asked for, before and after."""
    assert update(world, "Disabled").status == 200
    yield world
    assert update(world, "Disabled").status == 200


@pytest.mark.parametrize("path", STATE_PATHS)
def test_the_state_is_what_was_asked_for_at_each_path(disabled: World, path: str) -> None:
    where = path.format(disabled.host["uuid"])
    assert disabled.admin.get(where).body == {"state": "Disabled"}
    assert update(disabled, "Enabled").body == {"state": "Enabled"}
    assert disabled.admin.get(where).body == {"state": "Enabled"}
    assert disabled.admin.get(where + "/").body == {"state": "Enabled"}


@pytest.mark.parametrize("path", STATUS_PATHS)
def test_the_status_stays_the_running_kernels_and_a_notice_says_that_a_reboot_is_needed(
    disabled: World, path: str
) -> None:
    where = path.format(disabled.host["uuid"])
    before = disabled.admin.call("GET", where)
    assert (before.status, before.body) == (200, {"status": "Inactive"})
    assert "X-Hardpoint-Notice" not in before.headers
    update(disabled, "Enabled")
    after = disabled.admin.call("GET", where)
    assert after.body == {"status": "Inactive"}
    assert after.headers["X-Hardpoint-Notice"].startswith("reboot needed: the IOMMU is enabled")


@pytest.mark.parametrize(
    "key",
    [
        "updateHostIommuState",
        "updateHostlommuState",
        "updateHostlomuState",
        "updateHostIomuState",
        "updateHost1ommuState",
        "UPDATEHOSTIOMMUSTATE",
    ],
)
def test_the_key_is_taken_as_it_is_printed_and_as_it_is_meant(disabled: World, key: str) -> None:
    assert update(disabled, "Enabled", key).body == {"state": "Enabled"}


@pytest.mark.parametrize("key", ["updateHostState", "updateHostIommuStatus", "updateHost"])
def test_another_key_is_refused_with_the_right_one(world: World, key: str) -> None:
    path = f"/pci-device/hosts/{world.host['uuid']}/actions"
    answer = world.admin.call("PUT", path, {key: {"state": "Enabled"}})
    assert answer.status == 400
    assert "'updateHostIommuState'" in answer.error["details"]


@pytest.mark.parametrize("state", ["enabled", "On", "", None, True])
def test_an_illegal_state_is_refused(world: World, state: object) -> None:
    path = f"/pci-device/hosts/{world.host['uuid']}/actions"
    answer = world.admin.call("PUT", path, {"updateHostIommuState": {"state": state}})
    assert (answer.status, answer.error["code"]) == (400, "SYS.1007")
    assert "Enabled, Disabled" in answer.error["details"]


def test_a_host_that_does_not_exist_is_not_found(world: World) -> None:
    nobody = new_uuid()
    answers = [world.admin.get(path.format(nobody)) for path in (*STATUS_PATHS, *STATE_PATHS)]
    body = {"updateHostIommuState": {"state": "Enabled"}}
    answers.append(world.admin.run("PUT", f"/pci-device/hosts/{nobody}/actions", body))
    for answer in answers:
        assert (answer.status, answer.error["code"]) == (503, "SYS.1003")


def test_enabling_writes_where_the_loader_reads_and_disabling_takes_it_away(
    disabled: World, machine: Path
) -> None:
    def files() -> dict[Path, bytes]:
        folders = (machine / "etc", machine / "boot")
        return {p: p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()}

    before = files()
    update(disabled, "Enabled")
    assert "intel_iommu=on" in (machine / "boot/grub/grub.cfg").read_text().split()
    assert {p.name for p in files().keys() - before.keys()} == {
        "90-hardpoint-iommu.cfg",
        "hardpoint-vfio.conf",
    }
    update(disabled, "Disabled")
    assert files() == before


def test_a_tool_that_fails_leaves_state_and_files_as_they_were(disabled: World, machine: Path) -> None:
    mkconfig = machine / "usr/sbin/grub-mkconfig"
    script = mkconfig.read_text()
    mkconfig.write_text(f"{script}echo no room on /boot >&2\nexit 1\n")
    try:
        failed = update(disabled, "Enabled")
    finally:
        mkconfig.write_text(script)
    assert (failed.status, failed.error["code"]) == (503, "SYS.1006")
    assert "no room on /boot" in failed.error["details"]
    path = STATE_PATHS[0].format(disabled.host["uuid"])
    assert disabled.admin.get(path).body == {"state": "Disabled"}
    assert not (machine / "etc/default/grub.d/90-hardpoint-iommu.cfg").exists()


def reconnect(world: World) -> None:
    path = f"/hosts/{world.host['uuid']}/actions"
    answer = world.admin.run("PUT", path, {"reconnectHost": {}})
    assert answer.body["inventory"]["status"] == "Connected", answer


def rewritten(node: Node) -> int:
    """How often the log says that the wanted IOMMU was written again."""
    return (node.state / "mn.log").read_text().count("wanted IOMMU written again")


def test_a_host_that_has_lost_it_gets_it_back_when_it_is_reconnected(
    disabled: World, machine: Path, node: Node
) -> None:
    drop_in = machine / "etc/default/grub.d/90-hardpoint-iommu.cfg"
    menu = machine / "boot/grub/grub.cfg"
    before, installed = rewritten(node), menu.read_bytes()
    update(disabled, "Enabled")
    reconnect(disabled)
    assert rewritten(node) == before, "it is there"

    drop_in.unlink()
    (machine / "etc/modules-load.d/hardpoint-vfio.conf").unlink()
    menu.write_bytes(installed)
    reconnect(disabled)
    assert "intel_iommu=on" in menu.read_text().split()
    assert drop_in.exists()
    assert rewritten(node) == before + 1
    status = disabled.admin.call("GET", STATUS_PATHS[0].format(disabled.host["uuid"]))
    assert status.body == {"status": "Inactive"}, "it was not rebooted"
    assert status.headers["X-Hardpoint-Notice"].startswith("reboot needed: the IOMMU is enabled")


def test_a_host_that_is_not_asked_for_it_is_left_alone(disabled: World, machine: Path, node: Node) -> None:
    before, installed = rewritten(node), (machine / "boot/grub/grub.cfg").read_bytes()
    reconnect(disabled)
    assert rewritten(node) == before
    assert (machine / "boot/grub/grub.cfg").read_bytes() == installed


def test_a_host_that_cannot_write_it_again_is_reconnected_all_the_same(
    disabled: World, machine: Path, node: Node
) -> None:
    mkconfig = machine / "usr/sbin/grub-mkconfig"
    script, menu = mkconfig.read_text(), machine / "boot/grub/grub.cfg"
    installed = menu.read_bytes()
    update(disabled, "Enabled")
    (machine / "etc/default/grub.d/90-hardpoint-iommu.cfg").unlink()
    menu.write_bytes(installed)
    mkconfig.write_text(f"{script}echo no room on /boot >&2\nexit 1\n")
    try:
        reconnect(disabled)
    finally:
        mkconfig.write_text(script)
    said = (node.state / "mn.log").read_text()
    assert "wanted IOMMU not written again" in said
    assert disabled.admin.get(STATE_PATHS[0].format(disabled.host["uuid"])).body == {"state": "Enabled"}
    reconnect(disabled)
    assert "intel_iommu=on" in menu.read_text().split()
