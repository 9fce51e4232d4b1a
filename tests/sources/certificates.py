"""A private certificate authority, as companies run for their object stores."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """`authority` is what a client has to trust; `bundle` holds another one before it.

    `server` and `elsewhere` are chain and key of a server: of this host, and of one by another name.
    """

    authority: Path
    other_authority: Path
    bundle: Path
    server: Path
    elsewhere: Path


def make_certificates(directory: Path) -> Certificates:
    """Write them to `directory`."""
    key, authority = _authority("authority of the tests")
    _, other = _authority("another authority")
    paths = Certificates(
        *(directory / name for name in ("authority.pem", "other.pem", "bundle.pem", "server.pem", "elsewhere.pem"))
    )
    paths.authority.write_bytes(_pem(authority))
    paths.other_authority.write_bytes(_pem(other))
    paths.bundle.write_bytes(_pem(other) + _pem(authority))
    here = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    paths.server.write_bytes(_server(here, key, authority))
    paths.elsewhere.write_bytes(_server([x509.DNSName("models.example")], key, authority))
    return paths


def _server(names: list[x509.GeneralName], key: ec.EllipticCurvePrivateKey, authority: x509.Certificate) -> bytes:
    own_key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder("server of the tests", own_key, authority.subject)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = own_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _pem(certificate) + private


def _authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, key, _name(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _builder(name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
