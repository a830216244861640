"""A minimal Debian tree that stands for a bare machine and reaches what this machine reaches.

Made by debootstrap, kept as a tar, given a clean clone of HEAD and this machine's way to its package mirror
and pip index. Must run as root in mount and process namespaces of its own: scripts/bare sees to that.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

SUITE = "bookworm"
PACKAGES = ("python3", "make")
CACHE_DAYS = 30
PROJECT = Path(__file__).resolve().parents[1]
CLONE = Path("srv/hardpoint")

BASE_LIMIT_S, UNPACK_LIMIT_S, CLONE_LIMIT_S = 900, 120, 120

CA_BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")
PASSED_ON = re.compile(
    r"(PIP_\w+|\w+_proxy|\w+_PROXY|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|HARDPOINT_(CRASH_SEEDS|REQUIRE_ALL)|CI)"
)
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


class StageError(Exception):
    """A stage failed; `log` holds what it printed."""

    def __init__(self, reason: str, log: Path | None = None) -> None:
        super().__init__(reason)
        self.log = log


def start(argv: list[str], log: Path, environment: dict[str, str] | None) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, its output in `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
        )


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether `process` has ended; reaps the orphans of the namespace on the way, being its init."""
    while process.returncode is None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return False
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
    return True


def run_logged(argv: list[str], log: Path, limit_s: float, environment: dict[str, str] | None) -> None:
    """Run a command to its end. Raises StageError when it fails or takes too long."""
    process = start(argv, log, environment)
    deadline = time.monotonic() + limit_s
    while not ended(process):
        if time.monotonic() > deadline:
            raise StageError(f"not done in {limit_s:.0f} s", log)
        time.sleep(0.05)
    if process.returncode != 0:
        raise StageError(f"exit code {process.returncode}", log)


def in_tree(tree: Path, *command: str) -> list[str]:
    """Return the argv that runs `command` in the clone in the tree."""
    return ["chroot", str(tree), "/bin/sh", "-c", 'cd "$0" && exec "$@"', f"/{CLONE}", *command]


