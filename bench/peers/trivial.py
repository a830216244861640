"""The least that aiohttp can do: `trivial READY [BODY]` answers every GET with the same bytes.

`READY` is the file that tells the port. With `--tls CERTIFICATE KEY CA` it is an HTTPS server that wants
client certificates, as an agent is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
from pathlib import Path

from aiohttp import web


async def serve(arguments: argparse.Namespace) -> None:
    body = arguments.body.read_bytes() if arguments.body else b"{}"

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=_context(arguments.tls)).start()
    fresh = arguments.ready.with_suffix(".new")
    fresh.write_text(json.dumps({"port": runner.addresses[0][1]}))
    fresh.rename(arguments.ready)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await runner.cleanup()


def _context(files: list[str] | None) -> ssl.SSLContext | None:
    if not files:
        return None
    certificate, key, ca = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("ready", type=Path)
    parser.add_argument("body", type=Path, nargs="?")
    parser.add_argument("--tls", nargs=3)
    asyncio.run(serve(parser.parse_args()))
