"""What package managers are told and what they say: argument lists and parsers, nothing is run here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kvmagent.machine.kernels import newer_kernel
from kvmagent.machine.programs import find_program
from kvmagent.machine.tree import Tree
from kvmagent.protocol import PackageChange

LOCK_WAIT_S = 600
Versions = dict[str, str]
"""Installed packages by name (and architecture), each with its version; several are joined by commas."""

_KERNEL_OF_APT = ("linux-image-*", "linux-headers-*", "linux-modules-*", "linux-generic*", "linux-virtual*")


@dataclass(frozen=True)
class Step:
    """One command of an update: `done` is the percentage that the whole has reached when it has ended."""

    phase: str
    argv: tuple[str, ...]
    done: int
    waits_for_lock: bool = False
    """The command gives up when another process has the manager's lock, so it is run again."""


class PackageManager(Protocol):
    """One family of package managers. The first word of each argv is a path of the machine."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that its commands need."""

    def steps(self, exclude: Sequence[str], preferences: str) -> list[Step]:
        """Return what an update runs; `preferences` is where the text of `preferences` is to be found."""

    def preferences(self, tree: Tree, exclude: Sequence[str]) -> str:
        """Return what is to be in a file of its own for the manager; empty when it needs none."""

    def list_argv(self) -> tuple[str, ...]:
        """Return the command that lists what is installed."""

    def versions(self, output: str) -> Versions:
        """Return what the list says."""

    def percent(self, line: str) -> float | None:
        """Return how far the update step is by a line of its output, None when the line says nothing."""

    def is_noise(self, line: str) -> bool:
        """Say whether a line is for programs and not for the log."""

    def is_locked(self, output: str) -> bool:
        """Say whether a command failed since another process has the lock."""


@dataclass(frozen=True)
class Apt:
    """Debian and Ubuntu. Nothing is removed, configuration files that were changed stay as they are."""

    apt_get: str
    dpkg: str
    dpkg_query: str
    name: str = "apt"
    environment: Mapping[str, str] = field(
        default_factory=lambda: {
            "DEBIAN_FRONTEND": "noninteractive",
            "APT_LISTCHANGES_FRONTEND": "none",
            "UCF_FORCE_CONFFOLD": "1",
            "NEEDRESTART_MODE": "l",
        }
    )

    def steps(self, exclude: Sequence[str], preferences: str) -> list[Step]:
        """Mend what an update that was cut off has left, fetch the lists, upgrade."""
        kept = ("--force-confdef", "--force-confold")
        update = (
            *("-o", "Acquire::Retries=3", "-o", "APT::Update::Error-Mode=any"),
            *("-o", f"DPkg::Lock::Timeout={LOCK_WAIT_S}"),
        )
        pins = ("-o", f"Dir::Etc::Preferences={preferences}") if exclude else ()
        options = [word for option in kept for word in ("-o", f"Dpkg::Options::={option}")]
        upgrade = ("-y", *update, *pins, *options, "-o", "APT::Status-Fd=1", "--with-new-pkgs", "upgrade")
        return [
            Step("mend", (self.dpkg, *kept, "--configure", "-a"), 2, waits_for_lock=True),
            Step("refresh", (self.apt_get, "-q", *update, "update"), 15, waits_for_lock=True),
            Step("update", (self.apt_get, "-q", *upgrade), 98, waits_for_lock=True),
        ]

    def preferences(self, tree: Tree, exclude: Sequence[str]) -> str:
        """Return the administrator's pins with those that keep the excluded packages as they are."""
        if not exclude:
            return ""
        names = [
            name for pattern in exclude for name in (_KERNEL_OF_APT if pattern == "kernel" else (pattern,))
        ]
        pins = [f"Package: {name}\nPin: version *\nPin-Priority: -1\n" for name in names]
        own = tree.text("/etc/apt/preferences")
        return "\n".join([*pins, *([own + "\n"] if own else [])])

    def list_argv(self) -> tuple[str, ...]:
        """Ask dpkg."""
        form = "${db:Status-Abbrev} ${binary:Package} ${Version}\\n"
        return (self.dpkg_query, "--show", f"--showformat={form}")

    def versions(self, output: str) -> Versions:
        """Take what is installed, whole or half: `ii name version`."""
        words = (line.split() for line in output.splitlines())
        return {found[1]: found[2] for found in words if len(found) == 3 and found[0][1:2] not in "nc"}

    def percent(self, line: str) -> float | None:
        """Downloads are the first third, the rest is unpacking and configuring."""
        match = re.match(r"(dlstatus|pmstatus):(?:[^:]+:)+?([\d.]+):", line)
        if match is None:
            return None
        share = float(match[2])
        return share / 3 if match[1] == "dlstatus" else 100 / 3 + share * 2 / 3

    def is_noise(self, line: str) -> bool:
        """Status lines are for programs."""
        return line.startswith(("pmstatus:", "dlstatus:"))

    def is_locked(self, output: str) -> bool:
        """Lists and the package database have a lock each."""
        return "Could not get lock" in output or "frontend lock was locked by another process" in output


