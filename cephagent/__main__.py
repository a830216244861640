"""The agent as a command: `serve --config FILE`."""

from __future__ import annotations

import sys

from cephagent.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
