"""The storage agent as a process: images come and go by HTTP, and it is killed at it."""

from __future__ import annotations

import hashlib
import http.server
import json
import random
import ssl
import sys
import threading
import uuid as uuids
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.helpers import small_disk
from tests.integration.agent.conftest import Agent, Client

MIB = 1024 * 1024
IMAGE = random.Random(7).randbytes(9 * MIB) + bytes(3 * MIB) + random.Random(8).randbytes(MIB + 77)
FLEET = "f" * 32


def new_uuid() -> str:
    return uuids.uuid4().hex


class Web:
    """A web server of one image that can break off, be without ranges, and answer with an error."""

    def __init__(self) -> None:
        self.content = IMAGE
        self.break_after: int | None = None
        self.status = 200
        self.ranges = True
        self.asked: list[str | None] = []
        self.paused = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://user:hunter2@127.0.0.1:{self.server.server_address[1]}/disk.raw"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        given = handler.headers.get("Range")
        self.asked.append(given)
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and self.ranges else 0
        if self.status != 200:
            handler.send_error(self.status)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        if start:
            end = len(self.content)
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        handler.end_headers()
        limit, self.break_after = self.break_after, None
        if limit is not None:
            handler.wfile.write(body[:limit])
            handler.wfile.flush()
            self.paused.set()
            self.go_on.wait(60)
            handler.connection.close()
        else:
            handler.wfile.write(body)


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.go_on.set()
    web.server.shutdown()


@pytest.fixture
def make_store(make_agent: Callable[..., Agent], tmp_path: Path) -> Callable[..., Agent]:
    def make(name: str = "store") -> Agent:
        agent = make_agent(name)
        agent.state_dir.mkdir(parents=True)
        config = {
            "listen_address": "127.0.0.1",
            "port": 0,
            "state_dir": str(agent.state_dir),
            "certificate": str(agent.pki.directory / "server.pem"),
            "key": str(agent.pki.directory / "server.key"),
            "ca": str(agent.pki.ca_file),
        }
        file = agent.state_dir / "agent.toml"
        file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items()))
        agent.command = [sys.executable, "-m", "storageagent", "serve", "--config", str(file)]
        return agent.start()

    return make


async def done(client: Client, command: str, **params: Any) -> dict[str, Any]:
    """Have something done that must go well."""
    report = await task(client, command, **params)
    assert report["state"] == "Succeeded", report
    result: dict[str, Any] = report["result"]
    return result


async def task(client: Client, command: str, **params: Any) -> dict[str, Any]:
    status, report = await client.task(new_uuid(), {"command": command, **params}, wait=60)
    assert status == 200, report
    assert isinstance(report, dict)
    return report


async def connected(client: Client, folder: Path, host: str = "a" * 32) -> dict[str, Any]:
    return await done(client, "connect", hostUuid=host, fleetUuid=FLEET, url=str(folder))


def described(url: str = "", **more: Any) -> dict[str, Any]:
    return {"uuid": new_uuid(), "name": "disk", "format": "raw", "url": url, **more}


async def download(agent: Agent, path: str, **headers: str) -> tuple[int, bytes, Any]:
    """GET as somebody without a certificate who knows the CA."""
    context = ssl.create_default_context(cafile=str(agent.pki.ca_file))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(agent.url + path, headers=headers) as response,
    ):
        return response.status, await response.read(), response.headers


