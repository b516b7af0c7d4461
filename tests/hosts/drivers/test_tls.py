"""Trust: what is not trusted gets no request, and a pin accepts exactly one certificate."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hosts.drivers import Connection, ErrorKind, HostError, open_async_driver, open_driver
from hosts.drivers.parallels import tls


class Certificate:
    """A self-signed certificate for 127.0.0.1 in a file of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        self.fingerprint = hashlib.sha256(der).digest().hex(":").upper()
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path, "one")


@pytest.fixture
def host(make_host: Any, certificate: Certificate) -> Any:
    host = make_host(certificate.server())
    host.answer("GET", "/health/probe", {"status": "OK"})
    host.answer("GET", "/machines", [])
    return host


def probe_both(connection: Connection) -> list[HostError | float]:
    async def poll() -> float:
        driver = open_async_driver("parallels", connection)
        try:
            return await driver.probe()
        finally:
            await driver.aclose()

    found: list[HostError | float] = []
    for call in (open_driver("parallels", connection).probe, lambda: asyncio.run(poll())):
        try:
            found.append(call())
        except HostError as error:
            found.append(error)
    return found


def test_an_untrusted_certificate_is_shown_and_gets_no_request(
    host: Any, certificate: Certificate
) -> None:
    for error in probe_both(host.connection()):
        assert isinstance(error, HostError)
        assert error.kind is ErrorKind.TLS_UNTRUSTED
        assert error.fingerprint == certificate.fingerprint
        assert error.permanent
        assert "self-signed" in error.message and "pin" in error.message
    assert host.seen == []


def test_a_pinned_certificate_is_trusted(host: Any, certificate: Certificate) -> None:
    typed = certificate.fingerprint.lower().replace(":", " ")
    for latency in probe_both(host.connection(tls_fingerprint=typed)):
        assert isinstance(latency, float)
    driver = open_driver("parallels", host.connection(tls_fingerprint=certificate.fingerprint))
    assert driver.list_vms() == ()


def test_a_changed_certificate_gets_no_request(host: Any, tmp_path: Path) -> None:
    other = Certificate(tmp_path, "two")
    pinned = host.connection(tls_fingerprint=other.fingerprint)
    for error in probe_both(pinned):
        assert isinstance(error, HostError)
        assert error.kind is ErrorKind.TLS_UNTRUSTED
        assert error.fingerprint not in (None, other.fingerprint)
        assert "another TLS certificate" in error.message
    with pytest.raises(HostError):
        open_driver("parallels", pinned).list_vms()
    assert host.seen == []


def test_a_pin_holds_whoever_signed_the_certificate(
    host: Any, certificate: Certificate, tmp_path: Path, monkeypatch: Any
) -> None:
    """What the system trusts is accepted without a pin and refused under another one."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    monkeypatch.setattr(tls, "_contexts", {})
    trusting = tls.context_for("")
    assert trusting is tls.context_for("")
    with (
        socket.create_connection(("127.0.0.1", host.port), 5) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        assert secured.version()
    other = Certificate(tmp_path, "two")
    with (
        socket.create_connection(("127.0.0.1", host.port), 5) as plain,
        pytest.raises(tls.FingerprintMismatch),
    ):
        tls.context_for(other.fingerprint).wrap_socket(plain, server_hostname="127.0.0.1")


def test_tls_spoken_to_a_plain_host(make_host: Any) -> None:
    host = make_host()
    url = f"https://127.0.0.1:{host.port}/api"
    for error in probe_both(Connection(url)):
        assert isinstance(error, HostError)
        assert error.kind in {ErrorKind.NOT_DEVOPS, ErrorKind.DISCONNECTED}
        assert "http" in error.message


def test_plain_spoken_to_a_tls_host(host: Any) -> None:
    for error in probe_both(Connection(host.url.replace("https", "http"))):
        assert isinstance(error, HostError)
        assert error.kind in {ErrorKind.NOT_DEVOPS, ErrorKind.DISCONNECTED}


def test_a_malformed_pin_is_refused(host: Any) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        open_driver("parallels", host.connection(tls_fingerprint="AA:BB"))
