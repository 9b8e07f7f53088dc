"""A private key in a file: PKCS #8 in PEM, readable by its owner only, encrypted if there is a passphrase."""

import os
import stat

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fedmeta.govern.engines import disk
from fedmeta.govern.errors import KeyFileError
from fedmeta.govern.wire.signatures import Key

_LARGEST = 1 << 16


def save(path: str | os.PathLike, key: Key, passphrase: str | None = None) -> None:
    """Write a key to a new file, mode 0600, and flush it; raises `KeyFileError` if it exists or cannot be made."""
    if passphrase == "":
        raise KeyFileError(f"an empty passphrase cannot protect {path}: give one, or none")
    lock = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.encode())
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    try:
        disk.write_new(path, pem, 0o600)
    except FileExistsError as error:
        raise KeyFileError(f"{path} exists: a key is never written over another file") from error
    except OSError as error:
        raise KeyFileError(f"cannot write the key file {path}: {error.strerror}") from error


def load(path: str | os.PathLike, passphrase: str | None = None) -> Key:
    """Return the key in a file; raises `KeyFileError` if it is not safe, not a key, or needs another passphrase."""
    pem = _read_private(path)
    try:
        private = load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except TypeError as error:
        # The library says so by this type: a passphrase is missing, or there is one too many.
        if passphrase:
            raise KeyFileError(f"the key in {path} is not encrypted: give no passphrase") from error
        raise KeyFileError(f"the key in {path} is encrypted: a passphrase is needed") from error
    except ValueError as error:
        if b"ENCRYPTED" in pem:
            raise KeyFileError(f"the passphrase does not open {path}, or the file is damaged") from error
        raise KeyFileError(f"{path} is not a private key in PEM") from error
    except UnsupportedAlgorithm as error:
        raise KeyFileError(f"{path} holds a key of an unknown kind: it must be Ed25519") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileError(f"{path} holds a key of another kind: it must be Ed25519")
    return Key(private)


def _read_private(path: str | os.PathLike) -> bytes:
    """Return what is in a file that only the user who runs this can read."""
    try:
        with disk.open_file(path) as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid():
                raise KeyFileError(f"the key file {path} belongs to another user (uid {found.st_uid})")
            if found.st_mode & 0o077:
                mode = stat.S_IMODE(found.st_mode)
                raise KeyFileError(f"the key file {path} can be used by others (mode {mode:04o}): chmod 600 {path}")
            if found.st_size > _LARGEST:
                raise KeyFileError(f"{path} is not a private key in PEM: it is larger than {_LARGEST} bytes")
            return file.read(_LARGEST)
    except FileNotFoundError as error:
        raise KeyFileError(f"there is no key file {path}") from error
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error.strerror}") from error
