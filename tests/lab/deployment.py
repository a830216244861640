"""Deploys with the code of a source tree, as a management node of that code would: a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("agentkit", "kvmagent", "mn", "ansible")
TIMEOUT_S = 900.0
HOST, FLEET = "a" * 32, "f" * 32


@dataclass(frozen=True)
class Deployment:
    """One host of one fleet; `state` holds the fleet's certificate authority."""

    state: Path
    address: str
    password: str
    username: str = "root"
    host: str = HOST
    fleet: str = FLEET

    def do(self, action: str, tree: Path = REPOSITORY, **more: Any) -> dict[str, Any]:
        """Do `survey`, `deploy`, `again`, `undeploy` or `renew` with a tree's code; return what came of it.

        `error`, `details`, `remedy` when it failed; `tasks` and `changed` of ansible.
        """
        order = {
            "action": action,
            "state": str(self.state),
            "address": self.address,
            "password": self.password,
            "username": self.username,
            "host": self.host,
            "fleet": self.fleet,
            **more,
        }
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), *sys.path])}
        done = subprocess.run(
            [sys.executable, __file__],
            input=json.dumps(order),
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=TIMEOUT_S,
            check=True,
            cwd="/",
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def tree_with(folder: Path, changes: dict[str, tuple[str, str]]) -> Path:
    """Copy this repository's code; in each named file the first text is replaced by the second."""
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (before, after) in changes.items():
        text = (folder / name).read_text()
        assert before in text, f"{name} has changed: {before!r} is not in it"
        (folder / name).write_text(text.replace(before, after))
    return folder


async def _main(order: dict[str, Any]) -> dict[str, Any]:
    import msgspec

    from agentkit.commands import InstallCertificate
    from agentkit.errors import HardpointError
    from agentkit.tls import client_context
    from mn.db.schema import new_uuid
    from mn.fleet.ansible import Agents, AnsibleDeployer
    from mn.fleet.ansible_run import Runs
    from mn.fleet.ca import CertificateAuthority
    from mn.fleet.client import AgentClient, Endpoint
    from mn.fleet.deploy import Target
    from mn.fleet.ssh import SshPool, SshTarget
    from mn.fleet.wheelhouse import Sources, Wheelhouse, release

    state, address, host = Path(order["state"]), order["address"], order["host"]
    ca = CertificateAuthority(state / "ca")
    pair = ca.client()
    client, pool = AgentClient(client_context(pair.certificate, pair.key, pair.ca)), SshPool()
    runs, changed = Runs(state / "ansible"), []
    play = runs.play

    async def counted(*arguments: Any) -> Any:
        played = await play(*arguments)
        changed.append(played.changed)
        return played

    runs.play = counted  # type: ignore[method-assign]
    wheelhouse = Wheelhouse(state / "wheelhouse", Sources(state / "wheels"))
    deployer = AnsibleDeployer(order["fleet"], client, ca, pool, runs, wheelhouse, Agents())
    login = SshTarget(address, 22, order["username"], order["password"], order.get("host_key"))
    target, tasks = Target(host, address, login), []
    endpoint = Endpoint(host, address, 7070)
    answer: dict[str, Any] = {"version": release().version}
    try:
        match order["action"]:
            case "survey":
                answer["survey"] = msgspec.to_builtins(await deployer.survey(target))
            case "deploy":
                await deployer.deploy(target, tasks.append)
            case "again":  # as if the agent had not been asked before: ansible looks at everything
                deployer._is_in_place = _no  # type: ignore[method-assign,assignment]
                await deployer.deploy(target, tasks.append)
            case "undeploy":
                await deployer.undeploy(target)
            case "renew":
                certificate, key = ca.issue_server(host, address)
                command = InstallCertificate(certificate=certificate.decode(), key=key.decode())
                await client.call(endpoint, command, new_uuid(), _nothing)
            case "hello":
                pass
        if order["action"] != "undeploy" and order["action"] != "survey":
            answer["hello"] = msgspec.to_builtins(await client.hello(endpoint))
            answer["serial"] = await _serial(client, endpoint)
    except HardpointError as error:
        answer |= {"error": error.code, "details": error.details, "remedy": error.remedy}
    finally:
        await pool.close()
        await client.close()
    return answer | {"tasks": tasks, "changed": sum(changed), "plays": len(changed)}


async def _no(_endpoint: Any) -> bool:
    return False


async def _nothing() -> None:
    return None


async def _serial(client: Any, endpoint: Any) -> str:
    """Return the serial number of the certificate that the agent shows."""
    _, writer = await asyncio.open_connection(
        endpoint.address, endpoint.port, ssl=client._context, server_hostname=endpoint.address
    )
    try:
        return str(writer.get_extra_info("peercert")["serialNumber"])
    finally:
        writer.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(json.load(sys.stdin)))))
