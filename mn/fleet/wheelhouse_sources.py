"""Where the agent's dependencies come from: this environment, a folder of wheels, an index."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

import msgspec
from packaging.markers import default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags, parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

DOWNLOAD_TIMEOUT_S = 600.0
_MANYLINUX_LEAST = 5
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_NOT_SHIPPED = frozenset({"INSTALLER", "REQUESTED", "direct_url.json"})


class Missing(Exception):  # noqa: N818 - it says what a source lacks and is no fault
    """This source does not have all that is wanted."""


class HostPython(msgspec.Struct, frozen=True):
    """A kind of host: Python's `(major, minor)`, `uname -m`, glibc's version (None: another libc)."""

    version: tuple[int, int]
    architecture: str
    glibc: tuple[int, int] | None

    @classmethod
    def own(cls) -> HostPython:
        """Return the kind of this machine and interpreter."""
        name, version = platform.libc_ver()
        parts = [int(part) for part in version.split(".")[:2]] if name == "glibc" else []
        glibc = (parts[0], parts[1]) if len(parts) == 2 else None
        return cls((sys.version_info[0], sys.version_info[1]), platform.machine(), glibc)

    @property
    def dotted(self) -> str:
        """`3.11`."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def label(self) -> str:
        """A name for files."""
        libc = f"glibc{self.glibc[0]}.{self.glibc[1]}" if self.glibc else "other"
        return f"cp{self.version[0]}{self.version[1]}-{self.architecture}-{libc}"

    def __str__(self) -> str:
        libc = f"glibc {self.glibc[0]}.{self.glibc[1]}" if self.glibc else "no glibc"
        return f"Python {self.dotted}, {self.architecture}, {libc}"

    def markers(self) -> dict[str, str]:
        """Return the environment that requirements' markers are evaluated in."""
        own = {name: str(value) for name, value in default_environment().items()}
        return own | {
            "python_version": self.dotted,
            "python_full_version": f"{self.dotted}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "platform_machine": self.architecture,
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
        }

    def platforms(self) -> list[str]:
        """Return the wheel platforms that run there, best first."""
        if self.glibc is None or self.glibc[0] != 2:
            return []
        found = []
        for minor in range(self.glibc[1], _MANYLINUX_LEAST - 1, -1):
            found.append(f"manylinux_2_{minor}_{self.architecture}")
            if minor in _LEGACY:
                found.append(f"{_LEGACY[minor]}_{self.architecture}")
        return found

    def tags(self) -> list[Tag]:
        """Return the wheel tags that run there, best first."""
        platforms, interpreter = self.platforms(), f"cp{self.version[0]}{self.version[1]}"
        return [
            *cpython_tags(self.version, abis=[interpreter], platforms=platforms),
            *compatible_tags(self.version, interpreter, platforms),
        ]


@dataclass(frozen=True)
class Packaged:
    """A distribution: its files by their names below `site-packages`."""

    name: str
    version: str
    files: Mapping[str, bytes]


def from_installed(wanted: Mapping[str, str], python: HostPython) -> list[Packaged]:
    """Take the distributions of this environment. Raises Missing when one does not run on such a host."""
    tags = set(python.tags())
    return [_installed(name, tags) for name in sorted(wanted)]


def _installed(name: str, tags: set[Tag]) -> Packaged:
    distribution = metadata.distribution(name)
    if not any(tag in tags for tag in _tags_of(distribution)):
        raise Missing(f"the management node's own {name} is not made for it")
    files = {}
    for path in distribution.files or []:
        shipped = "__pycache__" not in path.parts and path.name not in _NOT_SHIPPED
        if shipped and ".." not in path.parts and not path.is_absolute():
            files[path.as_posix()] = path.locate().read_bytes()  # type: ignore[attr-defined]
    if not files:
        raise Missing(f"the management node's own {name} has no list of its files")
    return Packaged(name, distribution.version, files)


def _tags_of(distribution: metadata.Distribution) -> Iterator[Tag]:
    """Yield the tags of an installed distribution; one built here runs where the C library is not older."""
    own = HostPython.own()
    for line in (distribution.read_text("WHEEL") or "").splitlines():
        key, _, value = line.partition(":")
        if key == "Tag":
            for tag in parse_tag(value.strip()):
                if tag.platform == f"linux_{own.architecture}" and own.glibc:
                    platform_tag = f"manylinux_{own.glibc[0]}_{own.glibc[1]}_{own.architecture}"
                    yield Tag(tag.interpreter, tag.abi, platform_tag)
                else:
                    yield tag


def from_folder(wanted: Mapping[str, str], python: HostPython, folder: Path) -> list[Packaged]:
    """Take wheels of a folder, in the wanted versions. Raises Missing naming those that are not there."""
    if not folder.is_dir():
        raise Missing(f"the folder {folder} does not exist")
    rank = {tag: place for place, tag in enumerate(python.tags())}
    best: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.glob("*.whl")):
        with contextlib.suppress(InvalidWheelFilename):
            name, version, _, tags = parse_wheel_filename(path.name)
            places = [rank[tag] for tag in tags if tag in rank]
            key = str(canonicalize_name(name))
            if places and wanted.get(key) == str(version):
                best[key] = min(best.get(key, (min(places), path)), (min(places), path))
    lacking = [f"{name} {version}" for name, version in sorted(wanted.items()) if name not in best]
    if lacking:
        raise Missing(f"the folder {folder} lacks wheels for it of {', '.join(lacking)}")
    return [_unpacked(name, wanted[name], best[name][1]) for name in sorted(wanted)]


def _unpacked(name: str, version: str, path: Path) -> Packaged:
    """Return the files of a wheel; its scripts and headers are left out, nothing of the agent needs them."""
    files = {}
    try:
        with zipfile.ZipFile(path) as wheel:
            for entry in wheel.infolist():
                place = _place(entry.filename)
                if place is not None and not entry.is_dir():
                    files[place] = wheel.read(entry)
    except (OSError, zipfile.BadZipFile) as error:
        raise Missing(f"{path} is not a wheel: {error}") from error
    return Packaged(name, version, files)


def _place(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).is_absolute() or ".." in parts or parts[-1] in _NOT_SHIPPED:
        return None
    if parts[0].endswith(".data"):
        return "/".join(parts[2:]) if len(parts) > 2 and parts[1] in {"purelib", "platlib"} else None
    return name


def from_index(wanted: Mapping[str, str], python: HostPython, index: str) -> list[Packaged]:
    """Take wheels of a package index. Raises Missing when none is configured, or with what pip said."""
    if not index:
        raise Missing("no package index is configured")
    import tempfile

    with tempfile.TemporaryDirectory(prefix="hardpoint-wheels-") as folder:
        download(wanted, python, Path(folder), index)
        return from_folder(wanted, python, Path(folder))


def download(wanted: Mapping[str, str], python: HostPython, folder: Path, index: str = "") -> None:
    """Fill a folder with wheels by pip, from its own index unless one is given.

    Raises Missing with what pip said; blocks until it is done.
    """
    argv = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--quiet"]
    argv += ["--only-binary", ":all:", "--no-deps", "--dest", str(folder)]
    argv += ["--python-version", python.dotted, "--implementation", "cp"]
    argv += [option for name in python.platforms() for option in ("--platform", name)]
    argv += ["--index-url", index] if index else []
    argv += [f"{name}=={version}" for name, version in sorted(wanted.items())]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
            env={**os.environ, "PIP_CONFIG_FILE": os.devnull} if index else None,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"pip could not download them: {error}") from error
    if done.returncode != 0:
        raise Missing(f"pip could not download them: {done.stderr.strip()[-500:]}")
