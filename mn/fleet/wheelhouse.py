"""What is installed on a host: the agent's release, and bundles of it for each Python and architecture.

A release is the agent's code, the exact versions of its dependencies and the role that installs it; its
version has a hash of all three, so that whatever changes is another version. A bundle is a release for one
kind of host: a `tar.gz` of what belongs into `site-packages`. Its files come from this environment's own
distributions, from a folder of wheels, or from an index, in this order.
"""

from __future__ import annotations

import asyncio
import compileall
import gzip
import hashlib
import io
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agentkit.errors import Blame, ErrorBody, HardpointError
from agentkit.files import write_durably
from mn.fleet.agents import AGENTS, KVM_AGENT, AgentKind
from mn.fleet.wheelhouse_sources import (
    HostPython,
    Missing,
    Packaged,
    download,
    from_folder,
    from_index,
    from_installed,
)

PYTHON_LEAST = (3, 11)
AGENT_ROLE = "agent"
"""The role that the roles of all agents are made of."""
NODE_PACKAGES = ("agentkit", *AGENTS, "mn", "mnclient", "simulator")
NODE_EXTRAS = ("mn", *AGENTS, "cli")
OWN = "hardpoint"
_LICENCE_AND_CODE = {".py", ".typed"}


def ansible_directory() -> Path:
    """Return the folder of the playbooks: the repository's, or the one in the installed package."""
    packages = Path(__file__).parents[1]
    beside = packages.parent / "ansible"
    return beside if (beside / "deploy.yml").is_file() else packages / "ansible"


@dataclass(frozen=True)
class Release:
    """A version of the agent and the exact versions of its dependencies, by name."""

    version: str
    pins: Mapping[str, str]


@cache
def release(agent: AgentKind = KVM_AGENT) -> Release:
    """Return the release of a kind of agent that this management node installs; reads its own files once."""
    pins = dependencies(HostPython.own(), (agent.name,))
    digest = hashlib.sha256()
    for name, content in [*sorted(_agent_files(agent)), *sorted(_role_files(agent))]:
        digest.update(f"{name} {len(content)}\n".encode() + content)
    digest.update(msgspec.json.encode(sorted(pins.items())))
    return Release(f"{metadata.version(OWN)}+{digest.hexdigest()[:12]}", pins)


def dependencies(python: HostPython, extras: tuple[str, ...] = tuple(AGENTS)) -> dict[str, str]:
    """Return what is needed on such a host: names and the versions that this environment has.

    `extras` are those of the project that are wanted, by default those of all agents.

    Raises HardpointError (SYS.1000) when this environment lacks one.
    """
    environment = python.markers()
    found: dict[str, str] = {}
    wanted = [(requirement, extra) for requirement in metadata.requires(OWN) or [] for extra in extras]
    while wanted:
        text, extra = wanted.pop()
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is not None and not marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise HardpointError(
                "SYS.1000",
                "Internal error",
                f"this management node's environment lacks {requirement}, which the agent needs",
                remedy="install hardpoint[mn,kvmagent,storageagent,cephagent,cli] anew on it",
            ) from None
        inner = requirement.extras or {""}
        wanted += [(below, extra) for below in metadata.requires(name) or [] for extra in inner]
    return found


def _agent_files(agent: AgentKind) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of an agent's own files."""
    root = Path(__file__).parents[2]
    for package in ("agentkit", agent.name):
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and path.suffix in _LICENCE_AND_CODE:
                yield path.relative_to(root).as_posix(), path.read_bytes()


def _role_files(agent: AgentKind) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of what an agent's roles put beside it."""
    roles = ansible_directory() / "roles"
    for role in (roles / AGENT_ROLE, roles / agent.name):
        for path in sorted(role.rglob("*")):
            if path.is_file():
                yield path.relative_to(roles).as_posix(), path.read_bytes()


def _agent(agent: AgentKind) -> Packaged:
    """Return an agent's own code as a distribution."""
    name, version = f"hardpoint-{agent.name}", release(agent).version
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = dict(_agent_files(agent)) | {f"{folder}/METADATA": about.encode()}
    return Packaged(name, version, files)


@dataclass(frozen=True)
class Sources:
    """Where wheels are taken from beside this environment; `folder` may be missing, `index` empty: none."""

    folder: Path
    index: str = ""


class Wheelhouse:
    """Makes bundles, each once, and keeps them in `directory`."""

    def __init__(self, directory: Path, sources: Sources) -> None:
        self._directory = directory
        self._sources = sources
        self._making: dict[str, asyncio.Lock] = {}

    async def bundle(self, python: HostPython, agent: AgentKind = KVM_AGENT) -> Path:
        """Return the bundle of an agent's release for such a host.

        Made by another process: it takes seconds of computing. Raises HardpointError (SYS.1006) naming the
        host's Python when it is too old or wheels are missing.
        """
        check_python(python)
        path = self._directory / f"{agent.name}-{release(agent).version}-{python.label}.tar.gz"
        async with self._making.setdefault(path.name, asyncio.Lock()):
            if not path.exists():
                await self._make(python, agent, path)
                await asyncio.to_thread(self._forget_others, agent)
        return path

    async def _make(self, python: HostPython, agent: AgentKind, path: Path) -> None:
        order = _Order(python, agent.name, str(self._sources.folder), self._sources.index, str(path))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mn.fleet.wheelhouse",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            output, _ = await process.communicate(msgspec.json.encode(order))
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            raise _failure(output)

    def _forget_others(self, agent: AgentKind) -> None:
        """Remove the bundles of an agent's other versions."""
        for path in self._directory.glob(f"{agent.name}-*.tar.gz"):
            if not path.name.startswith(f"{agent.name}-{release(agent).version}-"):
                path.unlink(missing_ok=True)


