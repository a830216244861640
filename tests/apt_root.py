"""A small Debian below a directory: real apt and dpkg with an archive of packages that a test makes.

Its programs are scripts that run the machine's apt and dpkg on the directory; each can be told to stop half
way or to fail. Nothing outside the directory is touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAM = """#!/bin/sh
# {name} of the machine below {root}
echo "{name} $*" >> "{root}/calls"
unset LD_PRELOAD
case " $* " in *" {word} "*)
    touch "{root}/reached-{word}"
    while [ -e "{root}/hold-{word}" ]; do sleep 0.02; done
    if [ -e "{root}/fail-{word}" ]; then cat "{root}/fail-{word}" >&2; rm "{root}/fail-{word}"; exit 100; fi
;; esac
export APT_CONFIG="{root}/apt.conf"
exec {program}{options} "$@"
"""
DEBIAN = """Package: {name}
Version: {version}
Architecture: all
Maintainer: Nobody <nobody@example.org>
Depends: {depends}
Description: made by a test
"""


def require() -> None:
    """Skip the test where there is no apt."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("apt-get and dpkg-deb are not installed (Debian and Ubuntu have them)")


class AptRoot:
    """The machine below `root`."""

    def __init__(self, root: Path) -> None:
        require()
        self.root = root
        self.repository = root / "srv/repository"
        for folder in (
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/log/apt",
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "etc/apt/sources.list.d",
            "etc/apt/trusted.gpg.d",
            "usr/bin",
            "srv/repository",
            "proc",
            "sys",
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{self.repository} ./\n")
        (root / "apt.conf").write_text(
            f'Dir "{root}";\nDir::State::status "{root}/var/lib/dpkg/status";\n'
            f'Dir::Bin::dpkg "/usr/bin/dpkg";\nAPT::Sandbox::User "root";\n'
            f'DPkg::Options {{ "--root={root}"; "--force-not-root"; "--force-script-chrootless"; }};\n'
            f'Acquire::Languages "none";\n'
        )
        chrootless = f" --root={root} --force-not-root --force-script-chrootless"
        self._program("apt-get", "", word="upgrade")
        self._program("dpkg", chrootless, word="--configure")
        self._program("dpkg-query", f" --admindir={root}/var/lib/dpkg", word="--show")
        self.publish({})

    def publish(self, packages: dict[str, str], files: dict[str, str] | None = None, **depends: str) -> None:
        """Put these packages and no others into the archive: versions by name.

        `files` maps paths to the package that has them; `depends` what packages depend on (`_` for `-`).
        """
        shutil.rmtree(self.repository)
        self.repository.mkdir()
        index = []
        for name, version in packages.items():
            needs = depends.get(name.replace("-", "_").replace(".", "_"), "")
            index.append(
                self._build(name, version, needs, [f for f, n in (files or {}).items() if n == name])
            )
        (self.repository / "Packages").write_text("\n".join(index))

    def install(self, packages: dict[str, str]) -> None:
        """Install packages of these versions, and only these are in the archive."""
        self.publish(packages)
        archives = [str(path) for path in sorted(self.repository.glob("*.deb"))]
        argv = [
            "dpkg",
            f"--root={self.root}",
            "--force-not-root",
            "--force-script-chrootless",
            "-i",
            *archives,
        ]
        subprocess.run(argv, check=True, capture_output=True)

    def installed(self) -> dict[str, str]:
        """Return the versions that are installed."""
        argv = ["dpkg-query", f"--admindir={self.root}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"]
        found = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return dict(line.split() for line in found.splitlines())  # type: ignore[misc]

    def hold(self, word: str = "upgrade") -> None:
        """Have the next program that is called with `word` wait before it does anything."""
        (self.root / f"hold-{word}").touch()

    def release(self, word: str = "upgrade") -> None:
        """Let it go on."""
        (self.root / f"hold-{word}").unlink(missing_ok=True)

    def reached(self, word: str = "upgrade") -> bool:
        """Say whether a program was called with `word`."""
        return (self.root / f"reached-{word}").exists()

    def fail_once(self, text: str, word: str = "upgrade") -> None:
        """Have the next program that is called with `word` fail, saying `text`."""
        (self.root / f"fail-{word}").write_text(text)

    def calls(self, beginning: str) -> list[str]:
        """Return the command lines that begin so."""
        lines = (self.root / "calls").read_text().splitlines() if (self.root / "calls").exists() else []
        return [line for line in lines if line.startswith(beginning)]

    def _program(self, name: str, options: str, word: str) -> None:
        program = shutil.which(name)
        script = PROGRAM.format(name=name, root=self.root, program=program, options=options, word=word)
        path = self.root / "usr/bin" / name
        path.write_text(script)
        path.chmod(0o755)

    def _build(self, name: str, version: str, depends: str, files: list[str]) -> str:
        tree = self.root / "build" / name
        (tree / "DEBIAN").mkdir(parents=True)
        control = DEBIAN.format(name=name, version=version, depends=depends).replace("Depends: \n", "")
        (tree / "DEBIAN/control").write_text(control)
        for path in [f"usr/share/{name}/version", *files]:
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(f"{name} {version}\n")
        archive = self.repository / f"{name}_{version}.deb"
        argv = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(archive)]
        subprocess.run(argv, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
        shutil.rmtree(tree)
        data = archive.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        return f"{control}Filename: ./{archive.name}\nSize: {len(data)}\nSHA256: {digest}\n"
