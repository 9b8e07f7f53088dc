"""How a command's transaction is sent, and `fedmeta ledger send` for one that was signed before."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import HEX, Connection, reading
from fedmeta.errors import DataError, UsageError
from fedmeta.govern.engines import disk
from fedmeta.govern.wire.signatures import digest

if TYPE_CHECKING:
    from fedmeta.govern.client.client import Client

LARGEST = 1 << 17
"""Bytes that are read of a file with a transaction, in hex."""


def send(way: Connection, body: object) -> None:
    """Sign a transaction, send it and write what it did; or only sign it, where that is what was asked for."""
    with way.signer() as client:
        deliver(way, client, body)


def deliver(way: Connection, client: "Client", body: object) -> None:
    """Do as `send` does, by a client that is there already."""
    if way.sign_only is None:
        show.write_outcome(client.send(body), way.as_json)
        return
    raw = client.sign(body)
    write_new(way.sign_only, raw)
    if way.as_json:
        show.write_json({"file": str(way.sign_only), "digest": digest(raw).hex()})
    else:
        show.write(f"{way.sign_only} holds the signed transaction {digest(raw).hex()}; nothing was sent")


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a new file of that mode; raises `DataError` if there is one."""
    try:
        disk.write_new(path, data, mode)
    except FileExistsError as error:
        raise DataError(f"{path} exists: nothing is written over another file") from error


def read_transaction(text: str, client: "Client") -> bytes:
    """Return a signed transaction: of a file, of hex digits, or from the ledger by its digest of 64 hex digits."""
    is_file = os.path.isfile(text)
    if HEX.fullmatch(text) and not is_file:
        return bytes.fromhex(client.transaction(bytes.fromhex(text))["raw"])
    if is_file:
        with disk.open_file(text) as file:
            data = file.read(LARGEST)
    else:
        data = text.encode()
    try:
        return bytes.fromhex(data.decode("ascii").strip())
    except ValueError as error:
        if is_file:
            return data
        raise UsageError(
            f"{text[:80]!r} is no file, no transaction in hex, and no digest of one on the ledger"
        ) from error


@click.command("send", short_help="Send a transaction that was signed before.")
@click.argument("transaction", metavar="FILE|HEX")
@reading
def send_signed(way: Connection, transaction: str) -> None:
    """Send a transaction that was signed before, with --sign-only or elsewhere.

    \b
    Example:
      fedmeta ledger send delegation.tx
    """
    with way.reader() as client:
        show.write_outcome(client.submit(read_transaction(transaction, client)), way.as_json)
