"""System tags of hosts: those that users give, and those that tell what a host is."""

from __future__ import annotations

import re
import time

from kvmagent.protocol import HostFacts
from mn.facilities.tags.rules import check_addresses, check_count, check_size, register, register_inherent

CONNECTED = "ConnectedTime::{time}"

register("Host", "reservedCpu::{capacity}", "CPUs kept from VMs", check_count)
register("Host", "reservedMemory::{capacity}", "memory kept from VMs", check_size)
register("Host", "extraips::{addresses}", "further IP addresses of the host, with commas", check_addresses)

INHERENT = {
    "os::distribution::{distribution}": "distribution, as os-release has it",
    "os::release::{release}": "its code name",
    "os::version::{version}": "its version",
    "hvm::{flag}": "the processor's virtualisation, vmx or svm",
    "ept::{enabled}": "whether KVM uses nested page tables",
    "cpuModelName::{model}": "model of the processors",
    "hostCpuModelName::{model}": "model of the processors, as the kernel has it",
    "cpuGHz::{rate}": "their rated clock",
    "cpuProcessorNum::{number}": "how many the kernel sees",
    "systemProductName::{name}": "product name of the machine",
    "systemSerialNumber::{number}": "serial number of the machine",
    "libvirt::version::{version}": "version of libvirt's library",
    "iscsiInitiatorName::{name}": "name that the host logs in to iSCSI portals with",
}
for _text, _meaning in INHERENT.items():
    register_inherent("Host", _text, _meaning)
register_inherent(
    "Host", CONNECTED, "when the host was last added or reconnected, in milliseconds since 1970"
)

_RATED = re.compile(r"@\s*([\d.]+)\s*GHz")


def tags_of(facts: HostFacts) -> dict[str, str | None]:
    """Return the inherent tags of a host by their patterns, None where it does not tell."""
    return {
        "os::distribution::{distribution}": facts.distribution,
        "os::release::{release}": facts.distribution_codename,
        "os::version::{version}": facts.distribution_version,
        "hvm::{flag}": facts.virtualisation,
        "ept::{enabled}": None if facts.ept is None else str(facts.ept).lower(),
        "cpuModelName::{model}": facts.cpu_model,
        "hostCpuModelName::{model}": facts.cpu_model,
        "cpuGHz::{rate}": clock_rate(facts.cpu_model, facts.cpu_mhz),
        "cpuProcessorNum::{number}": str(facts.cpu_num),
        "systemProductName::{name}": facts.system_product,
        "systemSerialNumber::{number}": facts.system_serial,
        "libvirt::version::{version}": facts.libvirt_version,
        "iscsiInitiatorName::{name}": facts.iscsi_initiator,
    }


def connected_now() -> dict[str, str | None]:
    """Return the tag that says when a host was connected."""
    return {CONNECTED: str(int(time.time() * 1000))}


def clock_rate(model: str, mhz: float | None) -> str | None:
    """Return a processor's clock in GHz with two digits: the rated one where its model names it."""
    rated = _RATED.search(model)
    if rated:
        return f"{float(rated[1]):.2f}"
    return f"{mhz / 1000:.2f}" if mhz else None
