from __future__ import annotations

from pathlib import Path

import pytest

from agentkit.errors import HardpointError
from agentkit.tls import ServerCredentials
from mn.fleet.ca import CertificateAuthority, KeyPair

HOST, ADDRESS = "a" * 32, "192.0.2.7"


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "ca")


@pytest.fixture
def deployed(authority: CertificateAuthority, tmp_path: Path) -> KeyPair:
    """The pair that a deployment wrote, in a folder that the agent may not change."""
    folder = tmp_path / "etc"
    folder.mkdir()
    return authority.server(folder, HOST, ADDRESS)


def credentials(pair: KeyPair, installed: Path) -> ServerCredentials:
    return ServerCredentials(pair.certificate, pair.key, pair.ca, installed)


def test_a_renewed_pair_goes_to_its_own_file_and_wins_from_then_on(
    authority: CertificateAuthority, deployed: KeyPair, tmp_path: Path
) -> None:
    installed = tmp_path / "state.pem"
    before = deployed.certificate.read_bytes()
    certificate, key = authority.issue_server(HOST, ADDRESS)
    credentials(deployed, installed).install(certificate.decode(), key.decode())
    assert deployed.certificate.read_bytes() == before
    assert installed.stat().st_mode & 0o077 == 0
    assert certificate.strip() in installed.read_bytes()
    deployed.key.unlink()  # the pair that was deployed is not even looked at
    assert credentials(deployed, installed).context()


def test_without_a_renewed_pair_the_deployed_one_is_used(deployed: KeyPair, tmp_path: Path) -> None:
    assert credentials(deployed, tmp_path / "state.pem").context()


def test_a_pair_that_does_not_fit_together_changes_nothing(
    authority: CertificateAuthority, deployed: KeyPair, tmp_path: Path
) -> None:
    certificate, _ = authority.issue_server(HOST, ADDRESS)
    _, other_key = authority.issue_server(HOST, ADDRESS)
    with pytest.raises(HardpointError):
        credentials(deployed, tmp_path / "state.pem").install(certificate.decode(), other_key.decode())
    assert not (tmp_path / "state.pem").exists()


def test_the_authority_vouches_only_for_its_own_fresh_certificates_of_that_host(
    authority: CertificateAuthority, deployed: KeyPair, tmp_path: Path
) -> None:
    certificate, ca = deployed.certificate.read_text(), deployed.ca.read_text()
    assert authority.vouches_for(certificate, ca, HOST, ADDRESS)
    assert not authority.vouches_for(certificate, ca, "b" * 32, ADDRESS)
    assert not authority.vouches_for(certificate, ca, HOST, "192.0.2.8")
    assert not authority.vouches_for(certificate, None, HOST, ADDRESS)
    assert not authority.vouches_for("nonsense", ca, HOST, ADDRESS)
    other = CertificateAuthority(tmp_path / "other")
    assert not other.vouches_for(certificate, ca, HOST, ADDRESS)
    short = CertificateAuthority(tmp_path / "ca", leaf_days=10)
    due, _ = short.issue_server(HOST, ADDRESS)
    assert not short.vouches_for(due.decode(), ca, HOST, ADDRESS)
