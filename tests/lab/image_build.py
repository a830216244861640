"""Builds the guests' images; image.py runs it in mount and process namespaces of its own: no mount is left.

Usage: python -m tests.lab.image_build TARGET DEBS. TARGET (empty) gets fresh.qcow2, full.qcow2, vmlinux,
initrd.cpio, nested.cpio, id_lab and Packages (an index of what is installed or offered); DEBS keeps
downloaded packages for the next build.
"""

from __future__ import annotations

import concurrent.futures
import lzma
import os
import re
import shutil
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from scripts.bare_tree import apt_acquire_settings, apt_files, apt_proxy, apt_sources, apt_targets
from tests.lab import image_files as files
from tests.lab.debs import index
from tests.lab.places import LabError, run, say

DEBOOTSTRAP_TIMEOUT_S, APT_TIMEOUT_S, MKFS_TIMEOUT_S, SHORT_TIMEOUT_S = 900, 1800, 300, 120
SECTOR = 512
MBR_CODE = 440  # bytes of the first sector that are the boot loader's


class Tree:
    """A Debian system below a folder, being installed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def chroot(self, *argv: str, timeout_s: float = SHORT_TIMEOUT_S) -> str:
        """Run a command in the tree and return its output."""
        environment = [
            "LC_ALL=C",
            "DEBIAN_FRONTEND=noninteractive",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "INITRD=No",  # the kernel's installation would make one, for the better part of a minute
        ]
        return run(["env", "-i", *environment, "chroot", self.root, *argv], timeout_s)

    def write(self, contents: dict[str, str]) -> None:
        """Write files, named from the tree's root."""
        for name, content in contents.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(content)
            path.chmod(0o755 if content.startswith("#!") else 0o644)

    @property
    def kernel(self) -> str:
        """The version of the installed kernel."""
        return next(path.name for path in sorted((self.root / "lib/modules").iterdir()))

    def modules(self, names: Iterable[str]) -> list[Path]:
        """Return the files of kernel modules in the order in which they must be loaded."""
        found: dict[Path, None] = {}
        for name in names:
            argv = ("modprobe", "--set-version", self.kernel, "--show-depends", name)
            for line in self.chroot(*argv).splitlines():
                if line.startswith("insmod "):
                    found[self.root / line.split()[1].lstrip("/")] = None
        return list(found)


def bootstrap(tree: Tree, debs: Path) -> list[Path]:
    """Make the minimal system with this machine's package sources; returns what was mounted in it."""
    mirror, sources = apt_sources(apt_targets(), files.SUITE)
    cached = f"--cache-dir={debs}"
    argv: list[str | Path] = ["debootstrap", "--variant=minbase", cached, files.SUITE, tree.root]
    os.environ.update({**apt_proxy(), **os.environ})
    run([*argv, *([mirror] if mirror else [])], DEBOOTSTRAP_TIMEOUT_S)
    tree.write(files.BEFORE_PACKAGES)
    if sources:
        (tree.root / "etc/apt/sources.list").unlink(missing_ok=True)
    (tree.root / "etc/apt/apt.conf.d/98outside").write_text(apt_acquire_settings())
    for here, there in apt_files(sources):
        if here.is_file():
            (tree.root / there).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(here, tree.root / there)
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc") / name, tree.root / "etc" / name)
    (debs / "partial").mkdir(exist_ok=True)
    mounts = mount_into(tree, debs)
    tree.chroot("apt-get", "update", "-qq", timeout_s=APT_TIMEOUT_S)
    # What comes from elsewhere may be newer: guests find nothing to update but what a test offers
    tree.chroot("apt-get", "upgrade", "-y", "-qq", timeout_s=APT_TIMEOUT_S)
    return mounts


def install(tree: Tree, packages: list[str]) -> None:
    """Install packages; nothing that they bring is started."""
    keep = ("-o", "Dpkg::Options::=--force-confold")  # the configuration that is there before the package
    tree.chroot("apt-get", "install", "-y", "-qq", *keep, *packages, timeout_s=APT_TIMEOUT_S)


def libraries(tree: Tree, packages: list[str]) -> list[str]:
    """Return the libraries that installing packages would bring, without libvirt's own.

    A bare host has them: adding it took an emulated guest 14 minutes beside another lab, with them 8.
    """
    shown = tree.chroot("apt-get", "install", "--simulate", *packages, timeout_s=APT_TIMEOUT_S)
    brought = re.findall(r"^Inst (lib\S+)", shown, re.MULTILINE)
    return [name for name in brought if name not in packages and not name.startswith("libvirt")]


