"""What the ledger is told of those who sign blocks, and what dishonest proposers can do."""

from dataclasses import replace

import pytest

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.state.records import Candidate, Fault, Round
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block, LightClientAttack
from tests.govern.cometbft.consensus import check_headers
from tests.govern.cometbft.deciding import consensus_of, follow, key_of, misbehaviour, play_round, step
from tests.govern.playing import key


@pytest.fixture
def chain(tmp_path):
    return consensus_of(tmp_path)


# Signers


@pytest.mark.parametrize(
    ("kind", "named"),
    [(abci.Fault.DUPLICATE_VOTE, "double-signature"), (abci.Fault.LIGHT_CLIENT_ATTACK, "light-client-attack")],
)
def test_misbehaviour_is_slashed_once_and_bars_for_good(chain, kind, named):
    consensus, play = chain
    step(chain)
    ann = play.state.need(Candidate, "ann").tokens
    shown = (misbehaviour("ann", consensus, kind=kind),)
    answer = step(chain, ("hal", tx.Delegate("bob", 3)), shown=shown)
    assert len(answer.results) == 2
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind, fault.infraction) == ("ann", named, 1)
    assert play.state.need(Candidate, "ann").tombstoned
    assert play.state.need(Candidate, "ann").tokens < ann
    assert abci.ValidatorUpdate(key_of("ann"), 0) in answer.validators
    assert key_of("eve") in consensus.sets[consensus.height + 2]
    # Until then it is a validator still; another word on it costs nothing more, at this height or at another one.
    assert key_of("ann") in consensus.sets[consensus.height + 1]
    for height in (1, 2):
        step(chain, shown=(misbehaviour("ann", consensus, height),))
    assert len(play.state.all(Fault)) == 1
    assert key_of("ann") not in consensus.validators
    check_headers(consensus.nodes[0].handler, consensus)


def test_a_proposal_must_say_what_was_shown_of_signers_and_in_its_one_form(chain):
    consensus, _ = chain
    step(chain)
    step(chain)
    shown = tuple(misbehaviour(name, consensus, height) for name, height in (("bob", 2), ("ann", 1), ("cat", 1)))
    good = consensus.proposal(shown=(*shown, shown[0]))
    assert consensus.votes(good) == [True, True]
    word = Block.of(3, 0, good.transactions).double_signatures
    assert [one.height for one in word] == [1, 1, 2]
    for others in (word[::-1], word[:2], (*word, word[0]), (replace(word[0], height=2), *word[1:])):
        items = Block(3, 0, double_signatures=others).items
        assert consensus.votes(good._replace(transactions=items)) == [False, False]
    attack = LightClientAttack(key_of("dan"), 1)
    for block in (
        Block(3, 0, double_signatures=word, attacks=(attack,)),
        Block(3, 0, double_signatures=word[:2], attacks=(LightClientAttack(word[2].public, word[2].height),)),
    ):
        assert consensus.votes(good._replace(transactions=block.items)) == [False, False]
    assert consensus.votes(good._replace(transactions=())) == [False, False]


def test_misbehaviour_of_somebody_unknown_is_no_fault(chain):
    consensus, play = chain
    step(chain)
    unknown = misbehaviour("ann", consensus)._replace(validator=abci.Validator(b"\x07" * 20, 5))
    answer = step(chain, shown=(unknown,))
    assert answer.results == ()
    assert not play.state.all(Fault)


def test_who_has_not_signed_is_noted_where_that_is_looked_at_and_loses_its_seat_for_too_many(tmp_path):
    chain = consensus, play = consensus_of(tmp_path, signing_blocks=10, duty_window=4, duty_misses=2, standbys=3)
    gone = {key_of("dan")}
    while play.height < 19:
        step(chain, absent=gone if play.height else ())
    assert play.state.need(Candidate, "dan").window == 1
    assert not play.state.need(Candidate, "dan").jailed
    answer = step(chain, absent=gone)
    assert play.state.need(Candidate, "dan").jailed
    assert abci.ValidatorUpdate(key_of("dan"), 0) in answer.validators
    # Only who misses is spoken of, and where all have signed nobody is.
    told = [request.height for request, _ in consensus.decided if request.transactions]
    assert told == [10, 20]