async def test_an_image_comes_by_http_and_goes_by_a_token_in_ranges(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent = make_store()
    async with agent.client() as client:
        report = (await connected(client, tmp_path / "bs"))["inventory"]
        assert report["url"] == str(tmp_path / "bs")
        assert 0 < report["availableBytes"] <= report["totalBytes"]
        image = described(web.url)
        stored = await done(client, "importImage", image=image)
        assert stored["sha256"] == hashlib.sha256(IMAGE).hexdigest()
        assert (stored["sizeBytes"], stored["virtualBytes"]) == (len(IMAGE), len(IMAGE))
        assert "hunter2" not in json.dumps(await done(client, "listImages"))
        grant = await done(client, "grantDownload", imageUuid=image["uuid"], lifetimeS=60)
        status, body, headers = await download(agent, grant["path"])
        assert (status, body) == (200, IMAGE)
        assert headers["ETag"] == f'"{stored["sha256"]}"'
        status, body, headers = await download(agent, grant["path"], Range="bytes=1000000-")
        assert (status, body) == (206, IMAGE[1_000_000:])
        assert headers["Content-Range"] == f"bytes 1000000-{len(IMAGE) - 1}/{len(IMAGE)}"
        status, body, _ = await download(agent, grant["path"], Range="bytes=-5")
        assert (status, body) == (206, IMAGE[-5:])
        status, body, _ = await download(agent, grant["path"], Range="bytes=5-9", **{"If-Range": '"other"'})
        assert (status, len(body)) == (200, len(IMAGE))
        status, _, _ = await download(agent, grant["path"], Range=f"bytes={len(IMAGE)}-")
        assert status == 416


async def test_without_a_certificate_there_are_no_commands_and_without_a_token_no_image(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent = make_store()
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        image, other = described(web.url), described(web.url)
        for each in (image, other):
            await done(client, "importImage", image=each)
        status, body, _ = await download(agent, "/v1/hello")
        assert (status, json.loads(body)["code"]) == (403, "ID.1000")
        grant = await done(client, "grantDownload", imageUuid=image["uuid"], lifetimeS=60)
        name = f"/images/{other['uuid']}/disk"
        expired = await done(client, "grantDownload", imageUuid=other["uuid"], lifetimeS=0.001)
        for path in (name, f"{name}?token={grant['token']}", f"{name}?token=x.y", expired["path"]):
            assert (await download(agent, path))[0] == 403, path
        for path in ("manifests", "chunks"):
            end = "/0" if path == "chunks" else ""
            wrong = f"/{path}/{other['uuid']}{end}?token={grant['token']}"
            assert (await download(agent, wrong))[0] == 403
    async with agent.client("foreign") as stranger:
        with pytest.raises(aiohttp.ClientError):
            await stranger.ask("GET", "/v1/hello")


async def test_an_export_keeps_its_path_until_it_is_deleted(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent = make_store()
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        image = described(web.url)
        await done(client, "importImage", image=image)
        export = await done(client, "exportImage", imageUuid=image["uuid"], lifetimeS=60)
        agent.kill()
        agent.start()
    async with agent.client() as client:
        assert (await download(agent, export["path"]))[1] == IMAGE
        again = await done(client, "exportImage", imageUuid=image["uuid"], lifetimeS=120)
        assert again["path"] == export["path"]
        assert again["expires"] > export["expires"]
        for _ in range(2):
            await done(client, "deleteExport", imageUuid=image["uuid"])
        assert (await download(agent, export["path"]))[0] == 403


async def test_a_source_that_breaks_off_is_gone_on_with_where_it_broke(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent = make_store()
    web.break_after = 9 * MIB
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        stored = await done(client, "importImage", image=described(web.url))
    assert stored["sha256"] == hashlib.sha256(IMAGE).hexdigest()
    assert web.asked[0] is None
    assert web.asked[1] is not None
    assert 0 < int(web.asked[1].removeprefix("bytes=").rstrip("-")) <= 9 * MIB


async def test_a_source_without_ranges_is_read_from_the_beginning(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent = make_store()
    web.break_after, web.ranges = 9 * MIB, False
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        stored = await done(client, "importImage", image=described(web.url))
    assert stored["sha256"] == hashlib.sha256(IMAGE).hexdigest()


async def test_an_agent_that_is_killed_while_an_image_comes_in_brings_it_in_after_its_start(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent, image, number = make_store(), described(web.url), new_uuid()
    web.break_after = 6 * MIB
    web.go_on.clear()
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        await client.task(number, {"command": "importImage", "image": image}, wait=0)
        assert web.paused.wait(60)
        agent.kill()
        web.go_on.set()
        agent.start()
    async with agent.client() as client:
        _, report = await client.ask("GET", f"/v1/tasks/{number}?wait=60")
        assert report["state"] == "Succeeded", report
        assert report["result"]["sha256"] == hashlib.sha256(IMAGE).hexdigest()
        assert (await done(client, "verifyImage", imageUuid=image["uuid"]))["damaged"] == []
    assert list((tmp_path / "bs" / "imports").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "qcow2"}, "it is not qcow2"),
        ({"url": "file:///etc/passwd"}, "no image is taken from below"),
        ({"url": "file:///nowhere/disk.raw"}, "No such file"),
        ({"url": "file:///tmp"}, "it is no regular file"),
        ({"url": "gopher://x/"}, "gopher"),
    ],
)
async def test_what_cannot_be_brought_in_leaves_nothing(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    agent, image = make_store(), described(web.url) | change
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        report = await task(client, "importImage", image=image)
        assert report["state"] == "Failed"
        assert report["error"]["code"] == "SYS.1006"
        assert reason in report["error"]["details"]
        assert "hunter2" not in json.dumps(report)
        await done(client, "reclaimSpace")
    assert [path for path in (tmp_path / "bs").rglob("*/*") if path.is_file()] == []


async def test_a_server_that_has_no_such_image_is_quoted(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent, web.status = make_store(), 404
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        report = await task(client, "importImage", image=described(web.url))
    assert "its server answers 404" in report["error"]["details"]


async def test_an_image_that_is_dropped_while_it_comes_in_ends_there(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent, image, number = make_store(), described(web.url), new_uuid()
    web.break_after = 6 * MIB
    web.go_on.clear()
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        await client.task(number, {"command": "importImage", "image": image}, wait=0)
        assert web.paused.wait(60)
        await done(client, "dropImage", imageUuid=image["uuid"])
        _, report = await client.ask("GET", f"/v1/tasks/{number}?wait=60")
        assert (report["state"], report["error"]["code"]) == ("Failed", "SYS.1006")
        assert "the image is deleted" in report["error"]["details"]
        assert (await done(client, "listImages"))["images"] == []
    assert list((tmp_path / "bs" / "imports").iterdir()) == []


async def test_a_file_of_the_server_is_brought_in(make_store: Callable[..., Agent], tmp_path: Path) -> None:
    agent = make_store()
    (tmp_path / "a disk.raw").write_bytes(IMAGE)
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        image = described(f"file://{tmp_path}/a%20disk.raw")
        stored = await done(client, "importImage", image=image)
        assert stored["sha256"] == hashlib.sha256(IMAGE).hexdigest()


async def put(agent: Agent, path: str, offset: int, data: bytes) -> tuple[int, int]:
    context = ssl.create_default_context(cafile=str(agent.pki.ca_file))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.put(agent.url + path, data=data, headers={"Upload-Offset": str(offset)}) as response,
    ):
        return response.status, int(response.headers["Upload-Offset"])


async def test_a_full_disk_is_said_and_leaves_the_store_as_it_was(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent, folder = make_store(), tmp_path / "bs"
    with small_disk(folder, 8 * MIB):
        async with agent.client() as client:
            await connected(client, folder)
            web.content = IMAGE[: 2 * MIB]
            kept = described(web.url)
            await done(client, "importImage", image=kept)
            before = {path for path in folder.rglob("*") if path.is_file()}
            web.content = IMAGE
            report = await task(client, "importImage", image=described(web.url))
            assert report["error"]["code"] == "BS.1003", report
            assert f"{folder} is full" in report["error"]["details"]
            await done(client, "reclaimSpace")
            assert {path for path in folder.rglob("*") if path.is_file()} == before
            assert (await done(client, "verifyImage", imageUuid=kept["uuid"]))["damaged"] == []
            web.content = IMAGE[2 * MIB : 4 * MIB]
            await done(client, "importImage", image=described(web.url))


async def test_an_upload_goes_on_after_the_agent_was_killed(
    make_store: Callable[..., Agent], tmp_path: Path
) -> None:
    agent, image = make_store(), described()
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        grant = await done(client, "beginUpload", image=image, lifetimeS=300)
        assert await put(agent, grant["path"], 0, IMAGE[: 5 * MIB + 3]) == (200, 5 * MIB + 3)
        assert await put(agent, grant["path"], 0, IMAGE) == (409, 5 * MIB + 3)
        agent.kill()
        agent.start()
    async with agent.client() as client:
        await done(client, "beginUpload", image=image, lifetimeS=300)
        status, offset = await put(agent, grant["path"], 1, b"")
        assert (status, offset) == (409, 5 * MIB), "whole chunks are on disk"
        assert await put(agent, grant["path"], offset, IMAGE[offset:]) == (200, len(IMAGE))
        wrong = await task(client, "finishUpload", imageUuid=image["uuid"], sizeBytes=len(IMAGE) + 1)
        assert f"not {len(IMAGE) + 1} bytes" in wrong["error"]["details"]
        stored = await done(client, "finishUpload", imageUuid=image["uuid"], sizeBytes=len(IMAGE))
        assert stored["sha256"] == hashlib.sha256(IMAGE).hexdigest()


async def test_a_copy_between_stores_moves_only_what_is_missing(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    source, target = make_store("source"), make_store("target")
    async with source.client() as here, target.client() as there:
        await connected(here, tmp_path / "bs1", "1" * 32)
        await connected(there, tmp_path / "bs2", "2" * 32)
        image = described(web.url)
        await done(here, "importImage", image=image)
        web.content = IMAGE[: 8 * MIB]
        await done(there, "importImage", image=described(web.url))
        before = {path.name for path in (tmp_path / "bs2" / "chunks").rglob("*/*")}
        grant = await done(here, "grantDownload", imageUuid=image["uuid"], lifetimeS=60)
        copy = {"imageUuid": image["uuid"], "source": source.url, "token": grant["token"]}
        stored = await done(there, "copyImage", **copy)
        assert stored["sha256"] == hashlib.sha256(IMAGE).hexdigest()
        assert (await done(there, "verifyImage", imageUuid=image["uuid"]))["damaged"] == []
        grown = {path.name for path in (tmp_path / "bs2" / "chunks").rglob("*/*")} - before
        assert len(grown) == 9, "a MiB of noise after the 8, the last one with its tail"
        refused = await task(there, "copyImage", **{**copy, "imageUuid": new_uuid()})
        assert "does not open it" in refused["error"]["details"]


async def test_a_store_given_back_keeps_its_images_for_the_next_owner(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent, image = make_store(), described(web.url)
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        await done(client, "importImage", image=image)
        stolen = {"command": "connect", "hostUuid": "b" * 32, "fleetUuid": "e" * 32, "url": "/x"}
        _, report = await client.task(new_uuid(), stolen)
        assert report["error"]["code"] == "HOST.1003"
        await done(client, "release", hostUuid="a" * 32, fleetUuid=FLEET)
        none = await task(client, "listImages")
        assert "has no image store" in none["error"]["details"]
        await done(client, "connect", hostUuid="b" * 32, fleetUuid="e" * 32, url=str(tmp_path / "bs"))
        (found,) = (await done(client, "listImages"))["images"]
        assert found["image"]["uuid"] == image["uuid"]


async def test_a_store_whose_file_system_is_gone_says_so_and_comes_back(
    make_store: Callable[..., Agent], web: Web, tmp_path: Path
) -> None:
    agent, image = make_store(), described(web.url)
    async with agent.client() as client:
        await connected(client, tmp_path / "bs")
        await done(client, "importImage", image=image)
        agent.terminate()
        agent.exit_code()
        (tmp_path / "bs").rename(tmp_path / "away")
        agent.start()
    async with agent.client() as client:
        gone = await task(client, "takeInventory")
        assert "see whether its file system is mounted" in gone["error"]["details"]
        assert not (tmp_path / "bs").exists()
        (tmp_path / "away").rename(tmp_path / "bs")
        await connected(client, tmp_path / "bs")
        assert len((await done(client, "listImages"))["images"]) == 1
