"""What a machine is: processor, memory, distribution, maker, and whether it can run KVM."""

from __future__ import annotations

import os
import re

from kvmagent.machine.iommu import ACTIVE, iommu_status
from kvmagent.machine.tree import Tree
from kvmagent.protocol import HostFacts

KIB = 1024
DMI = "/sys/class/dmi/id"
CPUS = "/sys/devices/system/cpu"
LIBRARIES = ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
_CPU = re.compile(r"cpu\d+")
_PLACEHOLDERS = frozenset(
    {
        "to be filled by o.e.m.",
        "default string",
        "not specified",
        "not applicable",
        "system serial number",
        "system product name",
        "system manufacturer",
        "none",
        "n/a",
        "unknown",
        "0123456789",
    }
)

CpuInfo = list[dict[str, str]]
"""/proc/cpuinfo: a mapping for each of its paragraphs."""


def no_facts() -> HostFacts:
    """Return facts that say nothing, for an inventory that was not asked for them."""
    return HostFacts(
        hostname="",
        machine_id=None,
        boot_id=None,
        architecture="",
        kernel="",
        distribution="",
        distribution_version="",
        distribution_name="",
        cpu_model="",
        cpu_vendor="",
        cpu_num=0,
        cpu_sockets=0,
        cpu_cores=0,
        cpu_mhz=None,
        memory_bytes=0,
        virtualisation=None,
        kvm=False,
        iommu=False,
        system_vendor=None,
        system_product=None,
        system_serial=None,
    )


def read_facts(tree: Tree) -> HostFacts:
    """Return what the machine is; `iommu` says that its IOMMU status is Active."""
    cpus = parse_cpuinfo(tree.text("/proc/cpuinfo") or "")
    first = cpus[0] if cpus else {}
    vendor = _vendor(first)
    release = os_release(tree.text("/etc/os-release") or tree.text("/usr/lib/os-release") or "")
    sockets, cores = _topology(tree, cpus)
    return HostFacts(
        hostname=_hostname(tree),
        machine_id=tree.text("/etc/machine-id") or tree.text("/var/lib/dbus/machine-id"),
        boot_id=tree.text("/proc/sys/kernel/random/boot_id"),
        architecture=_architecture(tree, first),
        kernel=_kernel(tree),
        distribution=release.get("ID", ""),
        distribution_version=release.get("VERSION_ID", ""),
        distribution_name=release.get("PRETTY_NAME") or release.get("NAME", ""),
        cpu_model=" ".join((first.get("model name") or first.get("Model") or "").split()),
        cpu_vendor=vendor,
        cpu_num=len(cpus),
        cpu_sockets=sockets,
        cpu_cores=cores,
        cpu_mhz=_mhz(tree, first),
        memory_bytes=memory_bytes(tree.text("/proc/meminfo") or ""),
        virtualisation=virtualisation(first.get("flags", "")),
        kvm=tree.exists("/dev/kvm"),
        iommu=iommu_status(tree, vendor) == ACTIVE,
        system_vendor=_dmi(tree, "sys_vendor"),
        system_product=_dmi(tree, "product_name"),
        system_serial=_dmi(tree, "product_serial"),
        distribution_codename=release.get("VERSION_CODENAME") or None,
        ept=_nested_pages(tree),
        libvirt_version=_libvirt(tree),
        iscsi_initiator=initiator_name(tree.text("/etc/iscsi/initiatorname.iscsi") or ""),
    )


def cpu_vendor(tree: Tree) -> str:
    """Return the processor's maker as the kernel names it, empty when it does not."""
    return _vendor(next(iter(parse_cpuinfo(tree.text("/proc/cpuinfo") or "")), {}))


def parse_cpuinfo(text: str) -> CpuInfo:
    """Return a mapping for each processor of /proc/cpuinfo; a paragraph about the machine is left out."""
    found = []
    for paragraph in text.split("\n\n"):
        pairs = (line.partition(":") for line in paragraph.splitlines())
        fields = {key.strip(): value.strip() for key, _, value in pairs}
        if "processor" in fields:
            found.append(fields)
    return found


