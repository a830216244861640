"""Root volumes of images: an image comes to a storage once and stays below all that is made of it."""

from __future__ import annotations

import functools
import hashlib
import http.server
import ssl
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme

from tests.integration.hosts.conftest import make_machine
from tests.integration.storage.conftest import MB, Place
from tests.integration.storage.test_local import failed, holds, run, write
from tests.node import Answer, Node

PROGRAM = (str(Path(__file__).with_name("imaging_node.py")),)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files and counts how often."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args: Any) -> None:
        """Be quiet."""


@dataclass
class Server:
    """An image server with an authority of its own."""

    folder: Path
    url: str
    ca: str

    def image(self, name: str, pattern: int, **wrong: Any) -> dict[str, Any]:
        """Serve an image; return how it is asked for."""
        file = self.folder / name
        run("qemu-img", "create", "-q", "-f", "qcow2", str(file), str(8 * MB))
        write(file, pattern)
        content = file.read_bytes()
        return {
            "uuid": uuid.uuid4().hex,
            "url": f"{self.url}/{name}",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "virtual_size": 8 * MB,
            "format": "qcow2",
            "ca": self.ca,
            **wrong,
        }


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("images")
    make_machine(directory / "machine")
    environment = {"HARDPOINT_LOCAL_AGENT_ROOT": str(directory / "machine")}
    node = Node(directory / "state", environment, PROGRAM)
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, authority = tmp_path_factory.mktemp("served"), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    handler = functools.partial(Handler, directory=str(folder))
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving.socket = context.wrap_socket(serving.socket, server_side=True)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    url = f"https://127.0.0.1:{serving.server_address[1]}"
    yield Server(folder, url, authority.cert_pem.bytes().decode())
    serving.shutdown()
    thread.join()


def root_volume(place: Place, image: dict[str, Any], host: int = 0) -> Answer:
    params = {"image": image, "storageUuid": place.storage, "hostUuid": place.hosts[host]}
    return place.admin.run("POST", "/test/root-volumes", {"params": params})


def clean_up(place: Place) -> None:
    path = f"/primary-storage/{place.storage}/actions"
    assert place.act(path, "cleanUpImageCacheOnPrimaryStorage").body == {}


def cached(place: Place, host: int = 0) -> list[Path]:
    return [file for file in place.files(host) if "imagecache" in file.parts]


def test_an_image_comes_once_for_all_volumes_and_stays_while_there_is_one(
    place: Place, server: Server
) -> None:
    before = place.available(0)
    image = server.image("debian.qcow2", 4)
    volumes = [root_volume(place, image).body["inventory"] for _ in range(2)]
    assert Handler.asked.count("/debian.qcow2") == 1
    for volume in volumes:
        expected = {"type": "Root", "status": "Ready", "rootImageUuid": image["uuid"], "size": 8 * MB}
        assert expected.items() <= volume.items()
        assert holds(place.file(0, volume["installPath"]), 4)
    assert len(cached(place)) == 1
    assert place.available(0) == before - 2 * 8 * MB - image["size"]
    clean_up(place)
    assert len(cached(place)) == 1
    kinds = place.admin.query("/primary-storage/local-storage/resource-refs", f"resourceUuid={image['uuid']}")
    assert [(ref["resourceType"], ref["size"]) for ref in kinds] == [("ImageCacheVO", image["size"])]


def test_an_image_that_is_not_what_was_said_is_not_used(place: Place, server: Server) -> None:
    broken = server.image("broken.qcow2", 5, sha256="0" * 64)
    before = place.available(0)
    assert "has the SHA-256" in failed(root_volume(place, broken), "SYS.1006")
    assert place.available(0) == before
    assert len(cached(place)) == 1, "nothing of it is left"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"size": 5}, "not 5"),
        ({"virtual_size": 2**50}, "too little room"),
        ({"format": "exe"}, "is not known"),
    ],
)
def test_an_image_that_cannot_be_had_makes_no_volume(
    place: Place, server: Server, wrong: dict[str, Any], reason: str
) -> None:
    before = place.available(0), len(place.admin.query("/volumes"))
    answer = root_volume(place, server.image(f"{uuid.uuid4().hex}.qcow2", 6, **wrong))
    assert answer.status == 503
    assert reason in answer.error["details"]
    assert (place.available(0), len(place.admin.query("/volumes"))) == before


def test_an_image_on_another_file_is_refused(place: Place, server: Server) -> None:
    image = server.image("trap.qcow2", 7)
    trap = server.folder / "trap.qcow2"
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", str(trap))
    image |= {"sha256": hashlib.sha256(trap.read_bytes()).hexdigest(), "size": trap.stat().st_size}
    assert "on /etc/passwd" in failed(root_volume(place, image), "SYS.1006")