@dataclass(frozen=True)
class Dnf:
    """RHEL and its kin, openEuler: dnf, or yum where that is all there is."""

    dnf: str
    rpm: str
    is_yum: bool = False
    name: str = "dnf"
    environment: Mapping[str, str] = field(default_factory=dict)

    def steps(self, exclude: Sequence[str], preferences: str) -> list[Step]:
        """Fetch the metadata, upgrade; where the best version is excluded, the next is taken."""
        excluded = tuple(f"--exclude={pattern}" for pattern in exclude)
        if self.is_yum:
            refresh, upgrade = ("clean", "expire-cache"), ("--skip-broken", *excluded, "update")
        else:
            refresh, upgrade = ("makecache", "--refresh"), ("--setopt=best=False", *excluded, "upgrade")
        return [
            Step("refresh", (self.dnf, "-y", *refresh), 15),
            Step("update", (self.dnf, "-y", *upgrade), 98),
        ]

    def preferences(self, tree: Tree, exclude: Sequence[str]) -> str:
        """Exclusions are arguments."""
        return ""

    def list_argv(self) -> tuple[str, ...]:
        """Ask rpm."""
        return (self.rpm, "-qa", "--queryformat", "%{NAME}.%{ARCH} %{VERSION}-%{RELEASE}\\n")

    def versions(self, output: str) -> Versions:
        """Take all; kernels are there in several versions."""
        found: dict[str, list[str]] = {}
        for words in (line.split() for line in output.splitlines()):
            if len(words) == 2:
                found.setdefault(words[0], []).append(words[1])
        return {name: ", ".join(sorted(versions)) for name, versions in found.items()}

    def percent(self, line: str) -> float | None:
        """Downloads count `(3/7)` in front and are the first third, the transaction counts ` 3/14` behind."""
        match = re.match(r"\((\d+)/(\d+)\)", line)
        if match:
            return 100 / 3 * int(match[1]) / max(int(match[2]), 1)
        match = re.search(r"\s(\d+)/(\d+)\s*$", line)
        return 100 / 3 + 200 / 3 * int(match[1]) / max(int(match[2]), 1) if match else None

    def is_noise(self, line: str) -> bool:
        """All is for people."""
        return False

    def is_locked(self, output: str) -> bool:
        """It waits by itself."""
        return False


def find_manager(tree: Tree) -> PackageManager | None:
    """Return the machine's package manager, None when it has none that is known."""
    apt_get, dpkg = find_program(tree, "apt-get"), find_program(tree, "dpkg")
    query = find_program(tree, "dpkg-query")
    if apt_get and dpkg and query:
        return Apt(apt_get, dpkg, query)
    rpm, dnf, yum = find_program(tree, "rpm"), find_program(tree, "dnf"), find_program(tree, "yum")
    if rpm and dnf:
        return Dnf(dnf, rpm)
    return Dnf(yum, rpm, is_yum=True, name="yum") if rpm and yum else None


def changes(before: Versions, after: Versions) -> list[PackageChange]:
    """Return what is different between two lists of installed packages, by name."""
    return [
        PackageChange(name=name, before=before.get(name), after=after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def reboot_reason(tree: Tree, *, restart_advised: bool) -> str | None:
    """Return why the host has to be rebooted before all that is installed is in use, None when it need not.

    `restart_advised` is what `needs-restarting -r` says.
    """
    asked = next((path for path in ("/run", "/var/run") if tree.exists(f"{path}/reboot-required")), None)
    if asked is not None:
        packages = ", ".join(dict.fromkeys(tree.lines(f"{asked}/reboot-required.pkgs")))
        return f"asked for by {packages}" if packages else "asked for by an updated package"
    newer = newer_kernel(tree)
    if newer is not None:
        running = tree.text("/proc/sys/kernel/osrelease")
        return f"kernel {newer} is installed, {running} runs"
    return "packages that run since the boot were updated" if restart_advised else None
