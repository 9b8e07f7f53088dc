"""`fedmeta ledger status`, `term`, `explain` and what else is asked of a ledger as a whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import CHECKPOINT, GENESIS, UNITS, Connection, digest_of, reading, whole
from fedmeta.cli.ledger.rounds import closing, going_on, latest
from fedmeta.errors import UnknownName, UsageError


@click.command(short_help="Where the ledger stands.")
@reading
def status(way: Connection) -> None:
    """Say where the ledger stands: its height, its term, its round, and who has a part in them.

    \b
    Example:
      fedmeta ledger status
    """
    with way.reader() as client:
        node, found, round = client.status(), client.query("status"), latest(client)
    if way.as_json:
        show.write_json({**found, "node": node})
        return
    upgrade = f"; {found['upgrade_to']} from block {found['upgrade_at']:,} on" if found["upgrade_at"] else ""
    facts = {
        "block": f"{found['height']:,}, of {show.moment(found['time'])}",
        "term": f"{found['term']}, until block {found['term_ends']:,}",
        "blocks by": "the super nodes: see `validators`" if found["validators"] else "a sequencer",
        "super nodes": found["super_nodes"],
        "standbys": found["standbys"],
        "round": going_on(round),
        "ends": closing(round),
        "cohort": [place["member"] for place in round["cohort"]] if round else "-",
        "members": f"{found['members']:,}, {found['candidates']:,} of them candidates",
        "treasury": f"{found['treasury']:,} of {found['supply']:,} units",
        "voting": [f"proposal {one}" for one in found["voting"]] or "on nothing",
        "protocol": f"{found['protocol']}{upgrade}",
        "node": f"{way.node}, {node['fault'] or 'all is well'}",
    }
    if node["first_block"] > 1:
        facts["pruned"] = f"blocks before {node['first_block']:,}"
    show.write(show.facts(found["chain_id"], {name: value for name, value in facts.items() if value != ""}))


@click.command(short_help="Who aggregates in a term.")
@click.argument("number", required=False, type=UNITS)
@reading
def term(way: Connection, number: int | None) -> None:
    """Show who was elected for term NUMBER, or for the present one, and with how much power.

    The term after the present one is elected as well.

    \b
    Examples:
      fedmeta ledger term
      fedmeta ledger term 3
    """
    with way.reader() as client:
        found = client.query("term", number=client.status()["term"] if number is None else number)
        values = {one["name"]: one["value"] for one in client.query("parameters")}
    if way.as_json:
        show.write_json(found)
        return
    total = sum(seat["power"] for seat in found["seats"])
    when = f"from block {found['start']:,} to {found['ends']:,}" if found["ends"] else "not begun yet"
    parts: list[Any] = [f"Term {found['number']}, {when}; elected by the stake of block {found['snapshot']:,}"]
    rows = [
        (
            seat["candidate"],
            seat["organisation"],
            seat["weight"],
            seat["power"],
            show.percent(seat["power"] * 1_000_000 // total),
        )
        for seat in found["seats"]
    ]
    parts.append(show.table("", ("super node", "organisation", "weight", "power", "of all"), rows))
    if found["standbys"]:
        rows = [(seat["candidate"], seat["organisation"], seat["weight"]) for seat in found["standbys"]]
        parts.append(show.table("", ("standby", "organisation", "weight"), rows))
    show.write(
        *parts,
        f"More than two thirds of the power is more than {total * 2 // 3:,} of {total:,}.",
        f"Its rounds were paid, or may still be, {found['paid']:,} of {values['term_budget']:,} units; "
        f"proposals spent {found['spent']:,}.",
    )


@click.command(short_help="Why a member was paid what it was paid.")
@click.argument("member")
@click.option("--term", metavar="N", type=UNITS, help="What term N brought.  [default: all terms]")
@reading
def explain(way: Connection, member: str, term: int | None) -> None:
    """Explain why MEMBER has what it has: each payment and each loss with its arithmetic, down to the unit.

    \b
    Examples:
      fedmeta ledger explain north --term 7
      fedmeta ledger explain north --json
    """
    with way.reader() as client:
        if way.as_json:
            show.write_json(client.explain(member, term))
        else:
            click.echo(client.explain_text(member, term), nl=False)


@click.command(short_help="Where all units lie.")
@reading
def supply(way: Connection) -> None:
    """Say where all units lie; the parts add up to the supply.

    \b
    Example:
      fedmeta ledger supply
    """
    with way.reader() as client:
        found = client.query("supply")
    if way.as_json:
        show.write_json(found)
    else:
        show.write(
            show.table("", ("where", "units"), [(name.replace("_", " "), value) for name, value in found.items()])
        )


@click.command(short_help="List the parameters, or say what one means.")
@click.argument("name", required=False)
@reading
def parameters(way: Connection, name: str | None) -> None:
    """List the parameters, or say what the one called NAME means; `propose parameters` changes them.

    \b
    Examples:
      fedmeta ledger parameters
      fedmeta ledger parameters round_pool
    """
    with way.reader() as client:
        found = client.query("parameters")
    if name is not None:
        by_name = {one["name"]: one for one in found}
        if name not in by_name:
            raise UnknownName("parameter", name, by_name)
        one = by_name[name]
        if way.as_json:
            show.write_json(one)
            return
        facts = {"meaning": one["meaning"], "value": f"{one['value']:,} {one['unit']}", "default": one["default"]}
        show.write(show.facts(name, {**facts, "range": f"{one['low']:,} to {one['high']:,}"}))
    elif way.as_json:
        show.write_json(found)
    else:
        rows = [(one["name"], one["value"], one["default"], one["unit"]) for one in found]
        show.write(show.table("", ("parameter", "value", "default", "unit"), rows))


@click.command(short_help="How fair and how concentrated the federation is.")
@reading
def fairness(way: Connection) -> None:
    """Say how evenly stake, rewards and power lie, how many it takes to stop or to decide, and who votes alike.

    A Gini coefficient of 0 % is all alike, one near 100 % is all with one.

    \b
    Example:
      fedmeta ledger fairness
    """
    with way.reader() as client:
        found = client.query("fairness")
    if way.as_json:
        show.write_json(found)
        return
    total, few = sum(found["powers"].values()), found["nakamoto"]
    facts = {
        "Gini of stake": show.percent(found["gini_stake"]),
        "Gini of rewards": show.percent(found["gini_rewards"]),
        "Gini of power": show.percent(found["gini_power"]),
        "to stop a round": f"it takes {few['stop']} of the organisations",
        "to decide one": f"it takes {few['decide']}",
    }
    rows = [(name, power, show.percent(power * 1_000_000 // total)) for name, power in found["powers"].items()]
    parts: list[Any] = [show.facts("", facts)]
    parts.append(show.table("", ("organisation", "power", "of all"), rows))
    if found["turnout"]:
        rows = [(int(number), show.percent(share)) for number, share in found["turnout"].items()]
        parts.append(show.table("", ("proposal", "turnout"), rows))
    if found["overlap"]:
        rows = [(f"{one['first']}, {one['second']}", one["both"], one["alike"]) for one in found["overlap"]]
        parts.append(show.table("", ("organisations", "both voted on", "voted alike on"), rows))
    show.write(*parts)


@click.command(short_help="A block: its header, its transactions and its events.")
@click.argument("height", required=False, type=UNITS)
@reading
def block(way: Connection, height: int | None) -> None:
    """Show the block of a HEIGHT, or the last one.

    \b
    Example:
      fedmeta ledger block 118
    """
    with way.reader() as client:
        found = client.block(client.status()["height"] if height is None else height)
    if way.as_json:
        show.write_json(found)
        return
    header = found["header"]
    facts = {
        "time": show.moment(header["time"]),
        "hash": show.Whole(header["hash"]),
        "previous": show.Whole(header["previous"]),
        "app hash": show.Whole(header["app_hash"]),
        "transactions": len(found["transactions"]),
    }
    lines = []
    for event in found["events"]:
        own = event["kind"] in ("transaction-applied", "transaction-refused", "block-ending")
        lines.append(f"{'' if own else '  '}{show.told(event['kind'], event['fields'])}")
    show.write(show.facts(f"Block {header['height']}", facts), *lines)


@click.command(short_help="A transaction, and what it did.")
@click.argument("digest")
@reading
def transaction(way: Connection, digest: str) -> None:
    """Show the transaction of a DIGEST, 64 hexadecimal digits, and what it did.

    \b
    Example:
      fedmeta ledger transaction 5d1f...
    """
    name = digest_of(digest, "DIGEST")
    with way.reader() as client:
        found = client.transaction(name)
    if way.as_json:
        show.write_json(found)
        return
    facts = {
        "kind": found["kind"],
        "member": found["member"],
        "sequence": found["sequence"],
        "block": found["height"],
        **{name.replace("_", " "): value for name, value in found["body"].items()},
    }
    lines = [f"  {show.told(event['kind'], event['fields'])}" for event in found["events"]]
    show.write(show.facts(f"Transaction {found['digest']}", facts), *lines)


@click.command(short_help="What has happened, event by event.")
@click.option("--from", "first", metavar="HEIGHT", type=UNITS, help="From this block on; 0 is genesis.")
@click.option("--follow", is_flag=True, help="Go on with every new block, until Ctrl-C.")
@click.option("--kind", "kinds", metavar="KIND", multiple=True, help="Only events of this kind; may be repeated.")
@reading
def events(way: Connection, first: int | None, follow: bool, kinds: tuple[str, ...]) -> None:
    """List the events of the blocks, by default of the last 10; with --json one in each line.

    \b
    Examples:
      fedmeta ledger events --from 0
      fedmeta ledger events --follow --kind fault-proven
    """
    with way.reader() as client:
        node = client.status()
        begin = max(node["height"] - 9, 0) if first is None else first
        for said in client.events(begin, None if follow else max(node["height"], begin)):
            if said.kind == "block-ending" or (kinds and said.kind not in kinds):
                continue
            if way.as_json:
                click.echo(json.dumps({"height": said.height, "kind": said.kind, "fields": said.fields}))
            else:
                click.echo(f"{said.height:>8,}  {show.event_line(said)}")


@click.command(short_help="A record, proven to be on the ledger.")
@click.argument("kind")
@click.argument("key", nargs=-1)
@GENESIS
@CHECKPOINT
@reading
def proof(way: Connection, kind: str, key: tuple[str, ...], genesis: Path | None, checkpoint: str | None) -> None:
    """Fetch the record of a KIND and a KEY, and check here that it is in what those who order the blocks have signed.

    \b
    Examples:
      fedmeta ledger proof member north --genesis fed/genesis.cbor
      fedmeta ledger proof delegation north east --genesis fed/genesis.cbor
    """
    from fedmeta.govern.wire.layout import plain

    with way.reader(genesis, checkpoint) as client:
        record = plain(client.proof(kind, *_typed(kind, key)))
        digest = client.genesis().digest.hex()
    if way.as_json:
        show.write_json({"genesis": digest, "kind": kind, "record": record})
        return
    lines = [f"It is on the ledger that begins with genesis {digest}: path, root and signature hold."]
    if genesis is None:
        lines.append("That this is the right genesis is the node's word: give your own with --genesis.")
    show.write(show.facts(f"{kind} {' '.join(key)}", record), *lines)


@click.command(short_help="A late header, for others to begin from.")
@GENESIS
@CHECKPOINT
@reading
def checkpoint(way: Connection, genesis: Path | None, checkpoint: str | None) -> None:
    """Show a checkpoint: the height of the latest header, and the hash of the block that certifies it.

    Whoever was away for longer than validators can be trusted begins from it, with --checkpoint or `ledger.checkpoint`.
    Ask a node of your own, and tell it over a way that is not the ledger: they take your word for it.

    \b
    Example:
      fedmeta ledger checkpoint --genesis fed/genesis.cbor
    """
    with way.reader(genesis, checkpoint) as client:
        found = client.checkpoint()
    if way.as_json:
        show.write_json({"height": found.height, "hash": found.hash.hex()})
    else:
        click.echo(str(found))


def _typed(kind: str, key: tuple[str, ...]) -> list[Any]:
    """Return a record's key of its texts."""
    import fedmeta.govern.state.records  # noqa: F401  its records fill the table
    from fedmeta.govern.wire.layout import LAYOUTS

    if kind not in LAYOUTS:
        raise UnknownName("kind of record", kind, LAYOUTS)
    names = LAYOUTS[kind].key
    if len(names) != len(key):
        wanted = " ".join(name.upper() for name in names) or "nothing"
        raise UsageError(f"the key of a {kind} is {wanted}, not {' '.join(key) or 'nothing'}")
    readers: dict[type, Callable[[str, str], Any]] = {int: whole, bytes: digest_of, str: lambda text, name: text}
    return [readers[due](text, name) for due, text, name in zip(LAYOUTS[kind].key_types, key, names, strict=True)]
