"""The commands that iSCSI is worked with: iscsiadm, multipath, udevadm; of the machine below a root."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from agentkit.errors import HardpointError
from agentkit.runner import CommandError, Completed, Runner
from kvmagent.iscsi.inquiry import GONE
from kvmagent.iscsi.portals import SessionKey, Target, parse_discovery, portal_text
from kvmagent.machine.programs import below_root, find_program
from kvmagent.machine.tree import Tree
from kvmagent.services import not_started

_INQUIRY = Path(__file__).with_name("inquiry.py")
_START_LIMIT_S = 30.0
_DISCOVERY_LIMIT_S = 15.0
_LOGIN_LIMIT_S = 60.0
_LOGOUT_LIMIT_S = 60.0
_RESCAN_LIMIT_S = 60.0
_SETTLE_S = 30
_INQUIRY_LIMIT_S = 12.0
_WRITE_LIMIT_S = 20.0

_EXISTS, _NOT_FOUND, _REFUSED = 15, 21, 24
_REASONS = {
    4: "no connection to the portal could be made",
    5: "the target refused the login",
    8: "the portal did not answer in time",
    11: "the target did not answer the login in time",
    12: "the initiator's name is not one that open-iscsi takes",
    18: "iscsid does not answer",
    19: "the target refused the login for good",
    20: "iscsid does not run",
    24: "the target refuses this CHAP name or secret, or asks for them and none are given",
}


class Tools:
    """The commands. `root` is what the machine's files are below."""

    def __init__(self, root: Path, runner: Runner) -> None:
        self._root = root
        self._runner = runner

    def has(self, program: str) -> bool:
        """Say whether the machine has a program."""
        return find_program(Tree(self._root), program) is not None

    async def run(self, program: str, *arguments: str, limit_s: float) -> Completed:
        """Run a program of the machine. Raises HardpointError (SYS.1014) when it has none of the name."""
        tree = Tree(self._root)
        path = find_program(tree, program)
        if path is None:
            raise HardpointError(
                "SYS.1014",
                "Not supported",
                f"this host has no {program}",
                remedy="reconnect the host: what it lacks is installed then",
            )
        return await self._runner.run([below_root(tree, path), *arguments], timeout_s=limit_s)

    async def start(self, unit: str) -> None:
        """Have a service run. Raises HardpointError (SYS.1006) when it does not start."""
        if self.has("systemctl"):
            completed = await self.run("systemctl", "start", unit, limit_s=_START_LIMIT_S)
            if completed.returncode != 0:
                raise not_started(unit, completed, "see that open-iscsi is installed, its unit not masked")

    async def discover(self, address: str, port: int) -> list[Target]:
        """Ask a portal for its targets; nothing of it is kept by open-iscsi.

        Raises HardpointError (ISCSI.1001) when it does not answer.
        """
        portal = portal_text(address, port)
        argv = ("-m", "discovery", "-t", "sendtargets", "-p", portal, "-o", "nonpersistent")
        try:
            completed = await self.run("iscsiadm", *argv, limit_s=_DISCOVERY_LIMIT_S)
        except HardpointError as error:
            if error.code == "SYS.1014":
                raise
            raise unreachable(portal, f"it had not said within {_DISCOVERY_LIMIT_S:g} s") from error
        if completed.returncode == _NOT_FOUND:
            return []
        if completed.returncode != 0:
            raise unreachable(portal, reason_of(completed))
        return parse_discovery(completed.stdout.decode(errors="replace"))

    async def make_record(self, target: Target) -> None:
        """Have a node record of a target; one that is there stays as it is. Raises HardpointError."""
        portal = f"{portal_text(target.address, target.port)},{target.group}"
        argv = ("-m", "node", "-T", target.iqn, "-p", portal, "-o", "new")
        (await self.run("iscsiadm", *argv, limit_s=_START_LIMIT_S)).check()

    async def login(self, key: SessionKey) -> None:
        """Log in to a target; logged in already, nothing happens. Raises HardpointError (ISCSI.1001)."""
        completed = await self._node(key, "--login", limit_s=_LOGIN_LIMIT_S)
        if completed.returncode not in (0, _EXISTS):
            raise not_let_in(key, reason_of(completed), refused=completed.returncode == _REFUSED)

    async def logout(self, number: int) -> None:
        """End a session; ended already, nothing happens. Raises HardpointError (SYS.1006)."""
        argv = ("-m", "session", "-r", str(number), "--logout")
        completed = await self.run("iscsiadm", *argv, limit_s=_LOGOUT_LIMIT_S)
        if completed.returncode != _NOT_FOUND:
            completed.check()

    async def delete_record(self, key: SessionKey) -> None:
        """Delete a node record; deleted already, nothing happens. Raises HardpointError (SYS.1006)."""
        completed = await self._node(key, "-o", "delete", limit_s=_START_LIMIT_S)
        if completed.returncode != _NOT_FOUND:
            completed.check()

    async def rescan(self, number: int) -> None:
        """Find LUNs anew, and how large they are. Raises HardpointError (SYS.1006)."""
        argv = ("-m", "session", "-r", str(number), "--rescan")
        (await self.run("iscsiadm", *argv, limit_s=_RESCAN_LIMIT_S)).check()

    async def settle(self) -> None:
        """Wait until udev has named what was found; a busy host goes on without: names are known anyway."""
        if self.has("udevadm"):
            with contextlib.suppress(CommandError):
                await self.run("udevadm", "settle", f"--timeout={_SETTLE_S}", limit_s=_SETTLE_S * 2)

    async def is_gone(self, disk: str) -> bool:
        """Say whether the target has no such LUN any more; False when it says nothing."""
        device = below_root(Tree(self._root), f"/dev/{disk}")
        argv = [sys.executable, "-I", "-S", str(_INQUIRY), device]
        try:
            completed = await self._runner.run(argv, timeout_s=_INQUIRY_LIMIT_S)
        except HardpointError:
            return False
        return completed.returncode == GONE

    async def flush(self, disk: str) -> None:
        """Write what is to be written to a disk. Raises HardpointError (SYS.1006)."""
        if self.has("blockdev"):
            await self.run("blockdev", "--flushbufs", f"/dev/{disk}", limit_s=_WRITE_LIMIT_S)

    async def delete_disk(self, disk: str) -> None:
        """Take a disk from the kernel; gone already, nothing happens. Raises HardpointError (SYS.1006)."""
        tree = Tree(self._root)
        switch = f"/sys/block/{disk}/device/delete"
        if not tree.exists(switch):
            return
        # In a process of its own: the kernel waits for what is under way on the disk.
        argv: Sequence[str] = ["tee", below_root(tree, switch)]
        await self._runner.run(argv, timeout_s=_WRITE_LIMIT_S, input=b"1\n")

    async def _node(self, key: SessionKey, *what: str, limit_s: float) -> Completed:
        portal = portal_text(key.address, key.port)
        return await self.run("iscsiadm", "-m", "node", "-T", key.iqn, "-p", portal, *what, limit_s=limit_s)


def reason_of(completed: Completed) -> str:
    """Return why iscsiadm failed, in words."""
    known = _REASONS.get(completed.returncode)
    if known is not None:
        return known
    said = completed.stderr.decode(errors="replace").strip().splitlines()
    return f"iscsiadm ended with {completed.returncode}{f': {said[-1]}' if said else ''}"


def unreachable(portal: str, reason: str) -> HardpointError:
    """Return the error of a portal that does not say its targets."""
    return HardpointError(
        "ISCSI.1001",
        "iSCSI login failed",
        f"the portal {portal} does not say which targets it has: {reason}",
        remedy="see that the iSCSI server runs there and that this host reaches it",
    )


def not_let_in(key: SessionKey, reason: str, *, refused: bool = False) -> HardpointError:
    """Return the error of a target that cannot be logged in to."""
    remedy = "see that the target runs and lets this host's initiator name in"
    if refused:
        remedy = "give the name and secret that the target asks for to UpdateIscsiServer"
    return HardpointError("ISCSI.1001", "iSCSI login failed", f"no login to {key}: {reason}", remedy=remedy)
