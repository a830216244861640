"""Where the lab keeps things, how it runs commands, and what it says when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CACHE_VARIABLE = "HARDPOINT_LAB_CACHE"


class LabError(Exception):
    """The lab cannot do what was asked; the text says what, why, and what to look at."""


def cache() -> Path:
    """Return the folder of images, snapshots and runs; made if it is not there, for its owner only.

    Raises LabError when it cannot be made.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hardpoint-lab"
    folder = Path(os.environ.get(CACHE_VARIABLE) or default).absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = f"the cache {folder} cannot be made: {error}"
        raise LabError(f"{reason}; set {CACHE_VARIABLE} to a folder") from error
    return folder


def run(argv: Sequence[str | Path], timeout_s: float, *, text: str | None = None) -> str:
    """Run a command to its end and return what it printed. Raises LabError with its output when it fails."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"not done in {timeout_s:g} s: {' '.join(words)[:300]}") from error
    except OSError as error:
        raise LabError(f"{words[0]} cannot be run: {error}; `scripts/bootstrap lab` installs it") from error
    if done.returncode != 0:
        raise LabError(f"exit code {done.returncode}: {' '.join(words)[:300]}\n{done.stdout[-3000:]}")
    return done.stdout


def say(text: str) -> None:
    """Tell whoever waits what is being done."""
    print(f"lab: {text}", file=sys.stderr, flush=True)
