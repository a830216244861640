"""Starts the processes that touch storages: workers, and commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentkit.errors import HardpointError
from agentkit.runner import Completed, Runner

_FOLDER = Path(__file__).parents[2]
QUICK_LIMIT_S = 120.0
COPY_LIMIT_S = 24 * 3600.0
_PROBE = Path(__file__).with_name("probe.py")
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from kvmagent.storage.worker import main; main(sys.argv[2:])"
)


def worker_argv(*arguments: str) -> list[str]:
    """Return the command of a worker; without site-packages it is there at once."""
    return [sys.executable, "-I", "-S", "-c", _BOOT, str(_FOLDER), *arguments]


class Children:
    """Has workers do things; a caller that is cancelled leaves them behind, killed."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def do(self, operation: str, timeout_s: float, **request: Any) -> Any:
        """Return what an operation of the worker returns. Raises HardpointError (SYS.1006)."""
        body = json.dumps({"operation": operation, **request}).encode()
        completed = await self._runner.run(worker_argv("do"), timeout_s=timeout_s, input=body)
        answer = json.loads(completed.check().stdout)
        if "error" in answer:
            raise refused(f"{operation}: {answer['error']}", "see that the storage is there and not full")
        return answer["done"]

    async def probe(self, root: str, uuid: str, writes: str, timeout_s: float) -> dict[str, int]:
        """Return a storage's capacity (`total`, `available`). Raises HardpointError (SYS.1006)."""
        argv = [sys.executable, "-I", "-S", str(_PROBE), root, uuid, writes]
        completed = await self._runner.run(argv, timeout_s=timeout_s)
        said = completed.stdout.decode(errors="replace").strip()
        if completed.returncode == 1 and said:
            raise refused(f"probe: {said}", "see that the storage is there")
        total, available = completed.check().stdout.split()
        return {"total": int(total), "available": int(available)}

    async def run(self, argv: Sequence[str], timeout_s: float) -> Completed:
        """Run a command."""
        return await self._runner.run(argv, timeout_s=timeout_s)


def refused(details: str, remedy: str) -> HardpointError:
    """Return the error of what a storage did not let be done."""
    return HardpointError("SYS.1006", "Operation failed", details, remedy=remedy)
