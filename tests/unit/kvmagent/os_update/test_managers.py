"""What package managers are told, and what is understood of what they say."""

import pytest

from kvmagent.machine.kernels import newer_kernel
from kvmagent.machine.tree import Tree
from kvmagent.os_update.managers import Apt, Dnf, changes, find_manager, reboot_reason
from kvmagent.protocol import PackageChange

APT = Apt("/usr/bin/apt-get", "/usr/bin/dpkg", "/usr/bin/dpkg-query")
DNF = Dnf("/usr/bin/dnf", "/usr/bin/rpm")
YUM = Dnf("/usr/bin/yum", "/usr/bin/rpm", is_yum=True, name="yum")


@pytest.mark.parametrize(
    ("programs", "name"),
    [
        (["/usr/bin/apt-get", "/usr/bin/dpkg", "/usr/bin/dpkg-query"], "apt"),
        (["/usr/bin/dnf", "/usr/bin/yum", "/usr/bin/rpm"], "dnf"),
        (["/usr/bin/yum", "/bin/rpm"], "yum"),
        (["/usr/bin/apt-get"], None),
        (["/usr/bin/dnf"], None),
        ([], None),
    ],
)
def test_a_machine_has_the_manager_whose_programs_it_has(machine, programs, name) -> None:
    for path in programs:
        machine.write(path, "")
    found = find_manager(Tree(machine.root))
    assert (found and found.name) == name


def test_apt_keeps_configuration_files_and_removes_nothing() -> None:
    mend, refresh, update = APT.steps(["systemd*"], "/pins")
    assert mend.argv == ("/usr/bin/dpkg", "--force-confdef", "--force-confold", "--configure", "-a")
    assert refresh.argv[-1] == "update"
    assert update.argv[-2:] == ("--with-new-pkgs", "upgrade")
    for option in ("Dpkg::Options::=--force-confdef", "Dpkg::Options::=--force-confold"):
        assert update.argv[update.argv.index(option) - 1] == "-o"
    assert "Dir::Etc::Preferences=/pins" in update.argv
    assert "DPkg::Lock::Timeout=600" in update.argv
    assert not any(word.startswith("--force-") for word in refresh.argv + update.argv)
    assert APT.environment["DEBIAN_FRONTEND"] == "noninteractive"
    assert not any("Preferences" in word for word in APT.steps([], "/pins")[2].argv)


def test_what_apt_leaves_out_stands_before_the_administrators_pins(machine) -> None:
    machine.write("/etc/apt/preferences", "Package: nginx\nPin: version 1.*\nPin-Priority: 900\n")
    text = APT.preferences(Tree(machine.root), ["systemd*", "kernel"])
    stanzas = text.strip().split("\n\n")
    assert stanzas[0] == "Package: systemd*\nPin: version *\nPin-Priority: -1"
    assert "Package: linux-image-*\nPin: version *\nPin-Priority: -1" in stanzas
    assert stanzas[-1].startswith("Package: nginx")


def test_dnf_and_yum_take_exclusions_as_arguments() -> None:
    assert DNF.steps(["kernel", "systemd*"], "")[-1].argv == (
        "/usr/bin/dnf",
        "-y",
        "--setopt=best=False",
        "--exclude=kernel",
        "--exclude=systemd*",
        "upgrade",
    )
    assert YUM.steps(["kernel"], "")[-1].argv == (
        "/usr/bin/yum",
        "-y",
        "--skip-broken",
        "--exclude=kernel",
        "update",
    )


