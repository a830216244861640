"""The fleet's certificate authority: short-lived certificates for the management node and its agents."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agentkit.errors import HardpointError
from agentkit.files import write_durably

CA_DAYS = 3650
LEAF_DAYS = 90
RENEW_BEFORE_DAYS = 30
_BACKDATE = timedelta(hours=1)
"""Certificates begin this long ago, so that a host whose clock is a little behind takes them."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a certificate, its key and the CA that signed it (PEM)."""

    certificate: Path
    key: Path
    ca: Path


class CertificateAuthority:
    """Signs the fleet's certificates; its key stays in `directory`, mode 0600."""

    def __init__(self, directory: Path, leaf_days: int = LEAF_DAYS) -> None:
        self._directory = directory
        self._leaf_days = leaf_days
        self.ca_path = directory / "ca.pem"
        key_path = directory / "ca.key"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (self.ca_path.exists() and key_path.exists()):
                _make_ca(self.ca_path, key_path)
            self._certificate = x509.load_pem_x509_certificate(self.ca_path.read_bytes())
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise HardpointError(
                "SYS.1000",
                "Internal error",
                f"the certificate authority in {directory} cannot be read or made: {error}",
                remedy="restore the folder from your backup, and run as the user that owns it",
            ) from error
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - made by _make_ca
        self._key = key

    def client(self) -> KeyPair:
        """Return the management node's own key pair, made or renewed when need be."""
        pair = KeyPair(self._directory / "mn.pem", self._directory / "mn.key", self.ca_path)
        if not self._is_fresh(pair):
            certificate, key = self._issue("hardpoint-mn", [], ExtendedKeyUsageOID.CLIENT_AUTH)
            write_durably(pair.key, key)
            write_durably(pair.certificate, certificate)
        return pair

    def server(self, directory: Path, host_uuid: str, address: str) -> KeyPair:
        """Return an agent's key pair in `directory`, made or renewed when need be."""
        pair = KeyPair(directory / "agent.pem", directory / "agent.key", directory / "ca.pem")
        if not self._is_fresh(pair):
            certificate, key = self.issue_server(host_uuid, address)
            write_durably(pair.key, key)
            write_durably(pair.certificate, certificate)
            write_durably(pair.ca, self.ca_path.read_bytes())
        return pair

    def issue_server(self, host_uuid: str, address: str) -> tuple[bytes, bytes]:
        """Return a new certificate and key (PEM) for the agent of a host."""
        names = _server_names(host_uuid, address)
        return self._issue(f"hardpoint-agent-{host_uuid}", names, ExtendedKeyUsageOID.SERVER_AUTH)

    def vouches_for(self, certificate: str, authority: str | None, host_uuid: str, address: str) -> bool:
        """Say whether a certificate (PEM) is this authority's for a host, with time left, and trusts it.

        `authority` is the one (PEM) that the agent checks its callers by.
        """
        try:
            found = x509.load_pem_x509_certificate(certificate.encode())
            trusted = x509.load_pem_x509_certificate((authority or "").encode())
            found.verify_directly_issued_by(self._certificate)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        wanted = _server_names(host_uuid, address)
        fresh = not is_due(found.not_valid_after_utc.timestamp())
        return trusted == self._certificate and fresh and all(name in names for name in wanted)

    def _issue(
        self, common_name: str, names: list[x509.GeneralName], usage: x509.ObjectIdentifier
    ) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), common_name, names, usage)
        return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)

    def _is_fresh(self, pair: KeyPair) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
            key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
            same_ca = x509.load_pem_x509_certificate(pair.ca.read_bytes()) == self._certificate
        except (OSError, ValueError):
            return False
        belongs = certificate.public_key() == key.public_key()
        return belongs and same_ca and not is_due(certificate.not_valid_after_utc.timestamp())

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(now + timedelta(days=self._leaf_days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _server_names(host_uuid: str, address: str) -> list[x509.GeneralName]:
    """Return the names that an agent's certificate carries."""
    named: x509.GeneralName
    try:
        named = x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        named = x509.DNSName(address)
    return [x509.UniformResourceIdentifier(f"hardpoint:host:{host_uuid}"), named]


def is_due(expires_s: float) -> bool:
    """Say whether a certificate that expires then (seconds since 1970) is to be renewed now."""
    return expires_s - time.time() < RENEW_BEFORE_DAYS * 24 * 3600


def _make_ca(path: Path, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = _name("Hardpoint fleet CA")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ca_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_durably(key_path, _key_pem(key))
    write_durably(path, certificate.public_bytes(serialization.Encoding.PEM))


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
