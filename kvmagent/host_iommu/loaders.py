"""Which boot loader a machine has, and how its kernel command line is changed so that it can be changed back.

Three ways through GRUB, by what the machine has: a drop-in file where its `grub-mkconfig` reads drop-ins
(Debian, Ubuntu), `grubby` where each kernel has an entry of its own (RHEL and its kin), else a marked block
in `/etc/default/grub` (openEuler). systemd-boot takes the line from `/etc/kernel/cmdline`.
"""

from __future__ import annotations

import re
from enum import StrEnum

from kvmagent.machine.programs import find_program
from kvmagent.machine.tree import Tree

DEFAULTS = "/etc/default/grub"
DROP_INS = "/etc/default/grub.d"
DROP_IN = f"{DROP_INS}/90-hardpoint-iommu.cfg"
KERNEL_LINE = "/etc/kernel/cmdline"
ENTRIES = ("/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries")
_LOADER_CONF = ("/boot/loader/loader.conf", "/efi/loader/loader.conf", "/boot/efi/loader/loader.conf")
_READS_DROP_INS = "/default/grub.d/*.cfg"
"""What grub-mkconfig has in it where it reads drop-ins; before it stands /etc or a variable for it."""
_LOADER_INFO = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_MENUS = ("/boot/grub2/grub.cfg", "/boot/grub/grub.cfg")
_MENU_LINKS = ("/etc/grub2.cfg", "/etc/grub2-efi.cfg", "/etc/grub.cfg", "/etc/grub-efi.cfg")
_GRUB_LINE = re.compile(r"^\s*GRUB_CMDLINE_LINUX(?:_DEFAULT)?=(.*)$", re.MULTILINE)


class Loader(StrEnum):
    """How a machine's kernel command line is changed."""

    GRUB_DROP_IN = "GRUB with drop-in files"
    GRUB_ENTRIES = "GRUB with an entry for each kernel"
    GRUB_DEFAULTS = "GRUB"
    SYSTEMD_BOOT = "systemd-boot"


def find_loader(tree: Tree) -> Loader | None:
    """Return how the machine boots, None when it is by none of the known ways."""
    if _runs_systemd_boot(tree):
        return Loader.SYSTEMD_BOOT
    mkconfig = find_program(tree, "grub-mkconfig", "grub2-mkconfig")
    if mkconfig and _READS_DROP_INS in (tree.text(mkconfig) or ""):
        return Loader.GRUB_DROP_IN
    if find_program(tree, "grubby") and "GRUB_ENABLE_BLSCFG=true" in _settings(tree) and entries(tree):
        return Loader.GRUB_ENTRIES
    if mkconfig and tree.exists(DEFAULTS) and menu(tree):
        return Loader.GRUB_DEFAULTS
    has_conf = any(tree.exists(path) for path in _LOADER_CONF)
    return Loader.SYSTEMD_BOOT if has_conf and find_program(tree, "kernel-install") else None


def configured_line(tree: Tree, loader: Loader) -> str:
    """Return the options that all kernels get at the next boot, as far as the loader's settings say."""
    if loader is Loader.SYSTEMD_BOOT:
        return tree.text(KERNEL_LINE) or ""
    if loader is Loader.GRUB_ENTRIES:
        lines = [_entry_options(tree, path) for path in entries(tree)]
        common = set.intersection(*(set(line.split()) for line in lines)) if lines else set()
        return " ".join(word for word in lines[0].split() if word in common) if lines else ""
    texts = [tree.text(DEFAULTS) or ""]
    if loader is Loader.GRUB_DROP_IN:
        names = [name for name in tree.names(DROP_INS) if name.endswith(".cfg")]
        texts += [tree.text(f"{DROP_INS}/{name}") or "" for name in names]
    found = [match[1] for text in texts for match in _GRUB_LINE.finditer(text)]
    return " ".join(found).replace('"', " ").replace("'", " ")


def entries(tree: Tree) -> list[str]:
    """Return the files that describe one bootable kernel each."""
    return [f"{place}/{name}" for place in ENTRIES for name in tree.names(place) if name.endswith(".conf")]


def menu(tree: Tree) -> str | None:
    """Return the file that GRUB's menu is generated into, None when there is none."""
    for link in _MENU_LINKS:
        target = tree.resolve(link)
        if target and target != link and tree.exists(target) and not _is_pointer(tree, target):
            return target
    return next((path for path in _MENUS if tree.exists(path)), None)


def _runs_systemd_boot(tree: Tree) -> bool:
    """Say whether the loader that started the machine left its name, and it is systemd-boot's."""
    left = tree.bytes(_LOADER_INFO) or b""
    return "systemd-boot" in left[4:].decode("utf-16-le", "replace")


def _settings(tree: Tree) -> str:
    return (tree.text(DEFAULTS) or "").replace('"', "").replace("'", "")


def _entry_options(tree: Tree, path: str) -> str:
    lines = [line.partition(" ")[2] for line in tree.lines(path) if line.startswith("options ")]
    return " ".join(lines)


def _is_pointer(tree: Tree, path: str) -> bool:
    """Say whether a menu only hands over to another file, as those on EFI partitions often do."""
    text = tree.text(path) or ""
    return "configfile" in text and "menuentry" not in text
