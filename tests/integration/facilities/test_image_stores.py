"""Image stores on this machine: images come, go, move and survive; management node and agents are killed."""

from __future__ import annotations

import hashlib
import http.server
import os
import random
import signal
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers import wait_until
from tests.node import Answer, Node, Rest

PROGRAM = (str(Path(__file__).with_name("probing_node.py")),)
MIB = 1024 * 1024
IMAGE = random.Random(3).randbytes(5 * MIB) + bytes(2 * MIB) + random.Random(4).randbytes(700_001)
SHA256 = hashlib.sha256(IMAGE).hexdigest()
TIMEOUT_S = 90.0


class Web:
    """A web server of one image that can be made to wait in the middle of it."""

    def __init__(self) -> None:
        self.half_sent, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/disk.raw":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(IMAGE)))
                self.end_headers()
                self.wfile.write(IMAGE[: 3 * MIB])
                self.wfile.flush()
                web.half_sent.set()
                web.go_on.wait(TIMEOUT_S)
                self.wfile.write(IMAGE[3 * MIB :])

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"


@dataclass
class Place:
    """A node with a zone and image stores."""

    node: Node
    directory: Path
    web: Web
    admin: Rest = field(init=False)
    zone: str = field(init=False)

    def __post_init__(self) -> None:
        self.admin = self.node.rest().logged_in()
        self.zone = self.admin.create("/zones", name="zone")["uuid"]

    def add(self, name: str, address: str, **more: Any) -> Answer:
        params = {
            "name": name,
            "hostname": address,
            "username": "root",
            "password": "hunter2",
            "url": str(self.directory / name),
            **more,
        }
        return self.admin.run("POST", "/backup-storage/image-store", {"params": params})

    def added(self, name: str, address: str, *, attach: bool = True, **more: Any) -> str:
        answer = self.add(name, address, **more)
        assert answer.status == 200, answer
        uuid: str = answer.body["inventory"]["uuid"]
        if attach:
            path = f"/zones/{self.zone}/backup-storage/{uuid}"
            assert self.admin.run("POST", path, None).status == 200
        return uuid

    def image(self, *stores: str, url: str = "", **more: Any) -> Answer:
        params = {
            "name": "disk",
            "url": url or f"{self.web.base}/disk.raw",
            "format": "raw",
            "backupStorageUuids": list(stores),
            **more,
        }
        return self.admin.run("POST", "/images", {"params": params})

    def act(self, path: str, operation: str, **params: Any) -> Answer:
        return self.admin.run("PUT", f"{path}/actions", {operation: params})

    def remove(self, path: str) -> Answer:
        return self.admin.run("DELETE", path, None)

    def shown(self, path: str) -> dict[str, Any]:
        (found,) = self.admin.query(path)
        return found

    def chunks(self, name: str) -> list[Path]:
        return [path for path in (self.directory / name / "chunks").glob("*/*") if path.is_file()]

    def reclaim(self, store: str) -> int:
        path = f"/backup-storage/image-store/{store}"
        freed: int = self.act(path, "reclaimSpaceFromImageStore").body["gcResult"]["freedSpaceInBytes"]
        return freed

    def agent(self, store: str) -> psutil.Process:
        home = str(self.node.state / "agents" / store)
        return next(p for p in psutil.process_iter(["cmdline"]) if home in " ".join(p.info["cmdline"] or []))

    def download(self, url: str) -> bytes:
        context = ssl.create_default_context(cafile=str(self.node.state / "ca" / "ca.pem"))
        with urllib.request.urlopen(url, context=context) as answer:
            content: bytes = answer.read()
        return content


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("image-stores")
    node, web = Node(directory / "state", program=PROGRAM), Web()
    node.start()
    try:
        yield Place(node, directory, web)
    finally:
        web.go_on.set()
        node.stop()
        web.server.shutdown()


