"""What to write and to run so that the next boot has the IOMMU, or has what it had before."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from agentkit.errors import Blame, HardpointError
from kvmagent.host_iommu.loaders import (
    DEFAULTS,
    DROP_IN,
    KERNEL_LINE,
    Loader,
    configured_line,
    entries,
    find_loader,
    menu,
)
from kvmagent.machine.iommu import asked_for
from kvmagent.machine.kernels import installed_kernels
from kvmagent.machine.programs import find_program
from kvmagent.machine.tree import Tree

MODULES = "/etc/modules-load.d/hardpoint-vfio.conf"
_BEGIN, _END = "# Hardpoint, IOMMU: begin", "# Hardpoint, IOMMU: end"
_BLOCK = re.compile(rf"^{_BEGIN}$.*?^{_END}$\n?", re.MULTILINE | re.DOTALL)
_NOT_OF_THE_KERNEL = ("BOOT_IMAGE=", "initrd=")


class Memory(msgspec.Struct, rename="camel"):
    """What is remembered on disk while the IOMMU is enabled: how shared files were before and after.

    `added` says that the option was put into the kernels' entries; `pending` that a change has begun and is
    not known to have ended.
    """

    before: dict[str, str | None] = msgspec.field(default_factory=dict)
    after: dict[str, str] = msgspec.field(default_factory=dict)
    added: bool = False
    pending: bool = False


@dataclass(frozen=True)
class Plan:
    """`files` maps paths to their new content (None: removed); argv lists begin with a path of the machine.

    `commands` make the loader take up the files, `back` does so after they have been given back. One file of
    `proof` has to hold `word` afterwards (no file: nothing to look at).
    """

    files: dict[str, str | None] = field(default_factory=dict)
    commands: tuple[tuple[str, ...], ...] = ()
    back: tuple[tuple[str, ...], ...] = ()
    word: str = ""
    proof: tuple[str, ...] = ()
    added: bool = False


def plan_enable(tree: Tree, option: str | None, memory: Memory) -> Plan:
    """Return what enables the IOMMU from the next boot on; nothing in it when all is in place.

    Raises HardpointError (SYS.1014) when the boot loader is not known.
    """
    files: dict[str, str | None] = {MODULES: _MODULES_TEXT}
    if option is None:
        return Plan(_different(tree, files))
    word = f"{option}=on"
    loader = _known(tree, word)
    settled = asked_for(configured_line(tree, loader), option) and not memory.pending
    if settled:
        return Plan(_different(tree, files))
    if loader is Loader.GRUB_ENTRIES:
        grubby = (_program(tree, "grubby"), "--update-kernel=ALL")
        add, remove = (*grubby, f"--args={word}"), (*grubby, f"--remove-args={word}")
        return Plan(_different(tree, files), (add,), (remove,), word, tuple(entries(tree)), added=True)
    if loader is Loader.SYSTEMD_BOOT:
        files[KERNEL_LINE] = _with_word(_kernel_line(tree), word, option)
        renew = _renew_entries(tree)
        return Plan(_different(tree, files), renew, renew, word, tuple(entries(tree)))
    line = f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {word}"\n'
    if loader is Loader.GRUB_DROP_IN:
        files[DROP_IN] = f"# Written by Hardpoint while the host's IOMMU is enabled.\n{line}"
    else:
        files[DEFAULTS] = _with_block(_content(tree, DEFAULTS) or "", line)
    remake, made = _remake_menu(tree)
    return Plan(_different(tree, files), remake, remake, word, made)


def plan_disable(tree: Tree, option: str | None, memory: Memory) -> Plan:
    """Return what takes away all that was written here; what an administrator wrote stays."""
    files: dict[str, str | None] = {MODULES: None}
    loader = find_loader(tree)
    if option is None or loader is None:
        return Plan(_different(tree, files))
    word = f"{option}=on"
    if loader is Loader.GRUB_ENTRIES:
        grubby = (_program(tree, "grubby"), "--update-kernel=ALL")
        remove, add = (*grubby, f"--remove-args={word}"), (*grubby, f"--args={word}")
        if not memory.added:
            return Plan(_different(tree, files))
        return Plan(_different(tree, files), (remove,), (add,))
    if loader is Loader.SYSTEMD_BOOT:
        if KERNEL_LINE in memory.before:
            now = _content(tree, KERNEL_LINE)
            same = now == memory.after.get(KERNEL_LINE)
            files[KERNEL_LINE] = memory.before[KERNEL_LINE] if same else _without_word(now, word)
        commands = _renew_entries(tree)
    else:
        files[DROP_IN] = None
        now = _content(tree, DEFAULTS)
        if now is not None:
            same = DEFAULTS in memory.before and now == memory.after.get(DEFAULTS)
            files[DEFAULTS] = memory.before[DEFAULTS] if same else _BLOCK.sub("", now)
        commands, _ = _remake_menu(tree)
    changed = _different(tree, files)
    needed = memory.pending or bool(changed.keys() - {MODULES})
    return Plan(changed, commands if needed else (), commands if needed else ())


_MODULES_TEXT = "# Written by Hardpoint while the host's IOMMU is enabled.\nvfio\nvfio-pci\n"


def _known(tree: Tree, word: str) -> Loader:
    loader = find_loader(tree)
    if loader is None:
        raise HardpointError(
            "SYS.1014",
            "Not supported",
            "the host has neither GRUB nor systemd-boot with tools to configure them, so its kernel command "
            "line cannot be changed from here",
            remedy=f"put {word} on the kernel command line by hand and reboot; the status is Active then",
            blame=Blame.CALLER,
        )
    return loader


def _program(tree: Tree, *names: str) -> str:
    found = find_program(tree, *names)
    if found is None:
        raise HardpointError(
            "SYS.1014",
            "Not supported",
            f"the host has no {' or '.join(names)}, which its boot loader is configured with",
            remedy="install it, or change the kernel command line by hand",
            blame=Blame.CALLER,
        )
    return found


def _remake_menu(tree: Tree) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Return the commands that generate GRUB's menu from its settings, and the menu's file."""
    made = menu(tree)
    update = find_program(tree, "update-grub")
    if update is not None:
        return ((update,),), (made,) if made else ()
    made = made or "/boot/grub/grub.cfg"
    return ((_program(tree, "grub-mkconfig", "grub2-mkconfig"), "-o", made),), (made,)