def processes(tree: Path) -> list[str]:
    """Return the command lines of all that runs in the namespace but its init, which we are."""
    found = []
    for entry in (tree / "proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if entry.name != "1" and state != "Z":
                found.append(
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                )
    return found


def cached_base(suite: str, packages: tuple[str, ...]) -> Path:
    """Return where the tar of the base tree is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hardpoint"
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return cache / f"{suite}-{architecture}-{'-'.join(packages)}.tar"


def apt_targets() -> list[dict[str, str]]:
    """Return the package lists that this machine's apt reads, as the fields of `apt-get indextargets`."""
    argv = ["apt-get", "indextargets", "Created-By: Packages"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return [
        dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        for paragraph in text.split("\n\n")
        if paragraph.strip()
    ]


def apt_sources(targets: list[dict[str, str]], suite: str) -> tuple[str | None, list[Path]]:
    """Return the mirror of `suite` and the source files that serve it, of what apt reads here."""
    serving = [t for t in targets if re.fullmatch(rf"{suite}(-.*)?", t.get("Release", ""))]
    mirrors = [t["Repo-URI"] for t in serving if t["Release"] == suite and t.get("Component") == "main"]
    files = {Path(t["Sourcesentry"].rpartition(":")[0]) for t in serving if "Sourcesentry" in t}
    return (mirrors[0] if mirrors else None), sorted(files)


def apt_acquire_settings() -> str:
    """Return how this machine's apt fetches (proxies, dates...), without the hooks of installed packages."""
    text = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return "".join(f"{line}\n" for line in text.splitlines() if re.match(r'Acquire::\S+ "', line))


def apt_proxy() -> dict[str, str]:
    """Return apt's proxy as the environment that debootstrap's downloader reads."""
    argv = [
        "apt-config",
        "shell",
        "http_proxy",
        "Acquire::http::Proxy",
        "https_proxy",
        "Acquire::https::Proxy",
    ]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^(\w+)='(.+)'$", text, re.MULTILINE))


def make_base(tree: Path, log: Path) -> str:
    """Make the tar of the base tree unless there is a recent one."""
    cached = cached_base(SUITE, PACKAGES)
    if cached.exists() and time.time() - cached.stat().st_mtime < CACHE_DAYS * 86400:
        return f"kept from before: {cached}"
    mirror, _ = apt_sources(apt_targets(), SUITE)
    packages = f"--include={','.join(PACKAGES)}"
    argv = ["debootstrap", "--variant=minbase", packages, SUITE, str(tree), *([mirror] if mirror else [])]
    run_logged(argv, log, BASE_LIMIT_S, {**apt_proxy(), **os.environ})
    for package in (tree / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    cached.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}.partial")
    try:
        subprocess.run(["tar", "--numeric-owner", "-C", tree, "-cf", partial, "."], check=True)
        partial.replace(cached)
    finally:
        partial.unlink(missing_ok=True)
    shutil.rmtree(tree)
    return f"debootstrap {SUITE}"


def unpack(tree: Path, log: Path) -> str:
    """Lay the base tree out."""
    tree.mkdir()
    cached = cached_base(SUITE, PACKAGES)
    argv = ["tar", "--numeric-owner", "-C", str(tree), "-xf", str(cached)]
    run_logged(argv, log, UNPACK_LIMIT_S, None)
    return f"{SUITE} with {' and '.join(PACKAGES)}"


def clone(tree: Path, log: Path) -> str:
    """Put a clean clone of HEAD in the tree: nothing that git ignores or that is not committed."""
    git = ["git", "-C", str(PROJECT)]
    head = subprocess.run([*git, "log", "-1", "--format=%h %s"], capture_output=True, text=True, check=True)
    argv = ["git", "clone", "--quiet", "--no-hardlinks", str(PROJECT), str(tree / CLONE)]
    run_logged(argv, log, CLONE_LIMIT_S, None)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, check=True
    )
    return head.stdout.strip()[:60] + (" (what is not committed is left out)" if changed.stdout else "")


# This machine's way to its package mirror and pip index


def pip_files(home: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (file here, path in the tree) of what pip reads beside the environment."""
    root = Path("root")
    for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"):
        yield Path(folder) / "pip/pip.conf", Path("etc/xdg/pip/pip.conf")
    yield Path("/etc/pip.conf"), Path("etc/pip.conf")
    yield home / ".pip/pip.conf", root / ".pip/pip.conf"
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    yield config / "pip/pip.conf", root / ".config/pip/pip.conf"
    yield home / ".netrc", root / ".netrc"


def apt_files(sources: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (file here, path in the tree) of sources, keys and logins of apt."""
    apt = Path("/etc/apt")
    kept = [*sources, apt / "trusted.gpg", apt / "auth.conf"]
    for folder in ("trusted.gpg.d", "keyrings", "auth.conf.d"):
        kept += sorted(path for path in (apt / folder).glob("*") if path.is_file())
    for path in kept:
        yield path, path.relative_to("/")


def certificates() -> Iterator[tuple[Path, Path]]:
    """Yield (file here, path in the tree) of the authorities that this machine trusts.

    The bundle stands among the local ones too: from those a package with ca-certificates makes it anew.
    """
    yield Path("/") / CA_BUNDLE, CA_BUNDLE
    yield Path("/") / CA_BUNDLE, Path("usr/local/share/ca-certificates/as-trusted-outside.crt")


def passed_on_environment() -> dict[str, str]:
    """Return the environment of commands in the tree."""
    kept = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "HARDPOINT_CRASH_SEEDS": "10",
        **kept,
        "PATH": path,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


def named_paths(text: str) -> set[Path]:
    """Return the files and folders that a configuration names; of a file:// index the folder around it.

    An index page links to the archives beside it, so the folder above it is what is needed.
    """
    urls = {Path(path) for path in re.findall(r"file://(/[^\s\"',;]+)", text)}
    around = {path.parent if len(path.parts) > 3 else path for path in urls}
    plain = {Path(path) for path in re.findall(r"(?<![\w/:.~-])(/[^\s\"',;:]+)", text)}
    return around | plain


def configure(tree: Path) -> str:
    """Give the tree this machine's configuration of apt, pip and trust; let no package start a service."""
    _, sources = apt_sources(apt_targets(), SUITE)
    if sources:
        (tree / "etc/apt/sources.list").unlink(missing_ok=True)
    acquire = apt_acquire_settings()
    (tree / "etc/apt/apt.conf.d/99outside").write_text(acquire)
    texts = [acquire, *passed_on_environment().values()]
    pip_config = os.environ.get("PIP_CONFIG_FILE", os.devnull)
    files = [
        *apt_files(sources),
        *pip_files(Path.home()),
        *certificates(),
        (Path(pip_config), Path(pip_config[1:])),
    ]
    for here, there in files:
        if not here.is_file():
            continue
        target = tree / there
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(here, target)
        if here.suffix in {".conf", ".list", ".sources"}:
            texts.append(re.sub(r"#.*", "", here.read_text(errors="replace")))
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    shutil.copy("/etc/hosts", tree / "etc/hosts")
    (tree / "etc/hostname").write_text(f"{socket.gethostname()}\n")
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    shown = mount_all(tree, {path for text in texts for path in named_paths(text)})
    return f"with {', '.join(shown)} read-only" if shown else ""


# Mounts: made in a mount namespace of our own, so none is ever seen outside and all end with it


def mount(*arguments: str | Path) -> None:
    """Call mount(8)."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def mount_all(tree: Path, named: set[Path]) -> list[str]:
    """Mount the kernel's file systems, and read-only those of the `named` paths that exist only outside."""
    for folder in ("proc", "sys", "dev", "run", "tmp"):
        (tree / folder).mkdir(exist_ok=True)
    mount("-t", "proc", "proc", tree / "proc")
    mount("-t", "sysfs", "-o", "ro", "sysfs", tree / "sys")
    loopback = "sys/devices/virtual/net/lo"  # writable: tests make the kernel's device events there
    mount("--bind", f"/{loopback}", tree / loopback)
    mount("-t", "tmpfs", "-o", "mode=755,nosuid,nodev", "tmpfs", tree / "run")
    mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "tmpfs", tree / "tmp")
    mount("-t", "tmpfs", "-o", "mode=755,nosuid", "tmpfs", tree / "dev")
    for name in DEVICES:
        (tree / "dev" / name).touch()
        mount("--bind", f"/dev/{name}", tree / "dev" / name)
    for name in ("pts", "shm"):
        (tree / "dev" / name).mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620,gid=5", "devpts", tree / "dev/pts")
    mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "tmpfs", tree / "dev/shm")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        (tree / "dev" / name).symlink_to(target)
    shown = []
    for path in sorted(named):
        there = tree / path.relative_to("/")
        if path.exists() and not there.exists() and path.parts[1] not in {"proc", "sys", "dev", "run", "tmp"}:
            if path.is_dir():
                there.mkdir(parents=True)
            else:
                there.parent.mkdir(parents=True, exist_ok=True)
                there.touch()
            mount("--bind", "-o", "ro", path, there)
            shown.append(str(path))
    return shown
