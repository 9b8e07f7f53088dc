"""A key file is made once, for its owner only; whatever is wrong with one is said in one line that names it."""

import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fedmeta.govern.client import keyfile
from fedmeta.govern.errors import KeyFileError
from fedmeta.govern.wire.signatures import Key

KEY = Key.from_seed(bytes(range(32)))
PEM = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def fails(path, passphrase=None):
    with pytest.raises(KeyFileError) as caught:
        keyfile.load(path, passphrase)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def written(path, data, mode=0o600):
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("passphrase", [None, "correct horse", "пароль"])
def test_a_key_comes_back_from_its_file(tmp_path, passphrase):
    path = tmp_path / "key.pem"
    keyfile.save(path, KEY, passphrase)
    assert keyfile.load(path, passphrase).seed == KEY.seed
    assert keyfile.load(str(path), passphrase).public == KEY.public


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_use_the_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        keyfile.save(tmp_path / "key.pem", KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_an_encrypted_file_does_not_show_the_key(tmp_path):
    keyfile.save(tmp_path / "open.pem", KEY)
    keyfile.save(tmp_path / "locked.pem", KEY, "correct horse")
    plain = (tmp_path / "open.pem").read_bytes().splitlines()[1]
    assert plain not in (tmp_path / "locked.pem").read_bytes()
    assert b"ENCRYPTED" in (tmp_path / "locked.pem").read_bytes()


def test_the_file_is_what_openssl_writes(tmp_path):
    path = written(tmp_path / "key.pem", Ed25519PrivateKey.from_private_bytes(KEY.seed).private_bytes(*PEM))
    assert keyfile.load(path).seed == KEY.seed


@pytest.mark.parametrize("kind", ["file", "folder", "symlink", "broken symlink"])
def test_nothing_is_ever_written_over(tmp_path, kind):
    path, other = tmp_path / "key.pem", tmp_path / "other"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        if kind == "symlink":
            other.write_text("mine")
        path.symlink_to(other)
    with pytest.raises(KeyFileError, match=r"key\.pem exists"):
        keyfile.save(path, KEY)
    assert kind != "file" or path.read_text() == "mine"
    assert kind != "broken symlink" or not other.exists()


def test_a_file_that_cannot_be_made_is_one_clear_line(tmp_path):
    with pytest.raises(KeyFileError, match=r"cannot write the key file .*: No such file or directory"):
        keyfile.save(tmp_path / "absent" / "key.pem", KEY)


def test_half_a_key_is_not_left_behind(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyFileError, match="No space left on device"):
        keyfile.save(tmp_path / "key.pem", KEY)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_passphrase_is_refused(tmp_path):
    with pytest.raises(KeyFileError, match="empty passphrase"):
        keyfile.save(tmp_path / "key.pem", KEY, "")
    assert not (tmp_path / "key.pem").exists()


def test_an_absent_file_is_named(tmp_path):
    assert fails(tmp_path / "key.pem") == f"there is no key file {tmp_path / 'key.pem'}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777])
def test_a_file_that_others_can_use_is_refused_with_the_remedy(tmp_path, mode):
    keyfile.save(tmp_path / "key.pem", KEY)
    (tmp_path / "key.pem").chmod(mode)
    assert f"chmod 600 {tmp_path / 'key.pem'}" in fails(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)
    assert keyfile.load(tmp_path / "key.pem").public == KEY.public


def test_a_symlink_to_ones_own_key_is_followed_and_its_mode_is_the_files(tmp_path):
    keyfile.save(tmp_path / "real.pem", KEY)
    (tmp_path / "key.pem").symlink_to(tmp_path / "real.pem")
    assert keyfile.load(tmp_path / "key.pem").public == KEY.public
    (tmp_path / "real.pem").chmod(0o644)
    assert "chmod 600" in fails(tmp_path / "key.pem")


def test_a_file_of_another_user_is_refused_also_through_a_symlink(tmp_path, monkeypatch):
    keyfile.save(tmp_path / "real.pem", KEY)
    (tmp_path / "key.pem").symlink_to(tmp_path / "real.pem")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert f"belongs to another user (uid {os.getuid()})" in fails(tmp_path / "key.pem")


def test_what_is_not_a_file_is_refused(tmp_path):
    assert fails(tmp_path) == f"cannot read the key file {tmp_path}: Is a directory"
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert fails(tmp_path / "pipe") == f"cannot read the key file {tmp_path / 'pipe'}: not a regular file"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot read the key file" in fails(tmp_path / "loop")


@pytest.mark.parametrize(
    "data",
    [b"", b"secret", bytes(100), b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", b"a" * (1 << 20)],
    ids=["empty", "text", "zeros", "no body", "large"],
)
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_what_is_not_a_pem_is_refused(tmp_path, data, passphrase):
    assert "is not a private key in PEM" in fails(written(tmp_path / "key.pem", data), passphrase)


def test_a_damaged_pem_is_refused(tmp_path):
    keyfile.save(tmp_path / "good.pem", KEY)
    lines = (tmp_path / "good.pem").read_bytes().splitlines(keepends=True)
    cut = written(tmp_path / "key.pem", lines[0] + lines[1][:20] + b"\n" + lines[2])
    assert "is not a private key in PEM" in fails(cut)


def test_a_public_key_is_refused(tmp_path):
    public = Ed25519PrivateKey.from_private_bytes(KEY.seed).public_key()
    data = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert "is not a private key in PEM" in fails(written(tmp_path / "key.pem", data))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        x25519.X25519PrivateKey.generate,
    ],
    ids=["P-256", "X25519"],
)
def test_a_key_of_another_kind_is_refused(tmp_path, make):
    path = written(tmp_path / "key.pem", make().private_bytes(*PEM))
    assert "it must be Ed25519" in fails(path)


def test_the_passphrase_must_be_the_right_one(tmp_path):
    keyfile.save(tmp_path / "locked.pem", KEY, "correct horse")
    keyfile.save(tmp_path / "open.pem", KEY)
    assert "is encrypted: a passphrase is needed" in fails(tmp_path / "locked.pem")
    assert "the passphrase does not open" in fails(tmp_path / "locked.pem", "battery staple")
    assert "is encrypted: a passphrase is needed" in fails(tmp_path / "locked.pem", "")
    assert "is not encrypted: give no passphrase" in fails(tmp_path / "open.pem", "correct horse")
