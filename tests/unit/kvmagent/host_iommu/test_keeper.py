"""The IOMMU is enabled and disabled on made-up machines whose loaders' tools are scripts that really run."""

import asyncio
import json

import pytest

from agentkit.errors import HardpointError
from agentkit.runner import ProcessRunner
from kvmagent.host_iommu.keeper import IommuKeeper

DEFAULTS = 'GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="console=ttyS0"\n'
MKCONFIG = """#!/bin/sh
set -e
sysconfdir="$HARDPOINT_ROOT/etc"
. "$sysconfdir/default/grub"
for file in ${sysconfdir}/default/grub.d/*.cfg; do [ ! -e "$file" ] || . "$file"; done
echo "menuentry x { linux /vmlinuz $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT }" > "$HARDPOINT_ROOT$2"
"""
MKCONFIG_WITHOUT_DROP_INS = """#!/bin/sh
set -e
. "$HARDPOINT_ROOT/etc/default/grub"
echo "menuentry x { linux /vmlinuz $GRUB_CMDLINE_LINUX }" > "$HARDPOINT_ROOT$2"
"""
GRUBBY = """#!/bin/sh
set -e
for entry in "$HARDPOINT_ROOT"/boot/loader/entries/*.conf; do
    case "$2" in
        --args=*) sed -i "/^options /s/\\$/ ${2#--args=}/" "$entry" ;;
        --remove-args=*) sed -i "/^options /s/ ${2#--remove-args=}//" "$entry" ;;
    esac
done
"""
KERNEL_INSTALL = """#!/bin/sh
set -e
line="$(cat "$HARDPOINT_ROOT/etc/kernel/cmdline" 2>/dev/null || cat "$HARDPOINT_ROOT/proc/cmdline")"
printf 'version %s\\noptions %s\\n' "$2" "$line" > "$HARDPOINT_ROOT/boot/efi/loader/entries/$2.conf"
"""
EFI_NAME = "systemd-boot 252.39".encode("utf-16-le")


class Host:
    """A made-up machine with a keeper for it; `snapshot` is all of its files but the kernel's own."""

    def __init__(self, machine, state) -> None:
        self.machine, self.state = machine, state
        self.keeper = IommuKeeper(machine.root, state, ProcessRunner())
        machine.write("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda ro\n")
        machine.write("/proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\n")

    def program(self, path: str, text: str) -> None:
        self.machine.write(path, text)
        (self.machine.root / path.lstrip("/")).chmod(0o755)

    def text(self, path: str) -> str:
        return (self.machine.root / path.lstrip("/")).read_text()

    def reboot(self, line: str) -> None:
        self.machine.write("/proc/cmdline", line)
        self.machine.write("/sys/class/iommu/dmar0/intel-iommu/version", "1:0\n")

    def set(self, enabled: bool):
        return asyncio.run(self.keeper.set(enabled=enabled))

    def snapshot(self) -> dict[str, bytes]:
        files = (path for path in self.machine.root.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.machine.root)): path.read_bytes()
            for path in files
            if not str(path.relative_to(self.machine.root)).startswith(("proc", "sys"))
        }


@pytest.fixture
def host(machine, tmp_path) -> Host:
    return Host(machine, tmp_path / "state")


@pytest.fixture
def debian(host) -> Host:
    host.machine.write("/etc/default/grub", DEFAULTS)
    host.machine.write("/boot/grub/grub.cfg", "menuentry x { linux /vmlinuz console=ttyS0 quiet }\n")
    host.program("/usr/sbin/grub-mkconfig", MKCONFIG)
    return host


@pytest.fixture
def rhel(host) -> Host:
    host.machine.write("/etc/default/grub", DEFAULTS + "GRUB_ENABLE_BLSCFG=true\n")
    host.program("/usr/sbin/grub2-mkconfig", MKCONFIG_WITHOUT_DROP_INS)
    host.program("/usr/sbin/grubby", GRUBBY)
    for version in ("5.14.0-1", "5.14.0-2"):
        host.machine.write(f"/boot/loader/entries/{version}.conf", f"version {version}\noptions root=x ro\n")
    return host


@pytest.fixture
def openeuler(host) -> Host:
    host.machine.write("/etc/default/grub", DEFAULTS.rstrip("\n"))
    host.machine.write("/boot/efi/EFI/openEuler/grub.cfg", "menuentry x { linux /vmlinuz console=ttyS0 }\n")
    host.machine.link("/etc/grub2-efi.cfg", "../boot/efi/EFI/openEuler/grub.cfg")
    host.program("/usr/sbin/grub2-mkconfig", MKCONFIG_WITHOUT_DROP_INS)
    return host


