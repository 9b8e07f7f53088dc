"""`fedmeta ledger members` and `key`: who is in the federation, and what a member does with its key and its name."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import HASH_OR_NONE, Connection, Shown, load_key, passphrase, reading, signing
from fedmeta.cli.ledger.sending import deliver, send
from fedmeta.errors import UsageError
from fedmeta.govern.wire import transactions as tx

if TYPE_CHECKING:
    from fedmeta.govern.client.client import Client
    from fedmeta.govern.wire.signatures import Key

_PROVEN = re.compile("([0-9a-fA-F]{64}):([0-9a-fA-F]{128})")


@click.group(cls=Shown, short_help="List members and what they hold; keys, profiles, leaving.")
def members() -> None:
    """List the members or show one; change one's key or profile, or leave.

    \b
    Examples:
      fedmeta ledger members
      fedmeta ledger members north
      fedmeta ledger members rotate fed/keys/north-2.pem --key fed/keys/north.pem
      fedmeta ledger members machine-key machine.pem --key fed/keys/north.pem
      fedmeta ledger members consensus-key 5d1f...:90c2... --key fed/keys/north.pem
    """


@members.command("show", short_help="List members, or show one.")
@click.argument("name", required=False)
@click.option("--after", metavar="NAME", help="List the members after this name.")
@click.option("--limit", metavar="N", type=click.IntRange(1, 1000), help="List so many at most.  [default: 100]")
@reading
def show_(way: Connection, name: str | None, after: str | None, limit: int | None) -> None:
    """List the members with what they hold in units, or show all about the one called NAME.

    \b
    Example:
      fedmeta ledger members show north
    """
    with way.reader() as client:
        if name is not None:
            _show_one(way, client.query("member", name=name), client.query("balance", name=name))
            return
        found = client.query("members", after=after, limit=limit)
        held = [client.query("balance", name=one["name"]) for one in found]
    if way.as_json:
        show.write_json([{**one, "balance": balance} for one, balance in zip(found, held, strict=True)])
        return
    rows = [
        (
            one["name"] if one["active"] else f"{one['name']} (gone)",
            one["organisation"],
            balance["free"],
            sum(part["value"] for part in balance["bonded"]),
            sum(part["amount"] for part in balance["unbonding"]),
            balance["owed"] + balance["accrued"],
            balance["deposits"],
            balance["total"],
        )
        for one, balance in zip(found, held, strict=True)
    ]
    headings = ("member", "organisation", "free", "staked", "leaving", "owed", "deposits", "total")
    show.write(show.table("", headings, rows))


def _show_one(way: Connection, member: dict[str, Any], balance: dict[str, Any]) -> None:
    if way.as_json:
        show.write_json({**member, "balance": balance})
        return
    parts: list[Any] = [
        show.facts(
            member["name"],
            {
                "organisation": member["organisation"],
                "title": member["title"],
                "address": member["address"],
                "TLS key": show.Whole(member["tls"] or "-"),
                "public key": show.Whole(member["public"]),
                "machine key": show.Whole((member["machine"] or {}).get("public", "-")),
                "admitted": f"block {member['admitted']:,}{'' if member['active'] else '; a member no more'}",
                "transactions": member["sequence"],
                "free": balance["free"],
                "owed": f"{balance['owed']:,}, and {balance['accrued']:,} not settled yet",
                "deposits": balance["deposits"],
                "holds in all": balance["total"],
                "earned ever": member["earned"],
            },
        )
    ]
    if balance["bonded"]:
        staked = [(one["candidate"], one["value"], one["accrued"], one["shares"]) for one in balance["bonded"]]
        parts.append(show.table("Staked", ("with", "units", "rewards not settled", "shares"), staked))
    if balance["unbonding"]:
        leaving = [(one["candidate"], one["amount"], one["created"], _at(one)) for one in balance["unbonding"]]
        headings = ("from", "units", "taken back at block", "paid at block, and not before")
        parts.append(show.table("On its way out", headings, leaving))
    if balance["redelegations"]:
        names = ("source", "destination", "amount", "created")
        moved = [(*(one[name] for name in names), _at(one)) for one in balance["redelegations"]]
        parts.append(show.table("Moved", ("from", "to", "units", "at block", "answers until block, and"), moved))
    show.write(*parts)


def _at(one: dict[str, Any]) -> str:
    """Return when stake that leaves is out: both must have come."""
    return f"{one['completes']:,}, {show.moment(one['completes_time'])}"


@members.command(short_help="Sign with another key.")
@click.argument("new", metavar="NEW-KEY", type=click.Path(path_type=Path))
@signing
def rotate(way: Connection, new: Path) -> None:
    """Sign with the key in the file NEW-KEY from the next block on; `key new` makes one.

    What the old key has signed, and is in a block, stays valid.

    \b
    Example:
      fedmeta ledger members rotate fed/keys/north-2.pem --key fed/keys/north.pem
    """
    key = load_key(new)
    with way.signer() as client:
        deliver(way, client, tx.RotateKey(key.public, _proof(client, way, key)))
    if way.sign_only is None and not way.as_json:
        show.write(f"from the next block on {way.name} signs by {new}: use --key {new} --as {way.name}")


@members.command("machine-key", short_help="Let another key sign in rounds.")
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--none", "back", is_flag=True, help="Take it back: the account's key signs in rounds again.")
@signing
def machine_key(way: Connection, file: Path | None, back: bool) -> None:
    """Let the key in FILE sign in rounds from the next block on, so that the account's can stay off that machine.

    It can neither move stake nor vote. `key new` makes one.

    \b
    Examples:
      fedmeta ledger members machine-key machine.pem --key fed/keys/north.pem
      fedmeta ledger members machine-key --none --key fed/keys/north.pem
    """
    if (file is None) != back:
        raise UsageError("give the FILE with the machine's key, or --none to take it back")
    key = None if file is None else load_key(file)
    with way.signer() as client:
        deliver(
            way, client, tx.SetMachineKey(key.public, _proof(client, way, key)) if key else tx.SetMachineKey(b"", b"")
        )
    if way.sign_only is None and not way.as_json:
        signs = f"--key {way.key_file}" if file is None else f"--key {file} --as {way.name}"
        show.write(f"from the next block on {way.name} signs in rounds with {signs}")


@members.command("consensus-key", short_help="Decide blocks by another key.")
@click.argument("proven", metavar="PUBLIC-KEY:PROOF")
@signing
def consensus_key(way: Connection, proven: str) -> None:
    """Decide blocks by another key, as a candidate; it counts from the second block after this one on.

    `fedmeta ledger validators renew` and `keys` write PUBLIC-KEY:PROOF on the validator's host: the key itself stays
    there. A key that was used before is refused.

    \b
    Example:
      fedmeta ledger members consensus-key 5d1f...:90c2... --key north.pem
    """
    found = _PROVEN.fullmatch(proven)
    if found is None:
        raise UsageError(
            f"PUBLIC-KEY:PROOF is {proven[:80]!r}: it must be 64 hexadecimal digits, a colon and 128 more, "
            "as `fedmeta ledger validators keys` writes them"
        )
    send(way, tx.SetConsensusKey(bytes.fromhex(found[1]), bytes.fromhex(found[2])))


def _proof(client: "Client", way: Connection, key: "Key") -> bytes:
    """Return a new key's signature that the member holds it."""
    return key.sign(tx.possession(client.ledger, way.name, key.public))


