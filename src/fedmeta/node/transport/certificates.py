"""A node's certificate for TLS: self-signed, without an end, known by the SHA-256 of its public key.

The ledger's profile of a member (`set-profile`, field `tls`) has this fingerprint: SHA-256 over the DER form of the
SubjectPublicKeyInfo (RFC 5280, section 4.1), as in RFC 7469's pins. So a certificate can be made again of the same key.
Names and dates in the certificate mean nothing and are not looked at: whose a key is, and how long, the ledger says.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from fedmeta.node.errors import ConfigError

_BEGIN = datetime(2000, 1, 1, tzinfo=UTC)
_NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280, section 4.1.2.5: no well-defined expiration


@dataclass(frozen=True, slots=True, repr=False)
class Certificate:
    """A certificate and its private key: P-256, which also proxies that inspect TLS know."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def fingerprint(self) -> bytes:
        """What the ledger knows it by, 32 bytes."""
        return fingerprint(self.certificate)

    def to_pem(self) -> bytes:
        """Return the certificate and then the private key, in PEM: a secret."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self.certificate.public_bytes(Encoding.PEM) + key

    @staticmethod
    def from_pem(data: bytes) -> "Certificate":
        """Return the certificate of what `to_pem` gave; raises `ConfigError` for anything else."""
        try:
            certificate, key = x509.load_pem_x509_certificate(data), load_pem_private_key(data, None)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"the file holds no certificate with its private key: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError("the private key in the file is not that of the certificate in it")
        return Certificate(certificate, key)

    @staticmethod
    def load(path: Path) -> "Certificate":
        """Return the certificate in a file.

        Raises:
            ConfigError: the file cannot be read, others may read it, or it holds something else.
        """
        try:
            mode, data = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise ConfigError(f"the certificate {path} cannot be read: {error.strerror}") from error
        if mode & 0o077:
            raise ConfigError(f"{path} holds a private key, and others may read it (mode {mode & 0o777:o}): chmod 600")
        try:
            return Certificate.from_pem(data)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def __repr__(self) -> str:
        return f"Certificate(fingerprint={self.fingerprint.hex()})"


def create(name: str) -> Certificate:
    """Return a new key and its certificate; `name` stands in it for a person who reads it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return self_signed(name, key)


def self_signed(name: str, key: ec.EllipticCurvePrivateKey) -> Certificate:
    """Return a certificate of a key, from 2000 to the end of 9999."""
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        issuer_name=who,
        subject_name=who,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=_BEGIN,
        not_valid_after=_NO_END,
    )
    return Certificate(builder.sign(key, SHA256()), key)


def fingerprint(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate's public key, 32 bytes."""
    return sha256(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def fingerprint_of(der: bytes) -> bytes:
    """Return the same for a certificate's DER bytes, as they come over TLS; empty where they cannot be read."""
    try:
        return fingerprint(x509.load_der_x509_certificate(der))
    except (ValueError, TypeError):
        return b""
