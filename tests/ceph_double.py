"""A double of Ceph clusters: `ceph` and `rbd` that say what real ones say of their pools and monitors.

The agent at 127.M.N.x is beside a monitor of the cluster whose monitors are 127.M.N.1 to 127.M.N.99.
Images are not kept. For tests that ask what the management node does; tests/ceph asks what Ceph does.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

SCRIPT = '#!/bin/sh\nexec {python} -I -S {module} {name} {folder} "$@"\n'
MONS = 99
TOTAL, USED = 100 << 30, 1 << 30


def install(folder: Path) -> str:
    """Write the programs into a folder; return a PATH that has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ceph", "rbd"):
        where = {"python": sys.executable, "module": __file__, "name": name, "folder": folder}
        (folder / name).write_text(SCRIPT.format(**where))
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def _number() -> int:
    """Return the cluster of the agent that has started this."""
    argv = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode().split("\0")
    settings = tomllib.loads(Path(argv[argv.index("--config") + 1]).read_text())
    _, high, low, _ = settings["listen_address"].split(".")
    return 256 * int(high) + int(low)


def _fsid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def _mons(number: int) -> list[dict[str, Any]]:
    return [
        {
            "name": f"mon{each}",
            "public_addrs": {
                "addrvec": [{"type": "v1", "addr": f"127.{number // 256}.{number % 256}.{each}:6789"}]
            },
        }
        for each in range(1, MONS + 1)
    ]


def _status(number: int, _pools: dict[str, str]) -> Any:
    names = [mon["name"] for mon in _mons(number)]
    return {"fsid": _fsid(number), "health": {"status": "HEALTH_OK"}, "quorum_names": names}


def _mon_dump(number: int, _pools: dict[str, str]) -> Any:
    return {"fsid": _fsid(number), "mons": _mons(number)}


def _df(_number: int, pools: dict[str, str]) -> Any:
    stats = {"stored": USED, "max_avail": TOTAL - USED}
    return {
        "stats": {"total_bytes": TOTAL, "total_avail_bytes": TOTAL - USED},
        "pools": [{"name": name, "stats": stats} for name in pools],
    }


def _pools_in_detail(_number: int, pools: dict[str, str]) -> Any:
    return [
        {
            "pool_name": name,
            "size": 3,
            "flags_names": "hashpspool",
            "application_metadata": {"rbd": {"hardpoint": owner} if owner else {}},
        }
        for name, owner in pools.items()
    ]


QUESTIONS = {
    "status": _status,
    "mon dump": _mon_dump,
    "df": _df,
    "osd pool ls detail": _pools_in_detail,
    "auth get-key": lambda *_: {"key": "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA=="},
}


def ceph(number: int, words: list[str], pools: dict[str, str]) -> None:
    """Answer, or do what changes pools."""
    text = " ".join(words)
    if not words:
        for line in sys.stdin.read().splitlines():
            ceph(number, shlex.split(line), pools)
    elif words[:3] == ["osd", "pool", "create"]:
        pools[words[3]] = ""
    elif words[:4] == ["osd", "pool", "application", "set"]:
        pools[words[4]] = words[7]
    elif words[:3] == ["osd", "pool", "delete"]:
        pools.pop(words[3], None)
    else:
        found = next((answer for key, answer in QUESTIONS.items() if text.startswith(key)), None)
        if found is not None:
            print(json.dumps(found(number, pools)))


def main(program: str, folder: Path, argv: list[str]) -> None:
    """Run one of the programs; the pools of a cluster are in a file."""
    number = _number()
    path = folder / f"{number}.json"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pools = json.loads(path.read_text()) if path.exists() else {"there": ""}
        if program == "ceph":
            ceph(number, argv[8:], pools)  # what is before says where the cluster is, and how to answer
        elif "ls" in argv:
            print("[]")  # images are not kept
        new = path.with_suffix(".new")
        new.write_text(json.dumps(pools))
        new.replace(path)  # tests read it meanwhile


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
