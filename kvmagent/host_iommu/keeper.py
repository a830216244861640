"""Carries out the plans for the IOMMU: files, then the loader's tools; a failure gives all back."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from agentkit.errors import HardpointError
from agentkit.files import remove_durably, write_durably
from agentkit.runner import Runner
from kvmagent.host_iommu.loaders import configured_line, find_loader
from kvmagent.host_iommu.plan import Memory, Plan, plan_disable, plan_enable
from kvmagent.machine.facts import cpu_vendor
from kvmagent.machine.iommu import asked_for, iommu_option, iommu_status
from kvmagent.machine.programs import below_root, find_program
from kvmagent.machine.tree import Tree
from kvmagent.protocol import IommuReport

log = logging.getLogger(__name__)

MEMORY_FILE = "iommu.json"
LOADER_TIMEOUT_S = 900.0
"""Generating a menu looks at every disk; writing entries may build an initial RAM disk for each kernel."""
MODPROBE_TIMEOUT_S = 30.0
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


class IommuKeeper:
    """Reads and changes the IOMMU of the machine below `root`."""

    def __init__(self, root: Path, state_dir: Path, runner: Runner) -> None:
        self._root = root
        self._memory_file = state_dir / MEMORY_FILE
        self._runner = runner
        self._changing = asyncio.Lock()

    async def report(self) -> IommuReport:
        """Return what the running kernel has and what the next one will be asked for."""
        return await asyncio.to_thread(self._read)

    async def set(self, *, enabled: bool) -> IommuReport:
        """Enable the IOMMU from the next boot on, or take away what enabling it wrote.

        Raises HardpointError, with everything as it was: SYS.1014 for a boot loader that is not known,
        SYS.1006 for a tool of the loader that failed or had no effect.
        """
        async with self._changing:
            tree, memory = await asyncio.to_thread(self._look)
            option = iommu_option(tree, cpu_vendor(tree))
            plan = (plan_enable if enabled else plan_disable)(tree, option, memory)
            if plan.files or plan.commands:
                await self._carry_out(tree, plan, memory)
            if enabled:
                await self._load_modules(tree)
            await asyncio.to_thread(self._settle, tree, memory, enabled=enabled)
        return await self.report()

    def _look(self) -> tuple[Tree, Memory]:
        return Tree(self._root), self._load()

    def _read(self) -> IommuReport:
        tree = Tree(self._root)
        vendor = cpu_vendor(tree)
        option, loader = iommu_option(tree, vendor), find_loader(tree)
        running = option is None or asked_for(tree.text("/proc/cmdline") or "", option)
        configured = running
        if option is not None and loader is not None:
            configured = asked_for(configured_line(tree, loader), option)
        return IommuReport(
            status=iommu_status(tree, vendor),
            option=f"{option}=on" if option else None,
            configured=configured,
            reboot_needed=configured != running,
            loader=loader,
        )

    async def _carry_out(self, tree: Tree, plan: Plan, memory: Memory) -> None:
        before = {path: _text(tree, path) for path in plan.files}
        started = Memory(
            {**before, **memory.before}, dict(memory.after), memory.added or plan.added, pending=True
        )
        started.after |= {path: text for path, text in plan.files.items() if text is not None}
        await asyncio.to_thread(self._save, started)
        try:
            await asyncio.to_thread(_write_all, tree, plan.files)
            await self._run_all(tree, plan.commands)
            await asyncio.to_thread(_check, Tree(self._root), plan)
        except (HardpointError, OSError) as error:
            log.warning("the IOMMU's change failed and is given back", extra={"reason": str(error)})
            await self._give_back(tree, plan, before)
            await asyncio.to_thread(self._save, memory)
            if isinstance(error, OSError):
                raise _unwritable(error) from error
            raise
        memory.before, memory.after, memory.added = started.before, started.after, started.added

    async def _give_back(self, tree: Tree, plan: Plan, before: dict[str, str | None]) -> None:
        try:
            await asyncio.to_thread(_write_all, tree, before)
            await self._run_all(tree, plan.back)
        except (HardpointError, OSError) as error:
            log.error("not all could be given back", extra={"reason": str(error)})  # noqa: TRY400

    async def _run_all(self, tree: Tree, commands: tuple[tuple[str, ...], ...]) -> None:
        for program, *words in commands:
            argv = [below_root(tree, program), *words]
            environment = {} if tree.live else {"HARDPOINT_ROOT": tree.root}
            completed = await self._runner.run(argv, timeout_s=LOADER_TIMEOUT_S, env=environment)
            completed.check()

    async def _load_modules(self, tree: Tree) -> None:
        """Load the drivers for passed-through devices now; they are built in where there is no module."""
        program = find_program(tree, "modprobe")
        if program is None:
            return
        try:
            argv = [below_root(tree, program), "--all", "vfio", "vfio-pci"]
            (await self._runner.run(argv, timeout_s=MODPROBE_TIMEOUT_S)).check()
        except HardpointError as error:
            log.warning("vfio is not loaded", extra={"reason": error.details})

    def _settle(self, tree: Tree, memory: Memory, *, enabled: bool) -> None:
        if enabled:
            memory.pending = False
            self._save(memory)
        else:
            remove_durably(self._memory_file)

    def _load(self) -> Memory:
        try:
            return msgspec.json.decode(self._memory_file.read_bytes(), type=Memory)
        except FileNotFoundError:
            return Memory()
        except (msgspec.DecodeError, OSError) as error:
            log.warning("what was before is not known", extra={"reason": str(error)})
            return Memory()

    def _save(self, memory: Memory) -> None:
        self._memory_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._memory_file, msgspec.json.encode(memory))


def _text(tree: Tree, path: str) -> str | None:
    raw = tree.bytes(path)
    return None if raw is None else raw.decode("utf-8", "surrogateescape")


def _write_all(tree: Tree, files: dict[str, str | None]) -> None:
    for path, text in files.items():
        file = Path(below_root(tree, tree.resolve(path) or path))
        if text is None:
            if file.parent.is_dir():
                remove_durably(file)
            continue
        _make_folder(file.parent)
        mode = file.stat().st_mode & 0o777 if file.exists() else _FILE_MODE
        write_durably(file, text.encode("utf-8", "surrogateescape"), mode=mode)
        file.chmod(mode)


def _make_folder(folder: Path) -> None:
    """Make a folder with those above it, readable for all as its neighbours are: the agent's umask is not."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir()
        folder.chmod(_FOLDER_MODE)


def _check(tree: Tree, plan: Plan) -> None:
    """See that what the loader reads has the option: settings that nothing takes up would be silent."""
    if not plan.proof or any(plan.word in (tree.text(path) or "").split() for path in plan.proof):
        return
    raise HardpointError(
        "SYS.1006",
        "Operation failed",
        f"the boot loader's tools ran, but {' and '.join(plan.proof)} does not have {plan.word}",
        remedy="see what overrides GRUB_CMDLINE_LINUX or the kernel's command line on the host",
    )


def _unwritable(error: OSError) -> HardpointError:
    return HardpointError(
        "SYS.1006",
        "Operation failed",
        f"the boot loader's settings cannot be written: {error}",
        remedy="see that /etc is writable for the agent and has space",
    )
