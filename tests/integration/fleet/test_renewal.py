"""A certificate that ends soon is replaced over the link, while the agent goes on."""

import time
from pathlib import Path

from agentkit.tls import client_context
from kvmagent.protocol import Connect
from mn.db.schema import new_uuid
from mn.fleet.ca import LEAF_DAYS, RENEW_BEFORE_DAYS, CertificateAuthority
from mn.fleet.client import AgentClient
from mn.fleet.deploy import Target
from mn.fleet.fleet import Fleet
from mn.fleet.local import LocalDeployer
from mn.fleet.ssh import SshPool
from tests.observer import Notes, eventually

DAY_S = 24 * 3600


async def test_an_agents_certificate_is_renewed_over_the_link_before_it_ends(tmp_path: Path) -> None:
    short = CertificateAuthority(tmp_path / "ca", leaf_days=RENEW_BEFORE_DAYS - 1)
    ca = CertificateAuthority(tmp_path / "ca")
    pair = ca.client()
    client = AgentClient(client_context(pair.certificate, pair.key, pair.ca))
    deployer = LocalDeployer(tmp_path / "agents", short, root=Path("/"), storage=tmp_path, rescan_s=30)
    fleet = Fleet(new_uuid(), client, ca, [deployer], SshPool())
    notes = Notes()
    fleet.observe(notes)
    target = Target(new_uuid(), "127.0.0.1")
    endpoint = await fleet.deploy(target)
    try:
        command = Connect(host_uuid=target.host_uuid, fleet_uuid=fleet.fleet_uuid)
        reply = await fleet.call(endpoint, command, new_uuid())
        fleet.track(target, endpoint, reply.inventory.hash)
        await eventually(lambda: notes.of(target.host_uuid) == ["connected"])
        assert await client.certificate_end(endpoint) - time.time() < RENEW_BEFORE_DAYS * DAY_S

        assert await fleet.renew_certificates() == [target.host_uuid]

        assert await client.certificate_end(endpoint) - time.time() > (LEAF_DAYS - 1) * DAY_S
        assert await fleet.renew_certificates() == []
        assert (await client.hello(endpoint)).host_uuid == target.host_uuid
        assert notes.of(target.host_uuid) == ["connected"], "the link has not been lost meanwhile"
    finally:
        await fleet.undeploy(target)
        await fleet.stop()
