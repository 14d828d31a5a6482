"""A certificate for the API server, made anew for every run: its own authority, for this machine's names only."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["make_certificate"]

_LIFETIME = dt.timedelta(days=365)


def make_certificate(host: str) -> tuple[bytes, ssl.SSLContext]:
    """Make a key and a self-signed certificate for `host`, `127.0.0.1` and `localhost`.

    Args:
        host: An address or a name at which the server listens.

    Returns:
        The certificate (PEM), which is all that a client has to trust, and the server's context, which alone has the
        key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local cluster")])
    now = dt.datetime.now(dt.timezone.utc)
    names = [_general_name(entry) for entry in dict.fromkeys((host, "127.0.0.1", "localhost"))]
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - dt.timedelta(hours=1),
        not_valid_after=now + _LIFETIME,
    )
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate, _context(certificate, secret)


def _general_name(entry: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(entry))
    except ValueError:
        return x509.DNSName(entry)


def _context(certificate: bytes, secret: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Python loads keys from files only.
    descriptor, path = tempfile.mkstemp(prefix="local-cluster-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret + certificate)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()
    return context
