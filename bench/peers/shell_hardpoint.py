"""KvmRunShell's fan-out in a process that runs already, as the management node does.

`shell_hardpoint PORT USER HOSTS AT_ONCE`, the password in HARDPOINT_BENCH_PASSWORD. Each question is answered
with the seconds of one call of `true` on all hosts; {"first": true} begins with no connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from bench.shell import addresses
from mn.fleet.shares import Shares
from mn.fleet.shell import ScriptLimits, fan_out
from mn.fleet.ssh import SshPool, SshTarget


async def main(port: int, user: str, hosts: int, at_once: int) -> None:
    password = os.environ["HARDPOINT_BENCH_PASSWORD"]
    targets = {where: SshTarget(where, port, user, password) for where in addresses(hosts)}
    shares, pool = Shares(at_once, at_once), SshPool()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if json.loads(line)["first"]:
            await pool.close()
            pool = SshPool()
        cpu, begin = time.process_time(), time.perf_counter()
        results = await fan_out(targets, "true", ScriptLimits(time_s=120), shares, pool=pool)
        wall_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
        good = sum(result.return_code == 0 and result.error is None for result in results.values())
        errors = [result.error.details for result in results.values() if result.error]
        answer = {"wall_s": wall_s, "cpu_s": cpu_s, "good": good, "error": errors[:1]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await pool.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