class _Order(msgspec.Struct):
    python: HostPython
    agent: str
    folder: str
    index: str
    path: str


def _failure(output: bytes) -> HardpointError:
    try:
        return HardpointError.from_body(msgspec.json.decode(output, type=ErrorBody))
    except msgspec.DecodeError:
        said = output.decode(errors="replace")[-300:]
        return HardpointError("SYS.1000", "Internal error", f"packing the agent failed: {said}")


def check_python(python: HostPython) -> None:
    """Raise HardpointError (SYS.1006) for a Python that the agent does not run with."""
    if python.version < PYTHON_LEAST:
        least = ".".join(map(str, PYTHON_LEAST))
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"the host's Python is {python.dotted}, the agent needs {least} or newer",
            remedy=f"install a newer one beside it on the host (`dnf install python3.11` on RHEL 9, "
            f"`apt-get install python{least}` on Ubuntu 22.04) and try again",
            blame=Blame.CALLER,
        )


def pack(python: HostPython, sources: Sources, agent: AgentKind = KVM_AGENT) -> bytes:
    """Return the bundle of an agent's release for such a host. Raises HardpointError (SYS.1006)."""
    wanted = dependencies(python, (agent.name,))
    reasons = []
    ways: list[Callable[[], list[Packaged]]] = [
        lambda: from_installed(wanted, python),
        lambda: from_folder(wanted, python, sources.folder),
        lambda: from_index(wanted, python, sources.index),
    ]
    for take in ways:
        try:
            return _archive([*take(), _agent(agent)], python)
        except Missing as missing:
            reasons.append(str(missing))
    raise HardpointError(
        "SYS.1006",
        "Operation failed",
        f"there are no wheels of the agent's dependencies for the host ({python}): {'; '.join(reasons)}",
        remedy="on a machine with Internet, run `python -m mn wheelhouse --python "
        f"{python.dotted} --architecture {python.architecture} --to FOLDER` and copy the folder's files to "
        f"{sources.folder} on the management node",
    )


def pack_node(python: HostPython) -> tuple[str, bytes]:
    """Return the version and the bundle of the management node itself, for the role `mn`.

    Raises HardpointError (SYS.1006) when this environment's packages do not run on such a machine.
    """
    own = metadata.distribution(OWN)
    folder = f"{OWN}-{own.version}.dist-info"
    files = dict(_node_files()) | {f"{folder}/METADATA": (own.read_text("METADATA") or "").encode()}
    wanted = dependencies(python, NODE_EXTRAS)
    digest = hashlib.sha256(msgspec.json.encode(sorted(wanted.items())))
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])}\n".encode() + files[name])
    version = f"{own.version}+{digest.hexdigest()[:12]}"
    try:
        packaged = [*from_installed(wanted, python), Packaged(OWN, own.version, files)]
    except Missing as missing:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"the management node cannot be packed for {python}: {missing}",
            remedy="pack it on a machine with the same Python and architecture",
        ) from missing
    return version, _archive(packaged, python)


def _node_files() -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of what the management node is made of, the playbooks included."""
    root = Path(__file__).parents[2]
    for package in NODE_PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix(), path.read_bytes()
    playbooks = ansible_directory()
    for path in sorted(playbooks.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"mn/ansible/{path.relative_to(playbooks).as_posix()}", path.read_bytes()


def _archive(packaged: Iterable[Packaged], python: HostPython) -> bytes:
    """Return a tar.gz, the same for the same files, with bytecode when this Python makes the host's."""
    files: dict[str, bytes] = {}
    for each in packaged:
        files |= each.files
    if python.version == sys.version_info[:2]:
        files |= _bytecode(files)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(files[name]), 0o755 if name.endswith(".so") else 0o644
            tar.addfile(member, io.BytesIO(files[name]))
    return gzip.compress(raw.getvalue(), compresslevel=6, mtime=0)


def _bytecode(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the compiled modules, valid whatever times their sources get."""
    from py_compile import PycInvalidationMode

    with tempfile.TemporaryDirectory(prefix="hardpoint-wheelhouse-") as temporary:
        root = Path(temporary)
        for name, content in files.items():
            if name.endswith(".py"):
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        compileall.compile_dir(
            root, quiet=2, stripdir=str(root), invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.pyc")}


def host_python(version: tuple[int, int] | None, architecture: str, libc: str | None) -> HostPython:
    """Return the kind of a host. Raises HardpointError (SYS.1006) when it has no Python."""
    if version is None:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            "the host has no Python",
            remedy="install python3 (3.11 or newer) on the host and try again",
            blame=Blame.CALLER,
        )
    match = re.fullmatch(r"glibc (\d+)\.(\d+)", libc or "")
    return HostPython(version, architecture, (int(match[1]), int(match[2])) if match else None)


def fill(folder: Path, python: HostPython, index: str = "") -> list[str]:
    """Download the wheels of the agents' dependencies for such hosts; return them as `name==version`.

    For a machine with Internet. Raises HardpointError (SYS.1006) with what pip said.
    """
    check_python(python)
    wanted = dependencies(python)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download(wanted, python, folder, index)
    except (OSError, Missing) as error:
        raise HardpointError(
            "SYS.1006",
            "Operation failed",
            f"the wheels for {python} were not downloaded to {folder}: {error}",
            remedy="run this on a machine that reaches a package index, or give one with --index",
        ) from error
    return [f"{name}=={version}" for name, version in sorted(wanted.items())]


def main() -> int:
    """Make one bundle: the order on standard input, an error on standard output."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    path = Path(order.path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = pack(order.python, Sources(Path(order.folder), order.index), AGENTS[order.agent])
        write_durably(path, content)
    except HardpointError as error:
        sys.stdout.buffer.write(msgspec.json.encode(error.to_body()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
