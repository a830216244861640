"""QEMU command lines of the lab's guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.image import ImageSet
from tests.lab.machine import GRUB, ROLES, Start, command_line, smbios

IMAGES = ImageSet(Path("/cache/images/0123"))


def line(name: str, start: Start | None = None) -> list[str]:
    return command_line(ROLES[name], IMAGES, Path("/cache/runs/1/a,b"), start or Start())


def value(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


@pytest.mark.parametrize("name", ["kvm1", "kvm2"])
def test_the_iommu_is_the_first_device(name: str) -> None:
    assert value(line(name), "-device").startswith("intel-iommu,")


def test_a_direct_start_has_the_iommu_on_and_no_boot_index() -> None:
    argv = line("kvm1")
    assert "intel_iommu=on" in value(argv, "-append").split()
    assert value(argv, "-kernel") == "/cache/images/0123/vmlinux"
    assert not any("bootindex" in word for word in argv)


def test_a_start_by_boot_loader_gives_qemu_no_kernel() -> None:
    argv = line("kvm1", Start(loader=GRUB))
    assert "-kernel" not in argv
    assert "-append" not in argv
    assert any("drive=root,bootindex=0" in word for word in argv)


def test_who_a_guest_is_stands_in_its_system_table() -> None:
    table = smbios(ROLES["kvm2"])
    assert "serial=kvm2" in table
    assert "sku=10.99.0.12/24_10.99.1.12/24" in table
    assert f"uuid={ROLES['kvm2'].machine_id}" in table


def test_guests_have_names_addresses_identities_and_network_cards_of_their_own() -> None:
    for of in (lambda role: role.number, lambda role: role.machine_id, lambda role: role.addresses):
        assert len({of(role) for role in ROLES.values()}) == len(ROLES)
    cards = [word for name in ROLES for word in line(name) if word.startswith("virtio-net-pci")]
    assert len({word.split("mac=")[1] for word in cards}) == 2 * len(ROLES)


def test_commas_in_paths_are_doubled() -> None:
    assert any("file=/cache/runs/1/a,,b/root.qcow2" in word for word in line("fresh"))


def test_virtual_functions_are_there_from_the_start_only_when_asked_for() -> None:
    assert not any("sriov" in word for word in line("kvm1"))
    argv = line("kvm1", Start(sriov=True))
    assert any("sriov_max_vfs=4" in word for word in argv)
    assert any("if=none,id=nvme," in word for word in argv)


def test_a_restored_guest_waits_for_its_state() -> None:
    assert value(line("san", Start(incoming=True)), "-incoming") == "defer"
    assert [w for w in line("san", Start(incoming=True)) if w not in ("-incoming", "defer")] == line("san")