@pytest.fixture
def systemd_boot(host) -> Host:
    name = "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    host.machine.write(f"/sys/firmware/efi/efivars/{name}", b"\x06\0\0\0" + EFI_NAME)
    host.machine.write("/boot/vmlinuz-6.1.0-1", "kernel")
    host.machine.write("/lib/modules/6.1.0-1/modules.dep", "")
    host.machine.write("/boot/efi/loader/entries/6.1.0-1.conf", "version 6.1.0-1\noptions root=/dev/vda ro\n")
    host.program("/usr/bin/kernel-install", KERNEL_INSTALL)
    return host


MENUS = {
    "debian": ["/boot/grub/grub.cfg"],
    "rhel": ["/boot/loader/entries/5.14.0-1.conf", "/boot/loader/entries/5.14.0-2.conf"],
    "openeuler": ["/boot/efi/EFI/openEuler/grub.cfg"],
    "systemd_boot": ["/boot/efi/loader/entries/6.1.0-1.conf"],
}


@pytest.mark.parametrize("kind", MENUS)
def test_every_kernel_is_asked_for_the_iommu_and_disabling_leaves_each_file_as_it_was(request, kind) -> None:
    host = request.getfixturevalue(kind)
    before = {name: text for name, text in host.snapshot().items() if f"/{name}" not in MENUS[kind]}
    options = [" ".join(host.text(path).split()) for path in MENUS[kind]]

    report = host.set(True)
    assert (report.status, report.configured, report.reboot_needed) == ("Inactive", True, True)
    assert all("intel_iommu=on" in host.text(path).split() for path in MENUS[kind])
    assert host.text("/etc/modules-load.d/hardpoint-vfio.conf").split()[-2:] == ["vfio", "vfio-pci"]

    host.reboot("root=/dev/vda ro intel_iommu=on\n")
    report = asyncio.run(host.keeper.report())
    assert (report.status, report.configured, report.reboot_needed) == ("Active", True, False)

    host.reboot("root=/dev/vda ro\n")
    report = host.set(False)
    assert (report.configured, report.reboot_needed) == (False, False)
    after = {name: text for name, text in host.snapshot().items() if f"/{name}" not in MENUS[kind]}
    assert after == before
    assert [" ".join(host.text(path).split()) for path in MENUS[kind]] == options
    assert list(host.state.iterdir()) == []


@pytest.mark.parametrize("kind", MENUS)
def test_enabling_twice_adds_the_option_once_and_disabling_twice_is_no_fault(request, kind) -> None:
    host = request.getfixturevalue(kind)
    host.set(True)
    once = host.snapshot()
    host.set(True)
    assert host.snapshot() == once
    assert all(host.text(path).count("intel_iommu=on") == 1 for path in MENUS[kind])
    host.set(False)
    without = host.snapshot()
    host.set(False)
    assert host.snapshot() == without


@pytest.mark.parametrize("kind", MENUS)
def test_what_an_administrator_had_asked_for_stays_when_it_is_disabled(request, kind) -> None:
    host = request.getfixturevalue(kind)
    host.machine.write("/etc/default/grub", 'GRUB_CMDLINE_LINUX="intel_iommu=on"\nGRUB_ENABLE_BLSCFG=true\n')
    host.machine.write("/etc/kernel/cmdline", "root=/dev/vda intel_iommu=on\n")
    for path in MENUS[kind]:
        host.machine.write(path, "version 1\noptions linux intel_iommu=on\n")
    before = host.snapshot()
    host.set(True)
    host.set(False)
    assert host.snapshot() == before


def test_settings_that_were_edited_meanwhile_keep_the_edit(openeuler, systemd_boot) -> None:
    host = openeuler  # both fixtures make the same machine: the name that the loader left decides
    host.set(True)
    line = host.machine.root / "etc/kernel/cmdline"
    line.write_text(line.read_text().replace(" ro", " ro audit=1"))
    host.set(False)
    assert line.read_text().split() == ["root=/dev/vda", "ro", "audit=1"]


