"""Ceph's programs, from the distribution's packages in a folder of their own: nothing is installed.

The folder is kept, and made again when the distribution has other versions. What tests run of it are scripts
in `bin`, which say where the libraries are.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

CACHE_VARIABLE = "HARDPOINT_CEPH_CACHE"
PACKAGES = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-common", "qemu-block-extra")
CEPH = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-authtool", "monmaptool", "rbd", "rados")
APT_TIMEOUT_S = 600
FOLDERS = "{inside} {inside}/ceph lib/{inside.name}"
"""Where libraries are, in the tree."""
SCRIPT = """#!/bin/sh
export LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} QEMU_MODULE_DIR={modules}
{more}exec {program} "$@"
"""


@dataclass(frozen=True)
class Programs:
    """Where they are."""

    tree: Path

    @property
    def bin(self) -> Path:
        """The folder of scripts; it goes before the others of PATH."""
        return self.tree / "bin"

    @property
    def libraries(self) -> Path:
        return next(self.tree.glob("usr/lib/*-linux-gnu"))

    @property
    def qemu_modules(self) -> Path:
        return self.libraries / "qemu"

    def path(self) -> str:
        """Return a PATH that has them."""
        return f"{self.bin}:{os.environ['PATH']}"


def missing() -> str | None:
    """Return why there can be no cluster here, None when there can."""
    if os.geteuid() != 0:
        return "a Ceph cluster is tested with by root only: its packages come from apt-get"
    for name in ("apt-get", "dpkg-deb", "setpriv", "qemu-img"):
        if shutil.which(name) is None:
            return f"{name} is not installed (scripts/bootstrap ceph)"
    return None


@cache
def programs() -> Programs:
    """Return the programs; skips the test where they cannot be had."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    return Programs(prepare())


def prepare() -> Path:
    """Fetch and unpack the packages unless it is done; return the folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hardpoint-ceph"
    folder = Path(os.environ.get(CACHE_VARIABLE) or default).absolute()
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    names = _fetched(archives)
    tree = folder / hashlib.sha256("\n".join([SCRIPT, FOLDERS, *names]).encode()).hexdigest()[:16]
    if not tree.exists():
        making = folder / f"making-{os.getpid()}"
        for name in names:
            subprocess.run(["dpkg-deb", "-x", str(archives / name), str(making)], check=True)
        _write_scripts(making, tree)
        making.rename(tree)
    return tree


def _fetched(archives: Path) -> list[str]:
    """Have apt-get fetch what this machine lacks of the packages; return the names of the files."""
    options = [f"Dir::Cache::archives={archives}", "Debug::NoLocking=1", "Dpkg::Use-Pty=0"]
    argv = ["apt-get", "-qq", *(word for option in options for word in ("-o", option)), "-y"]
    argv += ["--no-install-recommends", "--reinstall", "install"]
    listed = _apt([*argv, "--print-uris", *PACKAGES])
    if listed.returncode != 0:
        _apt(["apt-get", "-qq", "update"])
        listed = _apt([*argv, "--print-uris", *PACKAGES])
    _apt([*argv, "--download-only", *PACKAGES]).check_returncode()
    wanted = [line.split()[1] for line in listed.stdout.splitlines() if line.startswith("'")]
    found = {path.name.lower(): path.name for path in archives.glob("*.deb")}
    known = [found[name.lower()] for name in wanted if name.lower() in found]
    return sorted(known or found.values())


def _apt(argv: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=APT_TIMEOUT_S, check=False
    )


def _write_scripts(making: Path, tree: Path) -> None:
    made = Programs(making)
    inside = made.libraries.relative_to(making)
    libraries = ":".join(str(tree / each.format(inside=inside)) for each in FOLDERS.split())
    modules = str(tree / inside / "qemu")
    made.bin.mkdir()
    python = f"export PYTHONPATH={tree}/usr/lib/python3/dist-packages\n"
    commands = {name: (f"{tree}/usr/bin/{name}", "") for name in CEPH}
    commands["ceph"] = (f"/usr/bin/python3 -s {tree}/usr/bin/ceph", python)
    commands["ceph-mgr"] = (f"{tree}/usr/bin/ceph-mgr", python)
    for name in ("qemu-img", "qemu-io", "qemu-nbd"):
        commands[name] = (shutil.which(name) or f"/usr/bin/{name}", "")
    for name, (program, more) in commands.items():
        script = SCRIPT.format(libraries=libraries, modules=modules, program=program, more=more)
        (made.bin / name).write_text(script)
        (made.bin / name).chmod(0o755)