def test_an_image_is_added_exported_deleted_recovered_and_leaves_nothing(place: Place) -> None:
    store = place.added("life", "127.0.3.1")
    image = place.image(store, description="a disk").body["inventory"]
    assert (image["status"], image["size"], image["actualSize"]) == ("Ready", len(IMAGE), len(IMAGE))
    assert image["sha256Sum"] == SHA256
    (ref,) = image["backupStorageRefs"]
    assert (ref["backupStorageUuid"], ref["status"]) == (store, "Ready")
    path, uuid = f"/images/{image['uuid']}", image["uuid"]
    export = place.act(f"/backup-storage/{store}", "exportImageFromBackupStorage", imageUuid=uuid)
    url = export.body["imageUrl"]
    assert place.shown(path)["exportUrl"] == url
    assert hashlib.sha256(place.download(url)).hexdigest() == SHA256
    again = place.act(f"/backup-storage/{store}", "exportImageFromBackupStorage", imageUuid=uuid)
    assert again.body["imageUrl"] == url
    assert place.remove(f"/backup-storage/{store}/exported-images/{uuid}").body == {}
    with pytest.raises(OSError, match="403"):
        place.download(url)
    assert "exportUrl" not in place.shown(path)
    refused = place.act(path, "expungeImage")
    assert "is not deleted" in refused.error["details"]
    place.remove(path)
    assert place.shown(path)["status"] == "Deleted"
    assert place.act(path, "recoverImage").body["inventory"]["status"] == "Ready"
    place.remove(path)
    assert place.act(path, "expungeImage").status == 200
    assert place.admin.query(path) == []
    assert place.reclaim(store) > 5 * MIB
    assert place.chunks("life") == []


def test_an_image_that_cannot_be_had_leaves_no_row_and_no_chunk(place: Place) -> None:
    store = place.added("nothing", "127.0.3.2")
    failed = place.image(store, url=f"{place.web.base}/missing.raw")
    assert failed.status == 503
    assert "its server answers 404" in failed.error["details"]
    assert place.image(store, format="qcow2").error["details"].startswith("the image cannot be used")
    assert place.admin.query("/images", f"backupStorageRef.backupStorageUuid={store}") == []
    place.reclaim(store)
    assert place.chunks("nothing") == []
    secret = place.admin.call(
        "POST",
        "/images",
        {"params": {"name": "x", "url": "http://a:b@c/", "format": "raw", "backupStorageUuids": [store]}},
    )
    assert secret.status == 400


def test_an_image_comes_though_node_and_agent_are_killed_meanwhile(place: Place) -> None:
    store = place.added("killed", "127.0.3.3")
    place.web.half_sent.clear()
    place.web.go_on.clear()
    params = {
        "name": "disk",
        "url": f"{place.web.base}/disk.raw",
        "format": "raw",
        "backupStorageUuids": [store],
    }
    accepted = place.admin.call("POST", "/images", {"params": params})
    assert place.web.half_sent.wait(TIMEOUT_S)
    place.node.kill()
    os.kill(place.agent(store).pid, signal.SIGKILL)
    place.web.go_on.set()
    place.node.start()
    place.admin = Rest(place.node.url, place.admin.session)
    job = accepted.location.rpartition("/")[2]
    ended = place.admin.wait(f"/api-jobs/{job}")
    assert ended.status == 200, ended
    assert ended.body["inventory"]["sha256Sum"] == SHA256
    wait_until(
        lambda: place.shown(f"/backup-storage/{store}")["status"] == "Connected", "connected again", TIMEOUT_S
    )


def test_a_store_is_deleted_and_added_again_with_its_images(place: Place) -> None:
    store = place.added("again", "127.0.3.4")
    image = place.image(store, platform="Windows").body["inventory"]
    assert place.remove(f"/backup-storage/{store}").status == 200
    assert place.admin.query(f"/images/{image['uuid']}") == []
    assert len(place.chunks("again")) > 20
    back = place.added("again", "127.0.3.4", importImages=True)
    found = place.shown(f"/images/{image['uuid']}")
    assert (found["sha256Sum"], found["platform"], found["status"]) == (SHA256, "Windows", "Ready")
    assert found["backupStorageRefs"][0]["backupStorageUuid"] == back


