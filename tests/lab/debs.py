"""Debian packages as files: the index of a repository, and packages made on the spot."""

from __future__ import annotations

import concurrent.futures
import email.utils
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.lab.places import run

TIMEOUT_S = 60.0
ASK_FOR_REBOOT = "touch /run/reboot-required\necho {name} >>/run/reboot-required.pkgs\n"


def stanza(package: Path) -> str:
    """Return what an index of packages says of one."""
    control = run(["dpkg-deb", "--field", package], TIMEOUT_S).strip()
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    return f"{control}\nFilename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n"


def index(packages: Iterable[Path]) -> str:
    """Return the text of a `Packages` file."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return "\n".join(pool.map(stanza, packages))


def release(packages: bytes) -> bytes:
    """Return the text of a `Release` file over a `Packages` file."""
    digest = hashlib.sha256(packages).hexdigest()
    about = f"Origin: lab\nSuite: lab\nCodename: lab\nDate: {email.utils.formatdate(usegmt=True)}\n"
    return f"{about}SHA256:\n {digest} {len(packages)} Packages\n".encode()


def make(
    folder: Path,
    name: str,
    version: str,
    *,
    depends: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
    postinst: str = "",
    asks_for_reboot: bool = False,
) -> Path:
    """Make a package. `files`: path to content. `postinst`: shell lines run when it has been installed."""
    tree = folder / f"{name}-{version}.d"
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: lab <lab@example.org>\n"
    if wanted := ", ".join(depends):
        control += f"Depends: {wanted}\n"
    control += f"Description: {name}, made by the lab\n"
    script = postinst + (ASK_FOR_REBOOT.format(name=name) if asks_for_reboot else "")
    contents = {"DEBIAN/control": control, **{path.lstrip("/"): text for path, text in (files or {}).items()}}
    if script:
        contents["DEBIAN/postinst"] = f'#!/bin/sh\nset -e\n[ "$1" = configure ] || exit 0\n{script}'
    for path, content in contents.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content)
        (tree / path).chmod(0o755 if content.startswith("#!") else 0o644)
    package = folder / f"{name}_{version.replace(':', '%3a')}_all.deb"
    run(["dpkg-deb", "-Zgzip", "--root-owner-group", "--build", tree, package], TIMEOUT_S)
    return package
