"""The lab by hand: python -m tests.lab build | up | ssh GUEST | enter COMMAND | list | down | clean."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import NoReturn

from tests.lab import image, runs
from tests.lab.guest import Guest
from tests.lab.image import ImageSet
from tests.lab.lab import Lab
from tests.lab.machine import DIRECT, GRUB, ROLES, Start
from tests.lab.places import LabError, say

DOWN_TIMEOUT_S = 60.0


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the guests' images, unless they are there")
    up = commands.add_parser("up", help="boot guests; they stay up until Ctrl-C or `down`")
    up.add_argument(
        "guests", nargs="*", metavar="GUEST", help=f"of {', '.join(ROLES)}; default kvm1 kvm2 san"
    )
    up.add_argument("--grub", action="store_true", help="start them with their own boot loader")
    ssh = commands.add_parser("ssh", help="log in to a guest")
    ssh.add_argument("guest", choices=ROLES)
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    enter = commands.add_parser("enter", help="run a command on the lab's network")
    enter.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    commands.add_parser("list", help="show the labs of this machine")
    commands.add_parser("down", help="end the labs that are up by `up`")
    commands.add_parser("clean", help="remove what killed labs have left")
    arguments = parser.parse_args()
    try:
        globals()[f"_{arguments.command}"](arguments)
    except LabError as error:
        sys.exit(f"lab: {error}")


def _build(arguments: argparse.Namespace) -> None:
    print(image.ensure().folder)


def _up(arguments: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    begin = time.monotonic()
    with Lab() as lab:
        (lab.run.folder / "by-hand").touch()
        lab.repository  # noqa: B018  it serves from here on
        start = Start(GRUB if arguments.grub else DIRECT)
        lab.boot(*arguments.guests or ("kvm1", "kvm2", "san"), start=start)
        say(f"up after {time.monotonic() - begin:.1f} s; python -m tests.lab ssh GUEST; Ctrl-C ends it")
        try:
            signal.pause()
        except KeyboardInterrupt:
            say("ending")


def _newest() -> runs.Run:
    alive = [run for run in runs.recorded() if run.owner.alive]
    if not alive:
        raise LabError("no lab is up; python -m tests.lab up")
    return max(alive, key=lambda run: (run.folder / runs.RECORD).stat().st_mtime)


def _ssh(arguments: argparse.Namespace) -> NoReturn:
    run = _newest()
    images = ImageSet(image.folders()["images"] / (run.folder / "images").read_text())
    argv = Guest(ROLES[arguments.guest], images, run).ssh_argv(*([] if arguments.words else ["-t"]))
    os.execvp(argv[0], [*argv, *arguments.words])


def _enter(arguments: argparse.Namespace) -> NoReturn:
    argv = _newest().network.inside(arguments.words or [os.environ.get("SHELL", "/bin/sh")])
    os.execvp(argv[0], argv)


def _list(arguments: argparse.Namespace) -> None:
    for run in runs.recorded():
        guests = [path.parent.name for path in sorted(run.folder.glob("*/console.log"))]
        state = f"owner {run.owner.pid}" if run.owner.alive else "killed; `clean` removes it"
        print(f"{run.folder}  {run.network.name}  {state}  {' '.join(guests)}")


def _down(arguments: argparse.Namespace) -> None:
    for run in runs.recorded():
        if run.owner.alive and (run.folder / "by-hand").exists():
            os.kill(run.owner.pid, signal.SIGTERM)
            deadline = time.monotonic() + DOWN_TIMEOUT_S
            while run.owner.alive:
                if time.monotonic() > deadline:
                    raise LabError(f"the lab of process {run.owner.pid} does not end")
                time.sleep(0.05)
    runs.clean()


def _clean(arguments: argparse.Namespace) -> None:
    removed = runs.clean()
    print(f"removed: {' '.join(removed) or 'nothing'}")


if __name__ == "__main__":
    main()
