"""The agent as a command: `inventory` and `record` look at a machine, `serve` is the daemon."""

from __future__ import annotations

import gc
import sys


def main(argv: list[str]) -> int:
    """Run a command; return the exit status: 0, or 2 with one line on standard error."""
    # The daemon has its own options, and argparse would take those before `serve` hands them on.
    if argv[:1] == ["serve"]:
        gc.disable()  # a fifth of the time that loading takes
        from kvmagent.server import main as serve

        gc.freeze()
        gc.enable()
        return serve(argv)
    from kvmagent.commands import main as look

    return look(argv)


def _start_sooner() -> None:
    """Do without what a process of milliseconds has no use for: half of msgspec's imports, the collector.

    msgspec takes typing_extensions when it is there, which brings inspect, ast and tokenize along, and typing
    when it is not. On this Python both know all that the wire types use.
    """
    gc.disable()
    modules: dict[str, object] = sys.modules  # type: ignore[assignment]
    if "typing_extensions" not in modules:
        modules["typing_extensions"] = None
        try:
            import msgspec  # noqa: F401
        finally:
            del modules["typing_extensions"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["inventory"]:
        _start_sooner()
    sys.exit(main(sys.argv[1:]))