def file_name(package: str, version: str, architecture: str) -> str:
    """Return the name that apt keeps a package's file under."""
    return f"{package}_{version.replace(':', '%3a')}_{architecture}.deb"


def make_initrd(tree: Tree, init: str, modules: Iterable[str], target: Path) -> None:
    """Write an initial RAM disk of busybox, an init script and kernel modules."""
    folder = target.with_suffix(".d")
    for name in ("bin", "proc", "sys", "dev", "new", "m"):
        (folder / name).mkdir(parents=True)
    shutil.copy(tree.root / "bin/busybox", folder / "bin/busybox")
    paths = tree.modules(modules)
    for path in paths:
        shutil.copy(path, folder / "m" / path.name)
    (folder / "mods").write_text("".join(f"{path.name}\n" for path in paths))
    (folder / "init").write_text(init)
    (folder / "init").chmod(0o755)
    inside = tree.root / "var/tmp/initrd.d"  # cpio is the tree's busybox: this machine need not have one
    shutil.move(folder, inside)
    tree.chroot("sh", "-c", "cd /var/tmp/initrd.d && find . | busybox cpio -o -H newc >/var/tmp/initrd.cpio")
    shutil.move(tree.root / "var/tmp/initrd.cpio", target)
    shutil.rmtree(inside)


def uncompressed_kernel(image: bytes) -> bytes:
    """Return the ELF in a bzImage: booted as it is, it saves an emulated machine the decompression."""
    offset = image.find(b"\xfd7zXZ\x00")
    while offset >= 0:
        try:
            content = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(image[offset:])
        except lzma.LZMAError:
            content = b""
        if content.startswith(b"\x7fELF"):
            return content
        offset = image.find(b"\xfd7zXZ\x00", offset + 1)
    raise LabError("the kernel holds no xz-compressed ELF; the lab knows Debian's kernels only")


def install_boot_loader(tree: Tree) -> bytes:
    """Install GRUB as grub-install would, and return what belongs before the first partition."""
    grub = tree.root / "boot/grub"
    shutil.copytree(tree.root / "usr/lib/grub/i386-pc", grub / "i386-pc", dirs_exist_ok=True)
    (grub / "grub.cfg").write_text(files.grub_configuration(tree.kernel))
    argv = [
        "grub-mkimage",
        "-O",
        "i386-pc",
        "-p",
        "(hd0,msdos1)/boot/grub",
        "-o",
        "/boot/grub/i386-pc/core.img",
    ]
    tree.chroot(*argv, *files.GRUB_MODULES)
    tree.chroot("grub-editenv", "/boot/grub/grubenv", "create")
    core = (grub / "i386-pc/core.img").read_bytes()
    if SECTOR + len(core) > files.PARTITION_START:
        raise LabError(f"GRUB's core image has {len(core)} bytes, too many for the gap before the partition")
    return boot_sector((grub / "i386-pc/boot.img").read_bytes()) + core


def boot_sector(loader: bytes) -> bytes:
    """Return a master boot record with `loader` and one Linux partition over the rest of the disk."""
    begin, end = files.PARTITION_START // SECTOR, files.DISK_SIZE // SECTOR
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", begin, end - begin)
    disk_id = b"LAB\0"
    return loader[:MBR_CODE] + disk_id + b"\0\0" + entry + bytes(48) + b"\x55\xaa"


def finish(tree: Tree, target: Path) -> None:
    """Turn the tree from one that is installed into one that boots: configuration, services, log in."""
    tree.write(files.AFTER_PACKAGES)
    root = tree.root
    if units := [unit for unit in files.DISABLED if (root / "lib/systemd/system" / unit).exists()]:
        tree.chroot("systemctl", "-q", "disable", *units)
    links = dict.fromkeys((f"etc/systemd/system/{unit}" for unit in files.MASKED), "/dev/null")
    links["etc/systemd/network/99-default.link"] = "/dev/null"  # interfaces stay eth0, eth1
    for name, aim in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(aim)
    run(["chroot", root, "chpasswd", "-c", "SHA256"], SHORT_TIMEOUT_S, text=f"root:{files.ROOT_PASSWORD}\n")
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(target / "id_lab.pub", root / "root/.ssh/authorized_keys")
    (root / "root/.ssh/authorized_keys").chmod(0o600)
    for path in [*root.glob("boot/initrd.img-*"), root / "usr/sbin/policy-rc.d"]:
        path.unlink(missing_ok=True)
    shutil.copy(target / "initrd.cpio", root / f"boot/initrd.img-{tree.kernel}")
    (root / "etc/apt/apt.conf.d/98outside").unlink(missing_ok=True)
    shutil.rmtree(root / "etc/apt/sources.list.d", ignore_errors=True)
    shutil.rmtree(root / "var/lib/apt/lists")


