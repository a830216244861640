"""The guests' images: built once, kept under a key of what they are made of, built anew when that changes."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab import kept
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
    """Return a file's content without what does not count: of Python, comments, docstrings and layout."""
    text = path.read_text()
    if path.suffix != ".py":
        return text.encode()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            del node.body[0]
    return ast.dump(tree).encode()


def folders() -> Mapping[str, Path]:
    """Return the cache's folders: `images`, `debs`."""
    made = {name: cache() / name for name in ("images", "debs")}
    for path in made.values():
        path.mkdir(exist_ok=True)
    return made


def ensure() -> ImageSet:
    """Return the images that this source tree wants; builds them if they are not there (needs root)."""
    images = folders()["images"]
    wanted = ImageSet(images / current_key())
    with kept.only_one(images, LOCK_TIMEOUT_S):
        if not wanted.folder.exists():
            _build(wanted)
        os.utime(wanted.folder)
        kept.remove_old(images, KEPT)
    return wanted


def _build(wanted: ImageSet) -> None:
    if os.geteuid() != 0:
        raise LabError("building the lab's images needs root: sudo make lab")
    say(f"building the guests' images in {wanted.folder} (once; some minutes)")
    begin = time.monotonic()
    # In a process namespace whose init dies with this process, nothing of the build outlives it
    box = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    with kept.made(wanted.folder) as partial:
        module = [sys.executable, "-m", "tests.lab.image_build", str(partial), str(folders()["debs"])]
        argv = [*box, "--mount-proc", *module]
        try:
            subprocess.run(
                argv, check=True, timeout=BUILD_TIMEOUT_S, env=environment, stdin=subprocess.DEVNULL
            )
        except subprocess.CalledProcessError as error:
            raise LabError(
                f"the images could not be built (exit code {error.returncode}); see above"
            ) from None
        except subprocess.TimeoutExpired:
            raise LabError(f"the images were not built in {BUILD_TIMEOUT_S} s") from None
    say(f"{time.monotonic() - begin:6.1f} s  altogether; {run(['du', '-sh', wanted.folder], 60).split()[0]}")
