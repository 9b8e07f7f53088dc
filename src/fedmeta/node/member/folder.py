"""A node's folder: what lies where, and how it is made, whole or not at all."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmeta.govern.client import keyfile
from fedmeta.govern.engines.disk import flush, write_new
from fedmeta.govern.wire.signatures import Key
from fedmeta.node.errors import ConfigError
from fedmeta.node.member import approvals, config, outbox, policy, unit

SECRET = 32
"""Bytes of the member's secret."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies where in a node's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """What a person sets."""
        return self.path / config.FILE

    @property
    def policy(self) -> Path:
        """What can be approved."""
        return self.path / policy.FILE

    @property
    def approvals(self) -> Path:
        """What was approved, by whom and why; it never leaves."""
        return self.path / approvals.FILE

    @property
    def outbox(self) -> Path:
        """All bytes that ever left."""
        return self.path / outbox.FILE

    @property
    def keys(self) -> Path:
        """The machine's key, the secret, and the TLS key with its certificate."""
        return self.path / "keys"

    @property
    def tls(self) -> Path:
        """The TLS certificate and its key, in PEM."""
        return self.keys / "tls.pem"

    @property
    def unit(self) -> Path:
        """A unit for systemd."""
        return self.path / unit.FILE

    @property
    def procedures(self) -> Path:
        """The procedures that are known, by their digests."""
        return self.path / "procedures"

    @property
    def gate(self) -> Path:
        """What the gate keeps: sealed blobs."""
        return self.path / "gate"

    @property
    def core(self) -> Path:
        """What the core keeps: the journal and its blobs."""
        return self.path / "core"

    @property
    def trainer(self) -> Path:
        """What the trainer keeps while it works."""
        return self.path / "trainer"

    @property
    def recovery(self) -> Path:
        """What a recovery has made and not yet put into its place; while it is there the node does not start."""
        return self.path / "recovery"

    def procedure(self, digest: bytes) -> Path:
        """Return the file of a procedure."""
        return self.procedures / f"{digest.hex()}.json"


def make_certificate(folder: Folder, member: str) -> None:
    """Make the TLS key and its certificate in the folder."""
    from fedmeta.node.transport import certificates

    write_new(folder.tls, certificates.create(member).to_pem(), 0o600)


def public_keys(folder: Folder) -> tuple[bytes, bytes]:
    """Return the machine's public key and the fingerprint of the TLS key, 32 bytes each."""
    from fedmeta.node.transport import certificates

    certificate = certificates.Certificate.load(folder.tls)
    return keyfile.load(folder.keys / "machine.pem").public, certificate.fingerprint


def make(path: Path, values: Mapping[str, Any]) -> Folder:
    """Make a node's folder, mode 0700: configuration, policy, machine key, TLS key, secret, unit; whole or not at all.

    Args:
        path: where; a new or an empty folder.
        values: what the configuration sets, by the names of `config.TABLE`, such as `ledger.addresses`.

    Returns:
        The folder.

    Raises:
        ConfigError: there is something already, there is no folder to make it in, the file system refuses, or a value
            is not fit for the configuration.
    """
    place = path.absolute()
    if os.path.lexists(place) and not (place.is_dir() and not place.is_symlink() and not any(place.iterdir())):
        raise ConfigError(f"{path} exists: a node is made in a new folder, and nothing is written over another")
    if not place.parent.is_dir():
        raise ConfigError(f"there is no folder {place.parent} to make {place.name} in")
    text = config.template(values)
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise ConfigError(f"cannot make a folder in {place.parent}: {error.strerror}") from error
    try:
        _fill(Folder(aside), text, place)
        # This takes the place of an empty folder, and of nothing else.
        os.rename(aside, place)
        flush(place.parent)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise ConfigError(f"cannot make {path}: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return Folder(place)


def _fill(folder: Folder, text: str, place: Path) -> None:
    for one in (folder.keys, folder.procedures, folder.gate, folder.core, folder.trainer):
        one.mkdir(mode=0o700)
    write_new(folder.config, text.encode(), 0o600)
    member = config.read(folder.path).member
    write_new(folder.policy, policy.template().encode(), 0o600)
    keyfile.save(folder.keys / "machine.pem", Key.generate())
    write_new(folder.keys / "secret", secrets.token_bytes(SECRET), 0o600)
    make_certificate(folder, member)
    write_new(folder.unit, unit.text(place).encode(), 0o644)
    for one in (folder.keys, folder.path):
        flush(one)


def keep_procedure(folder: Folder, digest: bytes, content: bytes) -> Path:
    """Keep a procedure's bytes under its digest, if they are not there; return the file. Raises `ConfigError`."""
    file = folder.procedure(digest)
    try:
        folder.procedures.mkdir(mode=0o700, exist_ok=True)
        if not file.exists():
            write_new(file, content, 0o600)
            owned_as_folder(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}") from error
    return file


def owned_as_folder(file: Path) -> None:
    """Give a file that root has made to the owner of its folder, under whom the node's core runs."""
    if os.geteuid() == 0:
        owner = file.parent.stat()
        os.chown(file, owner.st_uid, owner.st_gid)