def make_disk(tree: Tree, before_partition: bytes, image: Path) -> None:
    """Write the tree as a disk: boot loader, one ext4 partition. No loop device, no mount."""
    raw = image.with_suffix(".raw")
    with raw.open("wb") as disk:
        disk.write(before_partition)
        disk.truncate(files.DISK_SIZE)
    options = f"lazy_itable_init=1,root_owner=0:0,offset={files.PARTITION_START}"
    size = f"{(files.DISK_SIZE - files.PARTITION_START) // 1024}k"
    features = "^metadata_csum,^64bit"  # with a journal: tests cut the power of guests
    mkfs = ["mkfs.ext4", "-q", "-F", "-L", "labroot", "-O", features, "-E", options]
    run([*mkfs, "-d", tree.root, raw, size], MKFS_TIMEOUT_S)
    run(["qemu-img", "convert", "-O", "qcow2", raw, image], MKFS_TIMEOUT_S)
    raw.unlink()


def installed(tree: Tree) -> list[str]:
    """Return the file names of the packages that are installed."""
    text = tree.chroot("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Architecture}\n")
    return [file_name(*line.split("\t")) for line in text.splitlines()]


class Stages:
    """Tells the stages of a build and how long each took."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def done(self, stage: str) -> None:
        """Say that a stage is done."""
        now = time.monotonic()
        say(f"{now - self._begin:6.1f} s  {stage}")
        self._begin = now


def mount_into(tree: Tree, debs: Path) -> list[Path]:
    """Mount what installing needs, and return the mount points."""
    proc, archives = tree.root / "proc", tree.root / "var/cache/apt/archives"
    run(["mount", "-t", "proc", "proc", proc], SHORT_TIMEOUT_S)
    run(["mount", "--bind", debs, archives], SHORT_TIMEOUT_S)
    return [proc, archives]


def make_image(tree: Tree, target: Path, name: str) -> None:
    """Make a bootable disk of an installed tree, and remove the tree."""
    finish(tree, target)
    make_disk(tree, install_boot_loader(tree), target / f"{name}.qcow2")
    shutil.rmtree(tree.root)


def build(target: Path, debs: Path) -> None:
    """Build an image set; the bare host's disk is made while the other packages are installed."""
    stages = Stages()
    tree, fresh = Tree(target / "tree"), Tree(target / "tree-fresh")
    run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", target / "id_lab"], SHORT_TIMEOUT_S
    )
    mounts = bootstrap(tree, debs)
    stages.done("debootstrap")
    install(tree, files.packages("fresh"))
    install(tree, libraries(tree, files.packages("full")))
    stages.done("packages of a bare host")
    make_initrd(tree, files.INIT, files.BOOT_MODULES, target / "initrd.cpio")
    make_initrd(tree, files.NESTED_INIT, files.NESTED_MODULES, target / "nested.cpio")
    kernel = (tree.root / f"boot/vmlinuz-{tree.kernel}").read_bytes()
    (target / "vmlinux").write_bytes(uncompressed_kernel(kernel))
    run(["cp", "-ax", tree.root, fresh.root], SHORT_TIMEOUT_S)
    stages.done("kernel, initial RAM disks, copy of the tree")
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        first = beside.submit(make_image, fresh, target, "fresh")
        install(tree, files.packages("full"))
        stages.done("packages of a KVM host and a storage server")
        first.result()
    names = installed(tree)
    for mount in mounts:
        run(["umount", mount], SHORT_TIMEOUT_S)
    tree.write({"etc/multipath.conf": files.MULTIPATH})
    nested = {"vmlinuz": tree.root / f"boot/vmlinuz-{tree.kernel}", "nested.cpio": target / "nested.cpio"}
    (tree.root / "var/lib/lab").mkdir()
    for name, path in nested.items():
        shutil.copy(path, tree.root / "var/lib/lab" / name)
    make_image(tree, target, "full")
    present = [debs / name for name in names if (debs / name).exists()]
    (target / "Packages").write_text(index(present))
    stages.done("disks")


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]), Path(sys.argv[2]))
    except LabError as error:
        sys.exit(f"lab: {error}")