@pytest.mark.parametrize(
    ("manager", "line", "percent"),
    [
        (APT, "dlstatus:1:0.0000:Retrieving file 1 of 3", 0),
        (APT, "dlstatus:3:99.0000:Retrieving file 3 of 3", 33),
        (APT, "pmstatus:dpkg-exec:0.0000:Running dpkg", 33),
        (APT, "pmstatus:libc6:amd64:50.0000:Unpacking libc6:amd64 (amd64)", 66),
        (APT, "pmstatus:linux-image-6.2:7.5000:Unpacking linux-image-6.2 (amd64)", 38),
        (APT, "Unpacking one (2.0) over (1.0) ...", None),
        (DNF, "(3/6): bash-5.1.8-9.el9.x86_64.rpm    9.6 MB/s | 1.7 MB     00:00", 16),
        (DNF, "  Upgrading        : bash-5.1.8-9.el9.x86_64               2/4 ", 66),
        (DNF, "  Verifying        : bash-5.1.8-9.el9.x86_64               4/4 ", 100),
        (YUM, "  Updating   : bash-4.2.46-35.el7_9.x86_64                  1/2 ", 66),
        (DNF, "Running transaction", None),
    ],
)
def test_progress_is_read_where_it_is_given(manager, line, percent) -> None:
    found = manager.percent(line)
    assert (None if found is None else int(found)) == percent


def test_installed_packages_are_told_from_leftovers() -> None:
    output = "ii  bash 5.2\nrc  nginx 1.0\nun  vim \niU  half 2.0\nii  libc6:amd64 2.36\n"
    assert APT.versions(output) == {"bash": "5.2", "half": "2.0", "libc6:amd64": "2.36"}
    output = "bash.x86_64 5.1-9.el9\nkernel.x86_64 5.14.0-1\nkernel.x86_64 5.14.0-2\n"
    assert DNF.versions(output) == {"bash.x86_64": "5.1-9.el9", "kernel.x86_64": "5.14.0-1, 5.14.0-2"}


def test_what_changed_is_told_with_both_versions() -> None:
    before, after = {"a": "1", "b": "1", "old": "1"}, {"a": "2", "b": "1", "new": "1"}
    assert changes(before, after) == [
        PackageChange(name="a", before="1", after="2"),
        PackageChange(name="new", before=None, after="1"),
        PackageChange(name="old", before="1", after=None),
    ]


@pytest.mark.parametrize(
    ("running", "installed", "newer"),
    [
        ("6.1.0-9-amd64", ["6.1.0-9-amd64", "6.1.0-10-amd64"], "6.1.0-10-amd64"),
        ("6.1.0-10-amd64", ["6.1.0-9-amd64", "6.1.0-10-amd64"], None),
        ("6.1.0-9-amd64", ["6.1.0-9-amd64", "6.5.0-1-cloud-amd64"], None),
        ("5.14.0-427.el9.x86_64", ["5.14.0-427.13.1.el9_4.x86_64"], "5.14.0-427.13.1.el9_4.x86_64"),
        ("6.1.0-9-amd64", [], None),
    ],
)
def test_a_kernel_of_the_same_flavour_is_newer_by_its_numbers(machine, running, installed, newer) -> None:
    machine.write("/proc/sys/kernel/osrelease", running + "\n")
    for version in installed:
        machine.write(f"/lib/modules/{version}/modules.dep", "")
        machine.write(f"/boot/vmlinuz-{version}", "")
    assert newer_kernel(Tree(machine.root)) == newer


def test_modules_without_a_kernel_do_not_count(machine) -> None:
    machine.write("/proc/sys/kernel/osrelease", "6.1.0-9-amd64\n")
    machine.write("/lib/modules/6.1.0-10-amd64/kernel/extra.ko", "")
    assert newer_kernel(Tree(machine.root)) is None


def test_a_reboot_is_needed_when_packages_ask_a_tool_advises_or_a_newer_kernel_waits(machine) -> None:
    tree = Tree(machine.root)
    assert reboot_reason(tree, restart_advised=False) is None
    assert reboot_reason(tree, restart_advised=True) == "packages that run since the boot were updated"
    machine.write("/proc/sys/kernel/osrelease", "6.1.0-9-amd64\n")
    machine.write("/lib/modules/6.1.0-10-amd64/vmlinuz", "")
    reason = "kernel 6.1.0-10-amd64 is installed, 6.1.0-9-amd64 runs"
    assert reboot_reason(tree, restart_advised=False) == reason
    machine.write("/run/reboot-required", "*** System restart required ***\n")
    machine.write("/run/reboot-required.pkgs", "libc6\nlibc6\nlinux-base\n")
    assert reboot_reason(tree, restart_advised=False) == "asked for by libc6, linux-base"
