"""Which VMs have disks on a volume group, what they have written; their power taken, or them going on."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from kvmagent.vms.domain_xml import dashed
from kvmagent.vms.keeper import LibvirtVms


def devices_below(xml: str, folder: str) -> list[str]:
    """Return the block devices in a folder that a domain has as disks."""
    root = ET.fromstring(xml)  # noqa: S314 libvirt wrote it
    sources = (source.get("dev", "") for source in root.iterfind("devices/disk/source"))
    return [device for device in sources if device.startswith(f"{folder}/")]


async def vms_on(vms: LibvirtVms, folder: str) -> dict[str, list[str]]:
    """Return the VMs that have disks in a folder, with those."""
    found = {}
    for vm in await vms.list():
        xml = await vms.xml(vm.uuid)
        devices = devices_below(xml, folder) if xml is not None else []
        if devices:
            found[vm.uuid] = devices
    return found


async def end_vms_on(vms: LibvirtVms, folder: str) -> list[str]:
    """Take the power of the VMs that have disks in a folder; return their uuids."""
    ended = []
    for uuid in await vms_on(vms, folder):
        await vms.stop(uuid, 0)
        ended.append(uuid)
    return ended


async def written_on(vms: LibvirtVms, folder: str) -> dict[str, tuple[int, int]]:
    """Return of each disk in a folder how many bytes are written, and how large its VM sees it."""
    found: dict[str, tuple[int, int]] = {}
    for uuid, devices in (await vms_on(vms, folder)).items():
        found.update(await vms.written(dashed(uuid), devices))
    return found


async def revive_vms_on(vms: LibvirtVms, folder: str, devices: set[str]) -> list[str]:
    """Have VMs go on that wait as a disk was full, when all that they have in a folder is among `devices`."""
    found = (await vms_on(vms, folder)).items()
    return [uuid for uuid, theirs in found if devices.issuperset(theirs) and await vms.go_on(uuid)]
