"""The guests' images: built once, kept under a key of what they are made of, built anew when that changes."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.places import LabError, cache, run, say

BUILD_TIMEOUT_S = 1800
LOCK_TIMEOUT_S = BUILD_TIMEOUT_S + 60
KEPT = 3  # image sets in the cache, the last used: branches of a repository differ in theirs
HERE = Path(__file__).parent
# What these files say is the key; how it is laid out and commented is not
MADE_BY = ("fresh.packages", "full.packages", "image_files.py", "image_build.py")


@dataclass(frozen=True)
class ImageSet:
    """A finished build; see image_build.py for what is in it."""

    folder: Path

    @property
    def key(self) -> str:
        """What the images are made of, hashed."""
        return self.folder.name

    def disk(self, image: str) -> Path:
        """Return the disk of an image: `fresh` or `full`."""
        return self.folder / f"{image}.qcow2"

    @property
    def kernel(self) -> Path:
        """The kernel, for a boot without boot loader."""
        return self.folder / "vmlinux"

    @property
    def initrd(self) -> Path:
        """The initial RAM disk, for a boot without boot loader."""
        return self.folder / "initrd.cpio"

    @property
    def ssh_key(self) -> Path:
        """The private key that every guest lets in as root."""
        return self.folder / "id_lab"

    @property
    def index(self) -> Path:
        """The repository index of the packages that are installed in `full`."""
        return self.folder / "Packages"

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the images from being removed by a build of other ones; a process that dies lets go."""
        with (self.folder / "used").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield


def key_of(parts: Iterable[bytes]) -> str:
    """Return the cache key of what an image is made of; the order counts, the borders between parts too."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def current_key() -> str:
    """Return the key of the images that this source tree wants."""
    return key_of(meaning(HERE / name) for name in MADE_BY)


def meaning(path: Path) -> bytes:
    """Return a file's content without what does not count: of Python, comments and layout."""
    text = path.read_text()
    return (ast.dump(ast.parse(text)) if path.suffix == ".py" else text).encode()


def folders() -> Mapping[str, Path]:
    """Return the cache's folders: `images`, `debs`."""
    made = {name: cache() / name for name in ("images", "debs")}
    for path in made.values():
        path.mkdir(exist_ok=True)
    return made


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Wait for other builds, those of other processes too."""
    with lock.open("w") as file:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    say("another process builds the images; waiting for it")
                    told = True
                if time.monotonic() > deadline:
                    raise LabError(f"another build did not end in {LOCK_TIMEOUT_S} s: {lock}") from None
                time.sleep(0.5)
        yield


def ensure() -> ImageSet:
    """Return the images that this source tree wants; builds them if they are not there (needs root)."""
    images = folders()["images"]
    wanted = ImageSet(images / current_key())
    with _only_one(images / "lock"):
        if not wanted.folder.exists():
            _build(wanted)
        os.utime(wanted.folder)
        _remove_old(images, wanted)
    return wanted


def _build(wanted: ImageSet) -> None:
    """Build into a temporary folder and give it its name when it is whole; leftovers of killed builds go."""
    if os.geteuid() != 0:
        raise LabError("building the lab's images needs root: sudo make lab")
    for leftover in wanted.folder.parent.glob("partial-*"):
        shutil.rmtree(leftover)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=wanted.folder.parent))
    say(f"building the guests' images in {wanted.folder} (once; some minutes)")
    begin = time.monotonic()
    module = [sys.executable, "-m", "tests.lab.image_build", partial, folders()["debs"]]
    # In a process namespace whose init dies with this process, nothing of the build outlives it
    box = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    repository = HERE.parents[1]
    try:
        argv = [str(word) for word in [*box, *module]]
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        subprocess.run(argv, check=True, timeout=BUILD_TIMEOUT_S, env=environment, stdin=subprocess.DEVNULL)
        partial.rename(wanted.folder)
    except subprocess.CalledProcessError as error:
        raise LabError(f"the images could not be built (exit code {error.returncode}); see above") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"the images were not built in {BUILD_TIMEOUT_S} s") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"{time.monotonic() - begin:6.1f} s  altogether; {run(['du', '-sh', wanted.folder], 60).split()[0]}")


def _remove_old(images: Path, wanted: ImageSet) -> None:
    """Remove the sets that have not been used for longest and are not in use."""
    others = [path for path in images.iterdir() if path.is_dir() and path != wanted.folder]
    newest_first = sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in newest_first[KEPT - 1 :]:
        with (folder / "used").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(folder)
