"""A chain that touches every transaction, event, fault and action, kept in `chain.cbor` with its app hashes.

`python -m tests.govern.recorded.record` records it anew, which is right only if a rule or an encoding was changed on
purpose: ledgers that were made before cannot be executed again then.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fedmeta.govern.machine.execute import PROTOCOL
from fedmeta.govern.machine.genesis import Genesis, decode_genesis, encode_genesis
from fedmeta.govern.state.records import Candidate, Delegation, Fault, Proposal, Redelegation
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block, DoubleSignature, LightClientAttack
from fedmeta.govern.wire.signatures import digest
from tests.govern.engines.story import LIE, rotate, set_machine_key
from tests.govern.playing import MODEL, RECIPE, STAKES, Play, consensus_key, federation, key

PATH = Path(__file__).parent / "chain.cbor"

MORE = {"max": 1_150, "ned": 1_125, "oda": 1_100}
RULES = {
    "standbys": 6,
    "term_length": 10,
    "unbonding_blocks": 1_460,
    "jail_blocks": 4,
    "duty_window": 4,
    "duty_misses": 2,
    "voting_blocks": 2,
    "delay_blocks": 1,
}
BUSY = 200
"""The height up to which members do something; from then on they wait, for it takes long until stake is paid."""
LAST = 1_500
"""The last height: stake has been paid that was on its way out, and the first rounds and terms are forgotten."""


class Recorded(NamedTuple):
    """A recorded chain. In its last block there is misconduct that an engine with a single signer cannot have."""

    genesis: Genesis
    blocks: list[Block]
    hashes: list[bytes]
    """The app hash of every height, from genesis on."""


def play(kind: type[Play] = Play) -> Play:
    """Play the chain."""
    made = kind(federation({**STAKES, **MORE}, members=("kim", "lee"), organisations={"gil": "org-fay"}, **RULES))
    stakes(made)
    made.round()
    made.must(("ann", tx.Claim()), ("hal", tx.Claim()), ("hal", tx.Undelegate("ann", 400)))
    slashes(made)
    failures(made)
    proposals(made)
    refusals(made)
    farewell(made)
    return made


def stakes(play: Play) -> None:
    """Change keys, profiles, commissions and stakes; let members come and go."""
    rotate(play, "ann")
    set_machine_key(play, "bob")
    play.must(
        ("hal", tx.Delegate("eve", 1_234)),
        ("ivy", tx.Redelegate("bob", "cat", 123)),
        ("joy", tx.Undelegate("dan", 321)),
        ("eve", tx.SetCommission(50_001)),
        ("cat", consensus_key("cat", play.genesis)),
        ("kim", tx.Register(150_000)),
        ("kim", tx.Bond(2_000)),
        ("kim", tx.JoinRecipe(RECIPE)),
        ("lee", tx.SetProfile("Lee, a clinic", "https://lee.example", digest(b"tls"))),
    )
    play.must(
        ("joy", tx.CancelUnbonding("dan", play.height, 21)),
        ("lee", tx.Leave()),
        ("gil", tx.Retire()),
        ("fay", tx.Bond(77)),
    )


def slashes(play: Play) -> None:
    """Let seats open another result than the final one; voters leave before the first slash, and are slashed for it."""
    play.to_deliver()
    liar = play.super_nodes()[0]
    play.must((play.super_nodes()[1], tx.Seal(play.chain.round, digest(b"the header of the last commitment"))))
    openings = play.to_reveal(results={liar: LIE})
    voters = [one for one in play.state.all(Delegation) if one.candidate == liar]
    play.must(*((one.member, tx.Undelegate(liar, 50)) for one in voters))
    bound = {one.member for one in play.state.all(Redelegation) if one.destination == liar}
    voters = [one for one in voters if one.member not in bound]
    play.must(*((one.member, tx.Redelegate(liar, "fay", 100)) for one in voters))
    play.must(*((one.member, tx.Undelegate("fay", 60)) for one in voters))
    play.must(*openings.items())
    play.round(results={play.super_nodes()[-1]: LIE})
    unjail(play)
    missing = play.super_nodes()[-1]
    while missing in play.super_nodes():
        play.round(absent=(missing,))


def failures(play: Play) -> None:
    """Let all attempts at a round fail, each otherwise than the last, and let the next round take its updates over."""
    play.to_commit()
    number = play.chain.round
    play.to_compute(holds=dict.fromkeys(play.super_nodes()[:2], ()))
    play.to_compute()
    play.wait_while("compute")
    play.round(results={name: digest(name.encode()) for name in play.super_nodes()})
    assert play.chain.round == number + 1
    unjail(play)
    play.round()
    play.must(("kim", tx.LeaveRecipe(RECIPE)))


def unjail(play: Play) -> None:
    play.wait(RULES["jail_blocks"])
    jailed = [one.member for one in play.state.all(Candidate) if one.jailed and not one.tombstoned]
    play.must(*((name, tx.Unjail()) for name in jailed))


def proposals(play: Play) -> None:
    """Carry out an action of every kind."""
    largest_fault = next(one for one in play.state.all(Fault) if len(one.cuts) > 1)
    other_fault = next(one for one in play.state.all(Fault) if one.number != largest_fault.number)
    # Who comes in after the slash is given nothing when it is annulled.
    play.must(("joy", tx.Delegate(other_fault.offender, 1_000)))
    new = digest(b"a new recipe")
    actions = (
        {"kind": "set-parameter", "name": "round_pool", "value": 777},
        {
            "kind": "set-parameters",
            "values": {"commission_cap": 90_000, "contributor_share": 450_000, "super_node_share": 450_000},
        },
        {"kind": "admit", "member": "mia", "organisation": "org-mia", "public": key("mia").public, "title": "Mia"},
        {"kind": "remove", "member": "ivy"},
        {"kind": "spend", "member": "hal", "amount": 4_321},
        {"kind": "annul-slash", "fault": largest_fault.number},
        {"kind": "annul-slash", "fault": other_fault.number},
        {"kind": "recipe", "digest": new, "title": "more digits", "model": MODEL, "active": True, "interval": 7},
        {"kind": "recipe", "digest": RECIPE, "title": "digits", "model": MODEL, "active": False, "interval": 1},
        {"kind": "upgrade", "protocol": PROTOCOL + 1, "height": LAST + 1},
    )
    play.must(*(("joy" if at % 2 else "hal", tx.Propose(one["kind"], one)) for at, one in enumerate(actions)))
    largest = sorted(play.state.all(Candidate), key=lambda one: -one.tokens)[:3]
    votes = [
        (one.member, tx.CastVote(proposal.number, "yes"))
        for proposal in play.state.where(Proposal, "status", "voting")
        for one in largest
    ]
    others = ("joy", tx.CastVote(1, "no")), ("ivy", tx.CastVote(4, "veto")), ("hal", tx.CastVote(5, "abstain"))
    play.must(*votes, *others)
    play.wait(4)


def refusals(play: Play) -> None:
    """Let transactions be refused, in the middle of blocks of others."""
    play.block(
        ("mia", tx.Delegate("bob", 1)),
        ("hal", tx.Delegate("bob", 10**9)),
        ("joy", tx.Delegate("bob", 11)),
        ("ivy", tx.Bond(5)),
        ("cat", tx.Undelegate("cat", 7)),
    )
    play.run(b"junk", tx.sign(key("joy"), digest(b"another"), "joy", 0, tx.Claim()), play.sign("cat", tx.Claim()))
    play.round()


def farewell(play: Play) -> None:
    """Let all stake leave a pool, and much later a seat and a standby sign twice in the last block of this protocol."""
    leaving = [one for one in play.state.all(Delegation) if one.candidate == "dan"]
    pool = play.state.need(Candidate, "dan")
    tokens, shares, moves = pool.tokens, pool.shares, []
    for one in leaving:
        amount = one.shares * tokens // shares
        moves.append((one.member, tx.Undelegate("dan", amount)))
        tokens, shares = tokens - amount, shares - one.shares
    play.must(*moves)
    assert play.height < BUSY
    play.wait_until(LAST - 1)
    seat, other = play.super_nodes()[:2]
    found = (DoubleSignature(key(name).public, play.height) for name in (seat, play.standbys()[0]))
    attacks = (LightClientAttack(key(other).public, play.height),)
    play.take(replace(play.next_block(), double_signatures=tuple(found), attacks=attacks))


def read() -> Recorded:
    """Return the chain as it was recorded."""
    genesis, blocks, hashes = codec.decode(PATH.read_bytes(), limit=1 << 20)
    made = [Block.of(height, time, items) for height, (time, items) in enumerate(blocks, 1)]
    return Recorded(decode_genesis(genesis), made, hashes)


def main() -> None:
    made = play()
    blocks = [[block.time, list(block.items)] for block in made.blocks]
    PATH.write_bytes(codec.encode([encode_genesis(made.genesis), blocks, made.hashes]))


if __name__ == "__main__":
    main()
