"""A chain that touches every transaction, fault and action, kept in `chain.cbor` with its app hashes.

`python -m tests.govern.recorded.record` records it anew, which is right only if a rule or an encoding was changed on
purpose: ledgers that were made before cannot be executed again then.
"""

from pathlib import Path
from typing import NamedTuple

from fedmeta.govern.machine.genesis import Genesis, decode_genesis, encode_genesis
from fedmeta.govern.state.records import Candidate, Challenge, Delegation, Fault, Proposal, Redelegation
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import digest
from tests.govern.engines.story import rotate
from tests.govern.playing import MODEL, RECIPE, STAKES, Play, federation, key

PATH = Path(__file__).parent / "chain.cbor"

MORE = {"max": 1_150, "ned": 1_125, "oda": 1_100}
RULES = {
    "standbys": 6,
    "term_length": 10,
    "cohort_size": 2,
    "unbonding_period": 92,
    "evidence_age": 34,
    "challenge_blocks": 4,
    "update_blocks": 2,
    "manifest_blocks": 2,
    "commit_blocks": 4,
    "reveal_blocks": 2,
    "jail_blocks": 4,
    "duty_window": 4,
    "duty_misses": 2,
    "voting_blocks": 2,
    "execution_delay": 1,
}


class Recorded(NamedTuple):
    """A recorded chain."""

    genesis: Genesis
    blocks: list[Block]
    hashes: list[bytes]
    """The app hash of every height, from genesis on."""


def play() -> Play:
    """Play the chain."""
    made = Play(federation({**STAKES, **MORE}, members=("kim", "lee"), organisations={"gil": "org-fay"}, **RULES))
    stakes(made)
    made.round()
    made.must(("ann", tx.Claim()), ("hal", tx.Claim()), ("hal", tx.Undelegate("ann", 400)))
    slashes(made)
    proposals(made)
    refusals(made)
    # Until stake has been paid that was on its way out, and the first rounds and terms have been forgotten.
    made.wait_until(121)
    return made


def stakes(play: Play) -> None:
    """Change keys, profiles, commissions and stakes; let members come and go."""
    rotate(play, "ann")
    play.must(
        ("hal", tx.Delegate("eve", 1_234)),
        ("ivy", tx.Redelegate("bob", "cat", 123)),
        ("joy", tx.Undelegate("dan", 321)),
        ("eve", tx.SetCommission(50_001)),
        ("kim", tx.Register(150_000)),
        ("kim", tx.Bond(2_000)),
        ("lee", tx.SetProfile("Lee, a clinic", "https://lee.example", digest(b"tls"))),
    )
    play.must(
        ("joy", tx.CancelUnbonding("dan", play.height, 21)),
        ("lee", tx.Leave()),
        ("gil", tx.Retire()),
        ("fay", tx.Bond(77)),
    )


def slashes(play: Play) -> None:
    """Prove a fault of every kind, one after the other; voters leave before the first slash, and are slashed for it."""
    play.to_commit()
    leader = play.latest.leader
    voters = [one for one in play.state.all(Delegation) if one.candidate == leader]
    play.must(*((one.member, tx.Undelegate(leader, 50)) for one in voters))
    bound = {one.member for one in play.state.all(Redelegation) if one.destination == leader}
    voters = [one for one in voters if one.member not in bound]
    play.must(*((one.member, tx.Redelegate(leader, "fay", 100)) for one in voters))
    play.must(*((one.member, tx.Undelegate("fay", 60)) for one in voters))
    report(play)
    play.round()

    play.to_manifest()
    left_out = play.latest.cohort[0]
    play.must(play.manifest(left_out=(left_out,)))
    play.must(("joy", tx.ReportLeftOut(play.chain.round, left_out)))
    play.round(withhold=play.super_nodes()[-1:])
    unjail(play)
    missing = play.super_nodes()[-1]
    while missing in play.super_nodes():
        play.round(absent=(missing,))
    round = play.round()
    challenge(play, round.number, upheld=True)
    challenge(play, round.number, upheld=False)
    unjail(play)


def report(play: Play) -> None:
    """Report the leader for a second manifest."""
    raws = [raw for block in play.blocks for raw in block.transactions]
    first = next(raw for raw in reversed(raws) if tx.decode(raw).kind == "post-manifest")
    leader, body = play.manifest()
    other = tx.PostManifest(body.round, body.attempt, body.members, body.aggregate, digest(b"another model"))
    play.must(("joy", tx.ReportManifests(first, play.sign(leader, other))))


def unjail(play: Play) -> None:
    play.wait(RULES["jail_blocks"])
    jailed = [one.member for one in play.state.all(Candidate) if one.jailed and not one.tombstoned]
    play.must(*((name, tx.Unjail()) for name in jailed))


def challenge(play: Play, number: int, upheld: bool) -> None:
    accused = next(
        one
        for one in play.attestations(number)
        if one.revealed and not any(other.accused == one.candidate for other in play.state.all(Challenge))
    )
    right = digest(b"right")
    play.must(("hal", tx.OpenChallenge(number, accused.candidate, right)))
    opened = play.state.all(Challenge)[-1]
    found = right if upheld else accused.result
    play.must(*((seat.candidate, tx.Judge(opened.number, found)) for seat in opened.panel))


def proposals(play: Play) -> None:
    """Carry out an action of every kind."""
    largest_fault = next(one for one in play.state.all(Fault) if len(one.cuts) > 1)
    withheld = next(one for one in play.state.all(Fault) if one.kind == "withheld-reveal")
    # Who comes in after the slash is given nothing when it is annulled.
    play.must(("joy", tx.Delegate(withheld.offender, 1_000)))
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
        {"kind": "annul-slash", "fault": withheld.number},
        {"kind": "recipe", "digest": new, "title": "more digits", "model": MODEL, "active": True},
        {"kind": "recipe", "digest": RECIPE, "title": "digits", "model": MODEL, "active": False},
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
    play.run(b"junk", tx.sign(key("joy"), "another-chain", "joy", 0, tx.Claim()), play.sign("cat", tx.Claim()))
    play.round()


def read() -> Recorded:
    """Return the chain as it was recorded."""
    genesis, blocks, hashes = codec.decode(PATH.read_bytes(), limit=1 << 20)
    made = [Block(height, time, tuple(raws)) for height, (time, raws) in enumerate(blocks, 1)]
    return Recorded(decode_genesis(genesis), made, hashes)


def main() -> None:
    made = play()
    blocks = [[block.time, list(block.transactions)] for block in made.blocks]
    PATH.write_bytes(codec.encode([encode_genesis(made.genesis), blocks, made.hashes]))


if __name__ == "__main__":
    main()
