import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from agentkit.errors import HardpointError
from agentkit.tls import ServerCredentials, client_context, server_context
from mn.fleet.ca import RENEW_BEFORE_DAYS, CertificateAuthority

HOST = "0123456789abcdef" * 2


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_same_authority_is_found_again(tmp_path: Path) -> None:
    first = CertificateAuthority(tmp_path / "ca").client()
    assert load(CertificateAuthority(tmp_path / "ca").client().certificate) == load(first.certificate)


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    ca = CertificateAuthority(tmp_path / "ca")
    (tmp_path / "agent").mkdir()
    pairs = [ca.client(), ca.server(tmp_path / "agent", HOST, "192.0.2.1")]
    for path in [tmp_path / "ca/ca.key", *(pair.key for pair in pairs)]:
        assert path.stat().st_mode & 0o777 == 0o600


def test_client_and_server_certificates_cannot_take_each_others_place(tmp_path: Path) -> None:
    ca = CertificateAuthority(tmp_path / "ca")
    (tmp_path / "agent").mkdir()
    client, server = ca.client(), ca.server(tmp_path / "agent", HOST, "192.0.2.1")

    def usage(path: Path) -> list[x509.ObjectIdentifier]:
        return list(load(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

    assert usage(client.certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert usage(server.certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    client_context(client.certificate, client.key, client.ca)
    server_context(server.certificate, server.key, server.ca)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "host.example"])
def test_a_servers_certificate_names_its_address_and_its_host(tmp_path: Path, address: str) -> None:
    pair = CertificateAuthority(tmp_path / "ca").server(tmp_path, HOST, address)
    names = load(pair.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [str(name.value) for name in names]
    assert found == [f"hardpoint:host:{HOST}", address]


def test_a_certificate_is_renewed_in_time_and_not_before(tmp_path: Path) -> None:
    short = CertificateAuthority(tmp_path / "ca", leaf_days=RENEW_BEFORE_DAYS - 1)
    first = load(short.client().certificate)
    second = load(CertificateAuthority(tmp_path / "ca").client().certificate)
    assert second.serial_number != first.serial_number
    assert load(CertificateAuthority(tmp_path / "ca").client().certificate) == second


def test_a_certificate_whose_key_is_another_one_is_made_anew(tmp_path: Path) -> None:
    ca = CertificateAuthority(tmp_path / "ca")
    pair = ca.client()
    stranger = ec.generate_private_key(ec.SECP256R1())
    pair.key.write_bytes(
        stranger.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    ca.client()
    client_context(pair.certificate, pair.key, pair.ca)


def test_a_damaged_authority_is_named(tmp_path: Path) -> None:
    CertificateAuthority(tmp_path / "ca")
    (tmp_path / "ca/ca.key").write_text("nothing")
    with pytest.raises(HardpointError, match="cannot be read or made") as caught:
        CertificateAuthority(tmp_path / "ca")
    assert "backup" in caught.value.remedy


def test_an_installed_certificate_is_kept_and_one_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    ca = CertificateAuthority(tmp_path / "ca")
    pair = ca.server(tmp_path, HOST, "192.0.2.1")
    credentials = ServerCredentials(pair.certificate, pair.key, pair.ca)
    credentials.context()
    certificate, key = (pem.decode() for pem in ca.issue_server(HOST, "192.0.2.1"))
    _, strange_key = (pem.decode() for pem in ca.issue_server(HOST, "192.0.2.1"))
    before = pair.certificate.read_bytes()
    with pytest.raises(HardpointError):
        credentials.install(certificate, strange_key)
    assert pair.certificate.read_bytes() == before
    credentials.install(certificate, key)
    assert load(pair.certificate) == x509.load_pem_x509_certificate(certificate.encode())
    assert isinstance(ServerCredentials(pair.certificate, pair.key, pair.ca).context(), ssl.SSLContext)
