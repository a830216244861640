"""The double of LVM, sanlock and device-mapper as a runner of commands, for agents in a test's process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agentkit.runner import OUTPUT_CAP_BYTES, Completed, ProcessRunner
from tests.lvm import LvmHost


class LvmRunner(LvmHost):
    """One host of the double; what is none of its programs is run."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        input: bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        redact: Sequence[str] = (),
        output_cap: int = OUTPUT_CAP_BYTES,
    ) -> Completed:
        """See `agentkit.runner.Runner`."""
        words = list(argv)
        if words[0] == "env" and words[1].startswith("LVM_SYSTEM_DIR="):
            self.read_host_id(Path(words[1].partition("=")[2]))
            words = words[2:]
        ended = self.answer(words)
        if ended is None:
            return await ProcessRunner().run(
                argv, timeout_s=timeout_s, input=input, env=env, redact=redact, output_cap=output_cap
            )
        return Completed(tuple(words), *ended, False, 0.0)
