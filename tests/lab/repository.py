"""The package repository that the guests' apt is pointed to: the image's packages and new ones."""

from __future__ import annotations

import http.server
import shutil
import threading
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab import debs
from tests.lab.image import ImageSet, folders
from tests.lab.image_files import REPOSITORY_PORT
from tests.lab.network import Network, address


class Repository:
    """Serves over HTTP inside the lab from `start` to `close`; packages come and go meanwhile."""

    def __init__(self, images: ImageSet, folder: Path) -> None:
        folder.mkdir()
        self.url = f"http://{address(0, 1)}:{REPOSITORY_PORT}/"
        self.requests: list[str] = []  # paths that were asked for
        self._folder = folder
        self._mirrored = folders()["debs"]
        self._base = images.index.read_text()
        self._added: dict[str, str] = {}  # file name -> its stanza
        self._server: http.server.ThreadingHTTPServer | None = None

    def start(self, network: Network) -> None:
        """Begin to serve on the lab's network."""
        repository = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                repository.answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        with network.entered():  # a socket stays in the namespace in which it was made
            self._server = http.server.ThreadingHTTPServer(("0.0.0.0", REPOSITORY_PORT), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="repository", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def add(self, package: Path) -> None:
        """Offer a package file."""
        target = self._folder / package.name
        if target != package:
            shutil.copy(package, target)
        self._added[package.name] = debs.stanza(target)

    def make(self, name: str, version: str, **content: Any) -> Path:
        """Make a package and offer it; `content` as debs.make takes it."""
        package = debs.make(self._folder, name, version, **content)
        self.add(package)
        return package

    def withdraw(self, name: str, version: str) -> None:
        """Offer a package that was added no longer."""
        del self._added[f"{name}_{version.replace(':', '%3a')}_all.deb"]

    def withdraw_all(self) -> None:
        """Offer only what the images are made of."""
        self._added.clear()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Answer a request of apt."""
        path = urllib.parse.urlsplit(request.path).path
        self.requests.append(path)
        content = self._content(path)
        request.send_response(200 if content is not None else 404)
        request.send_header("Content-Length", str(len(content or b"")))
        request.end_headers()
        request.wfile.write(content or b"")

    def _content(self, path: str) -> bytes | None:
        packages = "\n".join([self._base, *self._added.values()]).encode()
        made: Mapping[str, bytes] = {"Packages": packages, "Release": debs.release(packages)}
        name = path.removeprefix("/").removeprefix("./")
        if name in made:
            return made[name]
        # File names hold a %3a of their own, which apt sends as %253a
        for folder in (self._folder, self._mirrored):
            file = folder / urllib.parse.unquote(name)
            if file.suffix == ".deb" and file.parent == folder and file.is_file():
                return file.read_bytes()
        return None
