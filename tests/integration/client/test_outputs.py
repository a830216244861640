"""Long outputs of scripts, fetched by the command line and the SDK from a real node and a real SSH server."""

from __future__ import annotations

import asyncio
import json
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mnclient import sdk
from mnclient.actions import KvmRunShellAction
from tests.integration.client.conftest import ARGV, Home
from tests.node import Node, Rest
from tests.sshd import Sshd

LENGTH = 3_000_000
SCRIPT = f"head -c {LENGTH} /dev/urandom | tee ~/bytes; head -c 1500000 ~/bytes >&2"


@pytest.fixture
def host(admin: Rest, sshd: Sshd) -> Iterator[str]:
    """A host that runs scripts; its agent is one on this machine."""
    zone = admin.create("/zones", name="outputs")
    cluster = admin.create("/clusters", name="outputs", zoneUuid=zone["uuid"], hypervisorType="KVM")
    made = admin.create(
        "/hosts/kvm",
        name="outputs",
        clusterUuid=cluster["uuid"],
        managementIp=sshd.address,
        sshPort=sshd.port,
        username=sshd.account.name,
        password=sshd.account.password,
    )
    yield made["uuid"]
    assert admin.run("DELETE", f"/zones/{zone['uuid']}?deleteMode=Enforcing", None).status == 200


def _printed(sshd: Sshd) -> bytes:
    """What the script has printed on the host."""
    return (Path(pwd.getpwnam(sshd.account.name).pw_dir) / "bytes").read_bytes()


def _run(user: Home, host: str) -> dict[str, Any]:
    done = user.run("cli", "KvmRunShell", f"hostUuids={host}", f"script={SCRIPT}")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)["inventory"][host]
    return result


def test_the_command_line_fetches_what_a_script_printed(user: Home, host: str, sshd: Sshd) -> None:
    result = _run(user, host)
    done = user.run("shell-output", result["stdoutLocation"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"file": f"{host}.stdout", "bytes": LENGTH}
    assert (user.folder / f"{host}.stdout").read_bytes() == _printed(sshd)
    done = user.run("shell-output", result["stderrLocation"], "errors", "--output", "yaml")
    assert done.returncode == 0, done.stderr
    assert (user.folder / "errors").read_bytes() == _printed(sshd)[:1_500_000]


def test_a_fetch_that_was_cut_off_goes_on_where_it_was(user: Home, host: str, sshd: Sshd) -> None:
    location = _run(user, host)["stdoutLocation"]
    argv = ["prlimit", "--fsize=1000000", *ARGV, "shell-output", location, "out"]
    cut = subprocess.run(
        argv, env=user.environment, cwd=user.folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert cut.returncode == 1
    assert "out cannot be written: File too large" in cut.stderr
    assert not (user.folder / "out").exists()
    (part,) = user.folder.glob(".out.*.part")
    assert 0 < part.stat().st_size <= 1_000_000
    kept = part.stat().st_ino
    done = user.run("shell-output", location, "out")
    assert done.returncode == 0, done.stderr
    assert list(user.folder.glob(".out.*")) == []
    assert (user.folder / "out").read_bytes() == _printed(sshd)
    assert (user.folder / "out").stat().st_ino == kept, "the same file has grown"


def test_what_is_refused_is_said_in_words(user: Home) -> None:
    gone = f"/zstack/v1/hosts/kvm/shell-outputs/{'0' * 32}/{'1' * 32}/stdout"
    done = user.run("shell-output", gone, "out")
    assert done.returncode == 1
    assert "SYS.1003" in done.stderr
    assert "run the script again" in done.stderr
    done = user.run("shell-output", "stdout")
    assert done.returncode == 2
    assert "give the stdoutLocation" in done.stderr
    assert [path.name for path in user.folder.iterdir()] == ["hardpoint"]


def test_without_a_login_it_is_refused(home: Home) -> None:
    done = home.run("shell-output", f"/zstack/v1/hosts/kvm/shell-outputs/{'0' * 32}/{'1' * 32}/stdout")
    assert done.returncode == 3
    assert "hardpoint login" in done.stderr


def test_the_sdk_fetches_what_a_script_printed(node: Node, host: str, sshd: Sshd, tmp_path: Path) -> None:
    where = urlsplit(node.url)
    connection = sdk.configure(where.hostname or "", where.port or 0)
    sdk.log_in("admin", "password")
    try:
        value = KvmRunShellAction(hostUuids=[host], script=SCRIPT).call().value.to_dict()
        result = value["inventory"][host]
        file = sdk.fetch_output(result["stdoutLocation"], tmp_path)
        assert file == tmp_path / f"{host}.stdout"
        assert file.read_bytes() == _printed(sshd)
        other = asyncio.run(connection.fetch_output_async(result["stderrLocation"], tmp_path / "errors"))
        assert other.read_bytes() == _printed(sshd)[:1_500_000]
    finally:
        sdk.log_out()
        sdk.configure()