def test_an_image_moves_to_another_store_and_hosts_are_told_where_it_is(place: Place) -> None:
    here, there = place.added("here", "127.0.3.5"), place.added("there", "127.0.3.6")
    image = place.image(here).body["inventory"]["uuid"]
    candidates = place.admin.call("GET", f"/backup-storage/{here}/migration-candidates").body["inventories"]
    assert there in [each["uuid"] for each in candidates]
    moved = place.act(
        f"/backup-storage/images/{image}",
        "backupStorageMigrateImage",
        srcBackupStorageUuid=here,
        dstBackupStorageUuid=there,
    ).body["inventory"]
    assert [ref["backupStorageUuid"] for ref in moved["backupStorageRefs"]] == [there]
    assert moved["status"] == "Ready"
    place.reclaim(here)
    assert place.chunks("here") == []
    probe = place.act(f"/probes/images/{image}", "probeImageSource", zoneUuid=place.zone)
    source = probe.body["source"]
    assert (source["sha256"], source["size"], source["virtual_size"]) == (SHA256, len(IMAGE), len(IMAGE))
    assert source["format"] == "raw"
    assert source["ca"] == (place.node.state / "ca" / "ca.pem").read_text()
    assert hashlib.sha256(place.download(source["url"])).hexdigest() == SHA256
    other = place.admin.create("/zones", name="other")["uuid"]
    refused = place.act(f"/probes/images/{image}", "probeImageSource", zoneUuid=other)
    assert "no backup storage that is attached" in refused.error["details"]
    place.act(f"/images/{image}", "changeImageState", stateEvent="disable")
    refused = place.act(f"/probes/images/{image}", "probeImageSource", zoneUuid=place.zone)
    assert "is Disabled" in refused.error["details"]


def test_a_zone_that_goes_lets_go_of_its_stores(place: Place) -> None:
    store = place.added("zones", "127.0.3.7")
    zone = place.admin.create("/zones", name="short")["uuid"]
    assert place.admin.run("POST", f"/zones/{zone}/backup-storage/{store}", None).status == 200
    twice = place.admin.run("POST", f"/zones/{zone}/backup-storage/{store}", None)
    assert twice.error["code"] == "SYS.1006"
    assert place.shown(f"/backup-storage/{store}")["attachedZoneUuids"] == [place.zone, zone]
    assert place.admin.query("/zones", f"backupStorageRef.backupStorageUuid={store}", f"uuid={zone}")
    assert place.remove(f"/zones/{zone}").status == 200
    assert place.shown(f"/backup-storage/{store}")["attachedZoneUuids"] == [place.zone]
    gone = place.remove(f"/zones/{zone}/backup-storage/{store}")
    assert gone.error["code"] == "SYS.1003"
    other = place.admin.create("/zones", name="other")["uuid"]
    never = place.remove(f"/zones/{other}/backup-storage/{store}")
    assert "is not attached" in never.error["details"]


def test_a_store_that_is_lost_is_disconnected_and_comes_back(place: Place) -> None:
    store = place.added("lost", "127.0.3.8")
    path = f"/backup-storage/{store}"
    os.kill(place.agent(store).pid, signal.SIGSTOP)
    try:
        wait_until(lambda: place.shown(path)["status"] == "Disconnected", "lost", TIMEOUT_S)
        refused = place.image(store)
        assert "is Disconnected" in refused.error["details"]
    finally:
        os.kill(place.agent(store).pid, signal.SIGCONT)
    wait_until(lambda: place.shown(path)["status"] == "Connected", "found", TIMEOUT_S)
    assert place.act(path, "changeBackupStorageState", stateEvent="disable").status == 200
    assert "is Disabled" in place.image(store).error["details"]


def test_a_server_or_folder_that_is_taken_is_refused_and_nothing_is_left(place: Place) -> None:
    place.added("taken", "127.0.3.9")
    assert "belongs to backup storage" in place.add("more", "127.0.3.9").error["details"]
    strange = place.directory / "strange"
    strange.mkdir()
    (strange / "thesis").touch()
    refused = place.add("strange", "127.0.3.10")
    assert refused.error["code"] == "SYS.1002"
    assert "it has thesis" in refused.error["details"]
    assert place.admin.query("/backup-storage", "name=strange") == []
    assert not any("127.0.3.10" in p.read_text() for p in (place.node.state / "agents").glob("*/agent.toml"))
    for url in ("relative/path", "/etc/images", "/", "/srv/../etc"):
        params = {"name": "x", "hostname": "127.0.3.11", "username": "r", "password": "p", "url": url}
        assert place.admin.call("POST", "/backup-storage/image-store", {"params": params}).status == 400
    assert "hunter2" not in place.node.log()