def _renew_entries(tree: Tree) -> tuple[tuple[str, ...], ...]:
    """Return the commands that write the entries of all installed kernels anew."""
    install = _program(tree, "kernel-install")
    return tuple((install, "add", version, image) for version, image in installed_kernels(tree))


def _kernel_line(tree: Tree) -> str:
    """Return the line for new kernels: without a file of its own, kernel-install takes the running one's."""
    configured = _content(tree, KERNEL_LINE)
    if configured is not None:
        return configured
    running = (tree.text("/proc/cmdline") or "").split()
    return " ".join(word for word in running if not word.startswith(_NOT_OF_THE_KERNEL)) + "\n"


def _with_word(line: str, word: str, option: str) -> str:
    return line if asked_for(line, option) else f"{line.rstrip()} {word}".lstrip() + "\n"


def _without_word(line: str | None, word: str) -> str | None:
    if line is None or word not in line.split():
        return line
    return " ".join(other for other in line.split() if other != word) + "\n"


def _with_block(text: str, line: str) -> str:
    kept = _BLOCK.sub("", text)
    end = "" if not kept or kept.endswith("\n") else "\n"
    return f"{kept}{end}{_BEGIN}\n{line}{_END}\n"


def _content(tree: Tree, path: str) -> str | None:
    """Return a file's text as it is, None when there is none."""
    raw = tree.bytes(path)
    return None if raw is None else raw.decode("utf-8", "surrogateescape")


def _different(tree: Tree, files: dict[str, str | None]) -> dict[str, str | None]:
    return {path: text for path, text in files.items() if _content(tree, path) != text}
