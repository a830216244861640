"""The guests as QEMU command lines: who has which devices. Pure; nothing is started here."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.lab.image import ImageSet
from tests.lab.image_files import KERNEL_ARGUMENTS, ROOT_DEVICE
from tests.lab.network import BRIDGES, address, tap

UUIDS = uuid.UUID("6c61622d-6861-7264-706f-696e74000000")  # name space of the guests' machine ids
USB_SIZE = "64M"
NVME_SIZE = "64M"
LUN_SIZE = "4G"
# Emulated, a string instruction takes a step for each byte that it moves, and SMAP two for each copy from a
# program: without them a guest boots and runs Python in four fifths of the time
CPU = "max,erms=off,smap=off"
IOMMU = "intel-iommu,intremap=on,caching-mode=on"


@dataclass(frozen=True)
class Role:
    """A guest that the lab knows. `disks` are further disks, by name, with their sizes."""

    name: str
    number: int  # last byte of its addresses
    image: str
    memory_mb: int
    devices: tuple[str, ...] = ()
    disks: tuple[tuple[str, str], ...] = ()
    iommu: bool = False
    cpus: int = 1  # two of an emulated guest wait for each other when the cores have other work

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, one on each bridge."""
        return tuple(address(bridge, self.number) for bridge in BRIDGES)

    @property
    def machine_id(self) -> uuid.UUID:
        """The same at each boot, other than any other guest's."""
        return uuid.uuid5(UUIDS, self.name)


# Each root port is an IOMMU group of its own; 6 to 8 are free for
# hot-plugging by tests, 2 and 3 for what a snapshot cannot hold (Guest.plug_spares).
_KVM1 = (
    *(f"pcie-root-port,id=rp{n},bus=pcie.0,chassis={n},slot={n}" for n in range(1, 9)),
    "e1000e,bus=rp1,netdev=spare,mac=52:54:00:99:0e:01",
    "VGA,bus=rp4,addr=0.0,multifunction=on",  # with the next one: a graphics card and its sound, one group
    "intel-hda,bus=rp4,addr=0.1,id=hda0",
    "hda-duplex,bus=hda0.0,audiodev=quiet",
    "bochs-display,bus=rp5",
    "qemu-xhci,id=xhci,p2=8,p3=8",
    "usb-storage,bus=xhci.0,port=1,drive=usb,serial=LABUSB1",
    "usb-tablet,bus=xhci.0,port=2",
    "usb-hub,bus=xhci.0,port=4",
    "usb-mouse,bus=xhci.0,port=4.1",
    "i6300esb",
)
_KVM2 = (
    *(f"pcie-root-port,id=rp{n},bus=pcie.0,chassis={n},slot={n}" for n in range(1, 5)),
    "e1000e,bus=rp1,netdev=spare,mac=52:54:00:99:0e:02",
    "qemu-xhci,id=xhci,p2=8,p3=8",
)

ROLES = {
    role.name: role
    for role in (
        Role("kvm1", 11, "full", 3072, _KVM1, disks=(("usb", USB_SIZE), ("nvme", NVME_SIZE)), iommu=True),
        Role("kvm2", 12, "full", 2048, _KVM2, iommu=True),
        Role("san", 13, "full", 1536, ("virtio-blk-pci,drive=lun,serial=LUNS",), disks=(("lun", LUN_SIZE),)),
        Role("fresh", 14, "fresh", 1536),
        Role("fresh2", 15, "fresh", 1536),
    )
}

SRIOV_NVME = (
    "nvme,id=nvme0,bus=rp2,serial=LABNVME1,subsys=subsystem,sriov_max_vfs=4,"
    "sriov_vq_flexible=8,sriov_vi_flexible=4"
)

DIRECT, GRUB = "direct", "grub"


@dataclass(frozen=True)
class Start:
    """How a guest is started.

    `loader` DIRECT: QEMU loads the kernel, IOMMU on. GRUB: the guest's own boot loader does, from its
    /boot/grub/grub.cfg, as on a real machine. `sriov`: the NVMe has virtual functions (and no snapshot can be
    taken). `moved`: its network card is in another slot. `incoming`: it waits for the state of a snapshot.
    """

    loader: str = DIRECT
    sriov: bool = False
    moved: bool = False
    incoming: bool = False