def test_a_validator_that_changed_its_key_is_not_held_to_the_old_one(chain):
    consensus, play = chain
    new = key("ann's consensus 1")
    body = tx.SetConsensusKey(new.public, new.sign(tx.possession(play.genesis.digest, "ann", new.public)))
    answer = step(chain, ("ann", body))
    power = consensus.sets[1][key_of("ann")]
    assert set(answer.validators) == {(new.public, power), (key_of("ann"), 0)}
    for _ in range(3):
        step(chain)
    assert new.public in consensus.validators
    # Still, by its old address it can be named for what it did.
    step(chain, shown=(misbehaviour("ann", consensus, 1),))
    assert [one.offender for one in play.state.all(Fault)] == ["ann"]


def test_nobody_is_absent_for_a_key_that_decides_no_longer(tmp_path):
    chain = consensus, play = consensus_of(tmp_path, signing_blocks=10)
    while play.height < 8:
        step(chain)
    new = key("ann's consensus 1")
    body = tx.SetConsensusKey(new.public, new.sign(tx.possession(play.genesis.digest, "ann", new.public)))
    step(chain, ("ann", body))
    # The block before was still to be signed by the old one.
    assert key_of("ann") in consensus.sets[9]
    assert step(chain, absent={key_of("ann"), key_of("bob")}).results == (abci.TxResult(),)
    assert Block.of(10, 0, consensus.decided[-1][0].transactions).absent == (key_of("bob"),)
    assert play.state.need(Candidate, "ann").window == 0


# Dishonest proposers


@pytest.mark.parametrize("seats", [4, 7])
def test_what_dishonest_proposers_leave_out_as_long_as_they_can_still_gets_in_within_its_window(tmp_path, seats):
    """In a row of 2n blocks no honest one may come: each phase of a round is longer by ten."""
    names = [f"s{at}" for at in range(seats)]
    windows = {f"{phase}_blocks": 2 * seats + 10 for phase in ("commit", "deliver", "compute", "reveal")}
    chain = consensus, play = consensus_of(
        tmp_path,
        stakes=dict.fromkeys(names, 3_000),
        delegations=(),
        contributors=names,
        cohort_size=seats,
        super_nodes=seats,
        standbys=0,
        max_seat_changes=seats,
        unbonding_blocks=10_000,
        **windows,
    )
    dishonest = consensus.nodes[1]

    def late(pairs):
        """Let dishonest proposers of 2n blocks leave out everything, and then an honest one propose."""
        raws = [play.sign(name, body) for name, body in pairs]
        assert [consensus.submit(raw) for raw in raws] == [""] * len(raws)
        kept, dishonest.pool = dishonest.pool, []
        for _ in range(2 * seats):
            consensus.step(proposer=1)
            follow(chain)
            dishonest.pool = []
        dishonest.pool = kept
        consensus.step(proposer=0)
        follow(chain)
        assert set(consensus.decided[-1][0].transactions) == set(raws)

    play_round(chain)
    number = play.chain.round
    assert number == 1
    late([play.update(one.member) for one in play.latest.cohort])
    wait_for(chain, "deliver")
    late([play.hold(name) for name in play.super_nodes()])
    wait_for(chain, "compute")
    openings = {name: play.opening(name) for name in play.super_nodes()}
    late([play.attestation(*one) for one in openings.items()])
    wait_for(chain, "reveal")
    late(openings.items())
    wait_for(chain, "final", number)
    over = play.state.need(Round, number)
    assert over.attempt == 1
    assert set(over.members) == set(names)


def wait_for(chain, phase, number=1):
    """Decide blocks in which nobody says anything until a round has come to a phase."""
    for _ in range(100):
        found = chain[1].state.need(Round, number)
        if found.phase == phase:
            return
        step(chain)
    raise AssertionError(f"the round stays in {found.phase}")