def test_a_block_is_cut_out_of_settings_that_were_edited_meanwhile(openeuler) -> None:
    openeuler.set(True)
    defaults = openeuler.machine.root / "etc/default/grub"
    defaults.write_text(defaults.read_text() + "GRUB_TIMEOUT=1\n")
    openeuler.set(False)
    assert defaults.read_text() == DEFAULTS + "GRUB_TIMEOUT=1\n"


@pytest.mark.parametrize("kind", MENUS)
def test_a_tool_that_fails_leaves_everything_as_it_was(request, kind) -> None:
    host = request.getfixturevalue(kind)
    tools = ("usr/sbin/grub-mkconfig", "usr/sbin/grub2-mkconfig", "usr/sbin/grubby", "usr/bin/kernel-install")
    for tool in (host.machine.root / name for name in tools):
        if tool.exists():  # its last act is to fail
            tool.write_text(
                tool.read_text() + "\ncase $* in *remove*) ;; *) echo no room >&2; exit 1;; esac\n"
            )
    host.machine.write("/etc/kernel/cmdline", "root=/dev/vda ro\n")
    before = host.snapshot()
    options = {path: " ".join(host.text(path).split()) for path in MENUS[kind]}
    with pytest.raises(HardpointError, match="no room") as caught:
        host.set(True)
    assert caught.value.code == "SYS.1006"
    after = host.snapshot()
    for path in MENUS[kind]:
        assert "intel_iommu=on" not in host.text(path), options[path]
        del before[path.lstrip("/")], after[path.lstrip("/")]
    assert after == before


def test_a_setting_that_the_menu_does_not_take_up_is_a_failure(debian) -> None:
    debian.machine.write("/etc/default/grub.d/99-image.cfg", 'GRUB_CMDLINE_LINUX="console=hvc0"\n')
    with pytest.raises(HardpointError, match=r"grub.cfg does not have intel_iommu=on") as caught:
        debian.set(True)
    assert "overrides GRUB_CMDLINE_LINUX" in caught.value.remedy
    assert not (debian.machine.root / "etc/default/grub.d/90-hardpoint-iommu.cfg").exists()
    assert not (debian.machine.root / "etc/modules-load.d/hardpoint-vfio.conf").exists()


def test_a_change_that_was_cut_off_is_brought_to_its_end(debian) -> None:
    debian.set(True)
    debian.machine.write("/boot/grub/grub.cfg", "menuentry x { linux /vmlinuz console=ttyS0 quiet }\n")
    memory = json.loads((debian.state / "iommu.json").read_text())
    (debian.state / "iommu.json").write_text(json.dumps({**memory, "pending": True}))
    debian.set(True)
    assert "intel_iommu=on" in debian.text("/boot/grub/grub.cfg").split()


def test_update_grub_is_preferred_where_the_distribution_has_it(debian) -> None:
    debian.program(
        "/usr/sbin/update-grub", '#!/bin/sh\nexec "${0%/*}/grub-mkconfig" -o /boot/grub/grub.cfg\n'
    )
    (debian.machine.root / "boot/grub/grub.cfg").unlink()
    debian.set(True)
    assert "intel_iommu=on" in debian.text("/boot/grub/grub.cfg").split()


def test_an_unknown_loader_is_refused_with_what_to_do_by_hand(host) -> None:
    host.machine.write("/sys/firmware/acpi/tables/IVRS", "")
    with pytest.raises(HardpointError) as caught:
        host.set(True)
    assert caught.value.code == "SYS.1014"
    assert "amd_iommu=on" in caught.value.remedy
    assert not (host.machine.root / "etc").exists()


def test_a_machine_that_needs_no_option_gets_the_drivers_only(debian) -> None:
    debian.machine.write("/proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\n")
    before = debian.snapshot()
    report = debian.set(True)
    assert (report.option, report.reboot_needed) == (None, False)
    assert debian.snapshot().keys() - before.keys() == {"etc/modules-load.d/hardpoint-vfio.conf"}


def test_the_vfio_drivers_are_loaded_at_once_and_their_absence_is_no_failure(debian) -> None:
    debian.program("/sbin/modprobe", '#!/bin/sh\necho "$@" > "${0%/*}/asked"; exit 1\n')
    debian.set(True)
    assert debian.text("/sbin/asked").split() == ["--all", "vfio", "vfio-pci"]


def test_nothing_allows_unsafe_interrupts_or_blacklists_a_driver(debian) -> None:
    debian.set(True)
    written = b"".join(debian.snapshot().values())
    assert b"unsafe" not in written
    assert b"blacklist" not in written