def quoted(value: str | Path) -> str:
    """Return a value as it must be written in an option of QEMU: commas doubled."""
    return str(value).replace(",", ",,")


def smbios(role: Role) -> str:
    """Return the system table that tells the guest who it is; read by the initial RAM disk."""
    addresses = "_".join(f"{one}/24" for one in role.addresses)
    fields = {
        "manufacturer": "Hardpoint",
        "product": "Lab guest",
        "version": "1",
        "serial": role.name,
        "sku": addresses,
        "family": "lab",
        "uuid": str(role.machine_id),
    }
    return ",".join(["type=1", *(f"{key}={quoted(value)}" for key, value in fields.items())])


def kernel_arguments() -> str:
    """Return the kernel command line of a guest that starts without its boot loader."""
    return f"root={ROOT_DEVICE} rw {KERNEL_ARGUMENTS} intel_iommu=on quiet"


def _boot(images: ImageSet, start: Start) -> list[str]:
    if start.loader == GRUB:
        return []
    files = ["-kernel", str(images.kernel), "-initrd", str(images.initrd)]
    return [*files, "-append", kernel_arguments()]


def _disks(role: Role, folder: Path, start: Start) -> list[str]:
    """The root disk and the backends of the others. A boot index beside -kernel is an error to QEMU."""
    root = quoted(folder / "root.qcow2")
    argv = ["-drive", f"if=none,id=root,file={root},format=qcow2,cache=unsafe,discard=unmap"]
    argv += ["-device", "virtio-blk-pci,drive=root" + (",bootindex=0" if start.loader == GRUB else "")]
    for name, _ in role.disks:
        if name == "nvme" and not start.sriov:
            continue  # plugged when it runs
        path = quoted(folder / f"{name}.qcow2")
        argv += ["-drive", f"if=none,id={name},file={path},format=qcow2,cache=unsafe"]
    return argv


def _networks(role: Role) -> list[str]:
    argv = []
    for bridge in BRIDGES:
        interface, mac = tap(role.name, bridge), f"52:54:00:99:{bridge:02x}:{role.number:02x}"
        argv += ["-netdev", f"tap,id=net{bridge},ifname={interface},script=no,downscript=no"]
        argv += ["-device", f"virtio-net-pci,id=nic{bridge},netdev=net{bridge},mac={mac}"]
    if any("netdev=spare" in device for device in role.devices):
        argv += ["-netdev", "user,id=spare,restrict=on"]
    return argv


def _devices(role: Role, start: Start) -> list[str]:
    devices = list(role.devices)
    if start.moved:
        devices = [device.replace("e1000e,bus=rp1", "e1000e,bus=rp6") for device in devices]
    if start.sriov:
        devices += [
            "nvme-subsys,id=subsystem",
            SRIOV_NVME,
            "nvme-ns,drive=nvme,bus=nvme0,nsid=1",
        ]
    return [word for device in devices for word in ("-device", device)]


def command_line(role: Role, images: ImageSet, folder: Path, start: Start) -> list[str]:
    """Return the argv of QEMU for a guest whose disks, sockets and console are in `folder`."""
    argv = ["qemu-system-x86_64", "-name", role.name, "-nodefaults", "-display", "none", "-M", "q35"]
    argv += ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", CPU, "-smp", str(role.cpus)]
    argv += ["-global", "ICH9-LPC.noreboot=false"]  # else the chipset's watchdog ends in nothing
    argv += ["-m", str(role.memory_mb), "-smbios", smbios(role), *_boot(images, start)]
    argv += ["-chardev", f"file,id=console,path={quoted(folder / 'console.log')},append=on"]
    argv += ["-serial", "chardev:console", "-qmp", f"unix:{quoted(folder / 'qmp')},server=on,wait=off"]
    if role.iommu:
        argv += ["-device", IOMMU]  # has to be the first device
    argv += _disks(role, folder, start)
    argv += ["-audiodev", "none,id=quiet", *_networks(role), "-device", "virtio-rng-pci"]
    argv += _devices(role, start)
    if start.incoming:
        argv += ["-incoming", "defer"]
    return argv