@members.command(short_help="Change name, address or TLS key.")
@click.option("--title", help="The member's full name.")
@click.option("--address", help="Where its node is.")
@click.option(
    "--tls", metavar="HASH|none", type=HASH_OR_NONE, help="SHA-256 of its node's TLS key; none takes it away."
)
@click.option("--next-tls", metavar="HASH|none", type=HASH_OR_NONE, help="That of the key that is to take its place.")
@signing
def profile(way: Connection, title: str | None, address: str | None, tls: bytes | None, next_tls: bytes | None) -> None:
    """Change the member's full name, its node's address or its TLS keys; what is not given stays.

    \b
    Example:
      fedmeta ledger members profile --address https://north.example --key fed/keys/north.pem
    """
    with way.signer() as client:
        present = _present(client, way.name)
        body = tx.SetProfile(
            present["title"] if title is None else title,
            present["address"] if address is None else address,
            bytes.fromhex(present["tls"]) if tls is None else tls,
            bytes.fromhex(present["next_tls"]) if next_tls is None else next_tls,
        )
        deliver(way, client, body)


def _present(client: "Client", name: str) -> dict[str, Any]:
    return client.query("member", name=name)


@members.command(short_help="Leave the federation.")
@signing
def leave(way: Connection) -> None:
    """Leave the federation, with nothing staked, on its way out or left to claim.

    \b
    Example:
      fedmeta ledger members leave --key fed/keys/west.pem
    """
    send(way, tx.Leave())


@click.group(short_help="Make a key, or show a key's public half.")
def key() -> None:
    """Make a key, or show the public half that others may know.

    \b
    Example:
      fedmeta ledger key new ours.pem
    """


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--passphrase",
    "protect",
    is_flag=True,
    help="Encrypt it; the passphrase is asked for, or taken from FEDMETA_PASSPHRASE.",
)
def new(file: Path, protect: bool) -> None:
    """Make a key in the new FILE, readable by its owner only, and write its public half.

    \b
    Example:
      fedmeta ledger key new ours.pem --passphrase
    """
    from fedmeta.govern.client import keyfile
    from fedmeta.govern.wire.signatures import Key

    made = Key.generate()
    keyfile.save(file, made, passphrase(f"Passphrase for {file}", confirm=True) if protect else None)
    show.write(made.public.hex())


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
def public(file: Path) -> None:
    """Write the public half of the key in FILE, in hex.

    \b
    Example:
      fedmeta ledger key public ours.pem
    """
    show.write(load_key(file).public.hex())