def virtualisation(flags: str) -> str | None:
    """Return which virtualisation a processor's flags have: `vmx` or `svm`."""
    words = set(flags.split())
    return next((flag for flag in ("vmx", "svm") if flag in words), None)


def memory_bytes(meminfo: str) -> int:
    """Return the memory that /proc/meminfo says, 0 when it does not."""
    match = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) * KIB if match else 0


def os_release(text: str) -> dict[str, str]:
    """Return the fields of os-release(5), quotes taken off."""
    pairs = (line.strip().partition("=") for line in text.splitlines())
    return {key: value.strip("\"'") for key, sign, value in pairs if sign and not key.startswith("#")}


def _vendor(cpu: dict[str, str]) -> str:
    return cpu.get("vendor_id") or cpu.get("CPU implementer") or ""


def initiator_name(text: str) -> str | None:
    """Return the name of open-iscsi's `initiatorname.iscsi`."""
    match = re.search(r"^\s*InitiatorName\s*=\s*(\S+)", text, re.MULTILINE)
    return match[1] if match else None


def libvirt_version(file: str) -> str | None:
    """Return the version that the name of the library has: `libvirt.so.0.9004.1` is 9.4.1."""
    match = re.fullmatch(r"libvirt\.so\.0\.(\d+)\.(\d+)", file)
    return f"{int(match[1]) // 1000}.{int(match[1]) % 1000}.{match[2]}" if match else None


def _libvirt(tree: Tree) -> str | None:
    names = (tree.link_name(f"{folder}/libvirt.so.0") for folder in LIBRARIES)
    return next((version for name in names if name and (version := libvirt_version(name))), None)


def _nested_pages(tree: Tree) -> bool | None:
    for parameter in ("kvm_intel/parameters/ept", "kvm_amd/parameters/npt"):
        value = tree.text(f"/sys/module/{parameter}")
        if value:
            return value in ("Y", "1")
    return None


def _topology(tree: Tree, cpus: CpuInfo) -> tuple[int, int]:
    """Return sockets and cores, from sysfs, else from cpuinfo, else one of each for every processor."""
    sockets, cores = set(), set()
    for name in tree.names(CPUS):
        place = f"{CPUS}/{name}/topology"
        package = tree.int(f"{place}/physical_package_id") if _CPU.fullmatch(name) else None
        if package is not None:
            sockets.add(package)
            cores.add((package, tree.int(f"{place}/die_id"), tree.int(f"{place}/core_id")))
    if cores:
        return len(sockets), len(cores)
    known = [(cpu["physical id"], cpu.get("core id")) for cpu in cpus if "physical id" in cpu]
    if known:
        return len({package for package, _ in known}), len(set(known))
    return min(1, len(cpus)), len(cpus)


def _mhz(tree: Tree, first: dict[str, str]) -> float | None:
    try:
        return float(first["cpu MHz"])
    except (KeyError, ValueError):
        highest = tree.int(f"{CPUS}/cpu0/cpufreq/cpuinfo_max_freq")
        return highest / 1000 if highest else None


def _architecture(tree: Tree, first: dict[str, str]) -> str:
    if tree.live:
        return os.uname().machine
    named = tree.text("/proc/sys/kernel/arch")
    if named:
        return named
    if "lm" in first.get("flags", "").split():
        return "x86_64"
    if first.get("CPU architecture") == "8":
        return "aarch64"
    return "unknown"


def _kernel(tree: Tree) -> str:
    named = tree.text("/proc/sys/kernel/osrelease")
    if named:
        return named
    if tree.live:
        return os.uname().release
    words = (tree.text("/proc/version") or "").split()
    return words[2] if len(words) > 2 else ""


def _hostname(tree: Tree) -> str:
    named = tree.text("/proc/sys/kernel/hostname") or tree.text("/etc/hostname")
    return named or (os.uname().nodename if tree.live else "")


def _dmi(tree: Tree, name: str) -> str | None:
    value = tree.text(f"{DMI}/{name}")
    return value if value and value.lower() not in _PLACEHOLDERS and value.strip("0. ") else None
