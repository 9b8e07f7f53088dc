import subprocess
from hashlib import sha256

import pytest

from fedmeta.node.errors import ConfigError
from fedmeta.node.transport.certificates import Certificate, create, fingerprint_of, self_signed

MADE = create("alice")


def test_it_has_no_end():
    assert MADE.certificate.not_valid_after_utc.isoformat() == "9999-12-31T23:59:59+00:00"


def test_the_fingerprint_is_the_public_keys_as_openssl_writes_it(tmp_path):
    path = tmp_path / "c.pem"
    path.write_bytes(MADE.to_pem())
    public = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-pubkey"], capture_output=True, check=True)
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=public.stdout, capture_output=True)
    assert MADE.fingerprint == sha256(der.stdout).digest()


def test_it_belongs_to_the_key_whatever_else_it_says():
    again = self_signed("somebody", MADE.key)
    assert again.certificate != MADE.certificate
    assert again.fingerprint == MADE.fingerprint != create("alice").fingerprint


def test_it_comes_back_from_its_file(tmp_path):
    path = tmp_path / "c.pem"
    path.touch(0o600)
    path.write_bytes(MADE.to_pem())
    assert Certificate.load(path).fingerprint == MADE.fingerprint


def test_a_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "c.pem"
    path.write_bytes(MADE.to_pem())
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"others may read it \(mode 640\)"):
        Certificate.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.pem cannot be read: No such file"):
        Certificate.load(tmp_path / "none.pem")


@pytest.mark.parametrize("data", [b"", b"nothing", MADE.to_pem()[:600]])
def test_what_is_no_certificate_is_refused(data, tmp_path):
    path = tmp_path / "c.pem"
    path.touch(0o600)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"c\.pem: the file holds no certificate"):
        Certificate.load(path)


def test_anothers_key_is_refused():
    certificate, _, _ = MADE.to_pem().partition(b"-----BEGIN PRIVATE KEY")
    _, begin, key = create("alice").to_pem().partition(b"-----BEGIN PRIVATE KEY")
    with pytest.raises(ConfigError, match="not that of the certificate"):
        Certificate.from_pem(certificate + begin + key)


def test_what_cannot_be_read_has_no_fingerprint():
    assert fingerprint_of(b"") == fingerprint_of(b"\x30\x00") == b""


def test_the_private_key_is_not_shown():
    assert repr(MADE) == f"Certificate(fingerprint={MADE.fingerprint.hex()})"
