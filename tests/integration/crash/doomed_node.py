"""A management node that ends by SIGKILL at a chosen step boundary.

    python doomed_node.py LOG NTH BOUNDARY serve --state DIR ...

Every boundary that is passed is written to LOG; at the NTH passing of BOUNDARY the process kills itself.
"""

import os
import signal
import sys
from pathlib import Path

from mn.__main__ import main


def run() -> int:
    log, nth, doom, *argv = sys.argv[1:]
    passed = 0

    def boundary(name: str) -> None:
        nonlocal passed
        with Path(log).open("a") as file:
            file.write(name + "\n")
        passed += name == doom
        if name == doom and passed == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)

    return main(argv, boundary)


if __name__ == "__main__":
    sys.exit(run())
