"""`fedmeta node init`: a new node's folder."""

from pathlib import Path

import click

from fedmeta.cli.ledger import show
from fedmeta.errors import UsageError


@click.command(short_help="Make a node's folder: configuration, policy, keys, a unit for systemd.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--member", metavar="NAME", required=True, help="The member's name on the ledger.")
@click.option(
    "--ledger",
    "ledgers",
    metavar="ADDRESS",
    multiple=True,
    required=True,
    help="An address of the ledger; may be repeated, they are tried in turn.",
)
@click.option(
    "--genesis", metavar="HASH|FILE", required=True, help="The digest of the ledger's genesis, or its genesis.cbor."
)
@click.option("--super", "is_super", is_flag=True, help="A super node: give --listen and --public as well.")
@click.option("--listen", metavar="HOST:PORT", help="Where a super node listens.")
@click.option("--public", metavar="ADDRESS", help="Where others find it, such as https://node.example:7979.")
@click.option("--data", "data", metavar="PATH", multiple=True, help="A file or folder with the examples.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def init(
    folder: Path,
    member: str,
    ledgers: tuple[str, ...],
    genesis: str,
    is_super: bool,
    listen: str | None,
    public: str | None,
    data: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a node in the new folder DIR: node.toml, policy.toml, machine key, TLS key, secret, a unit for systemd.

    All keys of node.toml and policy.toml are in them, with what they mean; change what is yours. Nothing is written
    over another file, and nothing is left if anything fails.

    \b
    Examples:
      fedmeta node init coast --member coast --ledger https://ledger.example --genesis genesis.cbor --data visits.csv
      fedmeta node init north --member north --ledger http://10.0.0.2:7878 --genesis genesis.cbor --super \\
          --listen 0.0.0.0:7979 --public https://node.north.example:7979
    """
    from fedmeta.node.member import folder as folders

    if is_super != bool(listen and public):
        raise UsageError("--super, --listen and --public belong together: a contributor never listens")
    values = {
        "member": member,
        "role": "super" if is_super else "contributor",
        "ledger.addresses": ledgers,
        "ledger.genesis": _genesis(genesis),
    }
    if data:
        values["data.paths"] = tuple(_path(one) for one in data)
    if is_super:
        values |= {"listen.address": listen, "listen.public": public}
    made = folders.make(folder, values)
    machine, tls = folders.public_keys(made)
    if as_json:
        show.write_json({"folder": str(made.path), "member": member, "machine": machine.hex(), "tls": tls.hex()})
        return
    where = f"--address {public} " if public else ""
    show.write(
        f"Folder       {folder}: set the rest in {made.config.name} and {made.policy.name}",
        f"Machine key  {machine.hex()}",
        f"TLS key      {tls.hex()}",
        "\nNext, with the account's key, which need not be on this machine:",
        f"  fedmeta ledger members machine-key {made.keys / 'machine.pem'} --key ACCOUNT-KEY --as {member}",
        f"  fedmeta ledger members profile {where}--tls {tls.hex()} --key ACCOUNT-KEY --as {member}",
        f"then: fedmeta node check --folder {folder}",
    )


def _genesis(text: str) -> bytes:
    from fedmeta.cli.ledger.options import HEX
    from fedmeta.govern.engines.disk import read_file
    from fedmeta.govern.machine.genesis import decode_genesis

    if HEX.fullmatch(text):
        return bytes.fromhex(text)
    if not Path(text).is_file():
        raise UsageError(f"--genesis is {text[:80]!r}: it must be 64 hexadecimal digits, or the file genesis.cbor")
    return decode_genesis(read_file(text)).digest


def _path(text: str) -> str:
    """Return a path that means the same from the node's folder; names of data sets stay."""
    path = Path(text)
    return str(path.absolute()) if path.exists() or len(path.parts) > 1 or path.suffix else text
