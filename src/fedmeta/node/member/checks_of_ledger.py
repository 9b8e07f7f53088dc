"""What is checked with the ledger and with peers: addresses, genesis, clock, the member's keys, proxy, certificates."""

import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from fedmeta.errors import FedmetaError
from fedmeta.node.errors import Unreachable
from fedmeta.node.member import dialling, reaching
from fedmeta.node.member.checks import Check, fails, ok, public_of, warning
from fedmeta.node.member.config import Config
from fedmeta.node.member.folder import Folder
from fedmeta.node.transport.certificates import Certificate, fingerprint_of
from fedmeta.node.transport.destinations import Place

APART = 60
"""Seconds between this machine's clock and a block's time above which a warning says so."""


def check_ledger(config: Config) -> Iterator[Check]:
    """Check each address of the ledger, and what it says, where one answers."""
    status: Mapping[str, Any] | None = None
    usable = None
    for address in config.ledger.addresses:
        row, said = _address(config, address)
        yield row
        if said is not None and status is None:
            status, usable = said, address
    if status is None or usable is None:
        yield fails("ledger", "no address of the ledger can be used", "see the rows above; ask who runs the ledger")
        return
    yield judge_clock(time.time(), int(status["time"]) / 1000)
    try:
        with reaching.client(config, usable) as client:
            members = _all_members(client)
            known = any(one["name"] == config.member for one in members)
            own = client.query("member", name=config.member) if known else None
    except FedmetaError as error:
        yield fails("member", str(error), "ask who runs the ledger")
        return
    yield from judge_member(config, own)
    yield from check_peers(config, members)


def _address(config: Config, address: str) -> tuple[Check, Mapping[str, Any] | None]:
    name = f"ledger {address}"
    try:
        with reaching.client(config, address) as client:
            status = client.status()
    except FedmetaError as error:
        advice = "check the address, the proxy, the firewall and network.ca"
        return warning(name, str(error), advice), None
    if status.get("genesis") != config.ledger.genesis.hex():
        said = f"its genesis is {status.get('genesis')}, and ledger.genesis {config.ledger.genesis.hex()}"
        return fails(name, said, "it is another ledger: correct the address or ledger.genesis"), None
    return ok(name, f"block {status.get('height'):,}, the right genesis"), status


def judge_clock(here: float, block: float) -> Check:
    """Return the row for this machine's clock and a block's time, both in seconds since 1970; for information only."""
    apart = here - block
    if apart < -APART:
        said = f"this machine is {-apart:,.0f} s behind the latest block"
        return warning("clock", said, "set the clock by NTP; nothing that is signed depends on it")
    if apart > APART:
        return ok("clock", f"the latest block is {apart:,.0f} s old, or this clock is ahead: nothing depends on it")
    return ok("clock", f"within {APART} s of the latest block")


def _all_members(client: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = client.query("members", after=found[-1]["name"] if found else None, limit=100)
        found += page
        if len(page) < 100:
            return found


def judge_member(config: Config, own: Mapping[str, Any] | None) -> Iterator[Check]:
    """Check what the ledger knows of the member, None if nothing: its keys, and the address where others find it."""
    if own is None or not own["active"]:
        yield fails("member", f"{config.member} is no member of the ledger", "correct `member`, or ask to be admitted")
        return
    yield ok("member", f"{config.member} of {own['organisation']}")
    machine = (own.get("machine") or {}).get("public", "")
    yield _key(config, "machine key on the ledger", config.keys.machine, machine or own["public"], config.member)
    if config.keys.account:
        yield _key(config, "account key on the ledger", config.keys.account, own["public"], "")
    yield _tls(config, {own["tls"], own["next_tls"]} - {""})
    if config.listens and own["address"] != config.listen.public:
        said = f"the ledger has the address {own['address'] or 'none'!r}, and listen.public is {config.listen.public!r}"
        yield warning("public address", said, "fedmeta ledger members profile --address tells the ledger")


def _tls(config: Config, known: set[str]) -> Check:
    name = "TLS key on the ledger"
    try:
        here = Certificate.load(Folder(config.folder).tls).fingerprint.hex()
    except FedmetaError as error:
        return fails(name, str(error), "put the right file there")
    if here in known:
        return ok(name, f"{here[:12]}… is this member's")
    said = (
        f"keys/tls.pem is {here[:12]}…, the ledger has {', '.join(f'{one[:12]}…' for one in sorted(known)) or 'none'}"
    )
    advice = f"fedmeta ledger members profile --tls {here} --key ACCOUNT-KEY --as {config.member}"
    return fails(name, said, advice)


def _key(config: Config, name: str, file: str, public: str, machine_of: str) -> Check:
    try:
        here = public_of(config.path(file).read_bytes())
    except OSError as error:
        return fails(name, f"{file}: {error.strerror}", "run this as the user whom it belongs to")
    if not here:
        return warning(
            name, f"{file} is encrypted: it cannot be compared", "compare `fedmeta ledger key public` by eye"
        )
    if here.hex() == public:
        return ok(name, f"{here.hex()[:12]}… is this member's")
    advice = f"fedmeta ledger members machine-key {config.path(file)} --key ACCOUNT-KEY --as {machine_of}"
    return fails(
        name,
        f"{file} is {here.hex()[:12]}…, the ledger has {public[:12]}…",
        advice if machine_of else "put the right key there",
    )


def check_proxy(config: Config) -> Iterator[Check]:
    """Check that the proxy takes connections, where there is one."""
    if not config.network.proxy:
        yield ok("proxy", "none")
        return
    split = urlsplit(config.network.proxy)
    try:
        dialling.connect(split.hostname or "", split.port or 80, "").close()
    except OSError as error:
        yield fails("proxy", f"{config.network.proxy}: {error}", "correct network.proxy, or ask who runs it")
    else:
        yield ok("proxy", f"{config.network.proxy} takes connections")


def check_peers(config: Config, members: list[dict[str, Any]]) -> Iterator[Check]:
    """Check of each member with an address that it may be dialled, and shows the certificate that the ledger pins."""
    for one in members:
        if one["name"] == config.member or not one["active"] or not one["address"]:
            continue
        name = f"peer {one['name']}"
        try:
            place = Place.parse(one["address"])
            shown = dialling.shown_certificate(place, config.destinations, config.network.proxy)
        except Unreachable as error:
            advice = f"add it to network.destinations, if that is where {one['organisation']} is"
            yield warning(name, f"it is not dialled: {error}", advice)
            continue
        except OSError as error:
            yield warning(name, f"{one['address']}: {error}", "it may be down; check the proxy and the firewall")
            continue
        yield judge_certificate(name, fingerprint_of(shown), bytes.fromhex(one["tls"]), config.network.inspected)


def judge_certificate(name: str, shown: bytes, pinned: bytes, inspected: bool) -> Check:
    """Return the row for the fingerprint of a peer's TLS key that is seen here, and the one on the ledger."""
    if not pinned:
        return warning(name, "the ledger has no TLS key of it", "ask it to publish one: its answers are signed anyway")
    if shown == pinned:
        return ok(name, f"shows the TLS key of the ledger, {shown.hex()[:12]}…")
    said = f"shows the TLS key {shown.hex()[:12] or 'none'}…, the ledger has {pinned.hex()[:12]}…"
    if inspected:
        return ok(name, f"{said}: TLS is inspected, as network.inspected says; what is sent is signed and sealed")
    advice = "somebody opens TLS on the way: set network.inspected = true if that is your proxy, else find out who"
    return fails(name, said, advice)
