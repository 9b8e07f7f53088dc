"""The ledger as CometBFT's application, asked in CometBFT's order in this process: what it says, proposes and votes."""

from dataclasses import replace

import pytest

from fedmeta.govern.client.light import verify_record
from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.engines.cometbft.bridge import EVIDENCE_BYTES, consensus_parameters
from fedmeta.govern.errors import Refused, StateError, StoreError, WrongProtocol
from fedmeta.govern.machine import execute
from fedmeta.govern.machine.execute import PROTOCOL
from fedmeta.govern.state.parameters import LARGEST_TRANSACTION
from fedmeta.govern.state.records import Member
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block, DoubleSignature
from fedmeta.govern.wire.merkle import Proof
from fedmeta.govern.wire.signatures import digest
from tests.govern.cometbft.consensus import check_headers
from tests.govern.cometbft.deciding import consensus_of, follow, key_of, misbehaviour, play_round, raws_of, step
from tests.govern.engines.keeping import KEPT, short_memory
from tests.govern.playing import PARAMETERS, Play, federation, key


@pytest.fixture
def chain(tmp_path):
    return consensus_of(tmp_path)


@pytest.fixture
def quiet(tmp_path):
    """A chain without rounds, where nothing happens by itself."""
    return consensus_of(tmp_path, contributors=())


# Where it begins, and where it goes on


def test_a_chain_begins_with_the_seats_of_its_genesis_and_what_its_parameters_say(chain):
    consensus, play = chain
    seats = play.super_nodes()
    assert set(consensus.sets[1]) == {key_of(name) for name in seats}
    assert consensus.hashes == [consensus.genesis.digest]
    block, evidence, _, version = consensus.parameters
    assert block.max_bytes > play.parameters.max_block_bytes
    assert evidence == (play.parameters.unbonding_blocks, play.parameters.unbonding_seconds * 10**9, EVIDENCE_BYTES)
    assert version == PROTOCOL


@pytest.mark.parametrize("wrong", [{"chain_id": "another"}, {"time": 1}, {"initial_height": 2}])
def test_a_chain_that_is_not_the_genesis_s_does_not_begin(chain, wrong):
    consensus, _ = chain
    with pytest.raises(StateError, match="CometBFT begins with chain"):
        consensus.nodes[0].handler.init_chain(consensus.beginning(**wrong))


def test_a_chain_does_not_begin_where_there_is_one(chain):
    step(chain, ("hal", tx.Delegate("bob", 7)))
    with pytest.raises(StateError, match="that is here at height 1"):
        chain[0].nodes[0].handler.init_chain(chain[0].beginning())


def story(chain):
    """Decide twelve blocks of which some are quiet, the first ones and the last ones too; yield after each."""
    for height in range(1, 13):
        busy = height in (3, 4, 8, 10)
        step(chain, *[("hal", tx.Delegate("bob", 10 * height))] * busy)
        yield height


def test_what_a_crash_has_lost_is_executed_again(tmp_path, quiet):
    chain = consensus, _ = quiet
    left = {0: consensus.nodes[1].handler.copied(tmp_path / "0")}
    for height in story(chain):
        left[height] = consensus.nodes[1].handler.copied(tmp_path / str(height))
    kept = consensus.nodes[0].handler
    for height, ledger in left.items():
        consensus.handshake(1, ledger)
        check_headers(ledger, consensus)
        assert ledger.application.app_hash == kept.application.app_hash, height
        assert ledger.application.height == 12
    # And all go on together, with the one that came back last as well.
    step(chain, ("joy", tx.Delegate("ann", 5)))


def test_cometbft_may_begin_anew_beside_an_application_that_lives(quiet):
    chain = consensus, _ = quiet
    consensus.handshake(1)
    for _ in story(chain):
        consensus.handshake(1)
        info = consensus.nodes[1].handler.info(abci.InfoRequest("", 0, 0, ""))
        assert info.app_hash == consensus.hashes[-1] or info.height == 0
    check_headers(consensus.nodes[1].handler, consensus)


def test_a_block_that_was_executed_and_not_kept_is_executed_once_more(chain):
    consensus, play = chain
    assert consensus.submit(play.sign("hal", tx.Delegate("bob", 7))) == ""
    block = consensus.proposal()
    ledger = consensus.nodes[1].handler
    once = ledger.finalize_block(block)
    consensus.handshake(1)
    assert ledger.finalize_block(block) == once
    consensus.decide(block)
    follow(chain)


def test_a_block_that_could_not_be_written_is_executed_again_and_written_then(quiet, monkeypatch):
    chain = consensus, play = quiet
    assert consensus.submit(play.sign("hal", tx.Delegate("bob", 7))) == ""
    block = consensus.proposal()
    here, there = (one.handler for one in consensus.nodes)
    answer = here.finalize_block(block)
    here.commit()
    assert there.finalize_block(block) == answer
    with monkeypatch.context() as patch:
        patch.setattr(there.store, "append", fails)
        with pytest.raises(StoreError, match="full"):
            there.commit()
    assert there.application.height == 0
    assert there.ear.blocks == []
    # Its CometBFT has kept the block, and shows it again.
    consensus.keep(block, answer)
    consensus.handshake(1)
    assert there.ear.blocks == here.ear.blocks
    check_headers(there, consensus)
    follow(chain)


def fails(*_):
    raise StoreError("the disk is full")


def test_where_another_protocol_begins_no_node_goes_on_and_all_have_the_same_blocks(quiet):
    chain = consensus, play = quiet
    action = {"kind": "upgrade", "protocol": PROTOCOL + 1, "height": 15}
    step(chain, ("hal", tx.Propose("the next rules", action)))
    step(chain, *((name, tx.CastVote(1, "yes")) for name in ("ann", "bob", "cat", "dan", "eve")))
    while consensus.height < 14:
        step(chain)
    assert consensus.submit(play.sign("hal", tx.Delegate("bob", 7))) == "wrong-protocol"
    with pytest.raises(WrongProtocol, match="from height 15 on the ledger is executed by protocol"):
        consensus.proposal()
    assert consensus.votes(consensus.request()) == [False, False]
    for node in consensus.nodes:
        with pytest.raises(WrongProtocol):
            node.handler.finalize_block(consensus.request())
        assert node.handler.info(abci.InfoRequest("", 0, 0, "")).height == 14


def test_nothing_is_kept_that_was_not_executed(chain):
    with pytest.raises(StateError, match="has not had executed"):
        chain[0].nodes[0].handler.commit()


def test_the_app_hash_stands_still_where_nothing_happens(quiet):
    chain = consensus, _ = quiet
    for height in story(chain):
        moved = consensus.hashes[height] != consensus.hashes[height - 1]
        assert moved == (height in (3, 4, 8, 10))
        assert (consensus.nodes[0].handler.store.header(height) is not None) == moved
    check_headers(consensus.nodes[0].handler, consensus)


# Proposals


def test_a_proposal_of_what_waits_is_voted_for_and_everything_else_against(chain):
    consensus, play = chain
    play_round(chain)
    of_round = [play.sign(*play.update(one.member)) for one in play.latest.cohort[:2]]
    others = raws_of(play, 3)
    good = (*of_round, *others)
    assert consensus.votes(consensus.request(good)) == [True, True]
    refused = play.sign("joy", tx.Delegate("bob", 10**12))
    false = Block(1, 0, double_signatures=(DoubleSignature(key_of("ann"), 1),)).items[0]
    absent = Block(1, 0, absent=(key_of("ann"),)).items[0]
    for bad in (
        (*others, *of_round),
        (of_round[0], *others, of_round[1]),
        (*good, refused),
        (*good, others[0]),
        (others[1], others[0]),
        (*good, b""),
        (*good, b"junk"),
        (false, *good),
        (absent, *good),
        (*good, false),
        (false[:-1], *good),
        (false + b"\0", *good),
        (false, false),
    ):
        assert consensus.votes(consensus.request(bad)) == [False, False], bad
    wrong = consensus.request(good)
    assert consensus.votes(wrong._replace(height=wrong.height + 1)) == [True, True]
    assert consensus.votes(wrong._replace(height=wrong.height - 1)) == [False, False]
    assert consensus.votes(wrong._replace(time=consensus.time - 10**6)) == [False, False]
    assert consensus.decide(consensus.request(good)).results == (abci.TxResult(),) * 5


def test_a_proposal_with_more_of_a_member_than_the_quota_is_voted_against(tmp_path):
    consensus, play = consensus_of(tmp_path, member_transactions=3)
    four = raws_of(play, 4)
    assert [consensus.submit(raw) for raw in four] == ["", "", "", "limit-reached"]
    assert consensus.votes(consensus.request(four[:3])) == [True, True]
    assert consensus.votes(consensus.request(four)) == [False, False]
    # As many may wait for the block after the one that is awaited.
    assert consensus.submit(four[3]) == ""
    for node in consensus.nodes:
        # A pool whose application does not refuse it.
        node.pool = [*four, *raws_of(play, 3, "joy")]
    assert len(consensus.proposal().transactions) == 6


def test_a_proposal_that_is_too_large_is_voted_against(tmp_path):
    consensus, play = consensus_of(tmp_path, max_block_bytes=65_536)
    many = raws_of(play, 199, body=tx.SetProfile("x" * 64, "https://a.example/" + "y" * 180, b""))
    many += raws_of(play, 199, "joy", tx.SetProfile("x" * 64, "https://a.example/" + "y" * 180, b""))
    sums = [sum(map(len, many[:at])) for at in range(len(many))]
    most = max(at for at, one in enumerate(sums) if one <= 65_536)
    assert most < len(many) - 1
    assert consensus.votes(consensus.request(many[:most])) == [True, True]
    assert consensus.votes(consensus.request(many[: most + 1])) == [False, False]
    for node in consensus.nodes:
        node.pool = many
    assert consensus.proposal().transactions == tuple(many[:most])


@pytest.mark.parametrize("less", range(4))
def test_a_proposal_fills_the_bytes_that_cometbft_gives_and_not_one_more(chain, less):
    consensus, play = chain
    consensus.step()
    # Evidence that takes room, and says something of a signer, takes its own bytes of a proposal.
    shown = (misbehaviour("ann", consensus),)
    raws = raws_of(play, 20)
    for node in consensus.nodes:
        node.pool = raws
    word = consensus.proposal(shown=shown).transactions[0]
    room = sum(map(abci.proposed_size, (word, *raws[:7]))) - less
    consensus.room = lambda: room
    block = consensus.proposal(shown=shown)
    assert block.transactions == (word, *raws[: 7 - (less > 0)])
    assert consensus.votes(block) == [True, True]


def test_the_largest_block_of_the_ledger_fits_into_cometbft_s_with_a_hundred_validators_and_all_evidence():
    # Each item takes its tag and its length more than its own bytes: the smallest ones the most, in proportion.
    smallest = len(tx.sign(key("a"), bytes(32), "a", 0, tx.Claim()))
    for size in (65_536, 1 << 21, 1 << 26):
        parameters = replace(Play(federation(validators=True)).parameters, max_block_bytes=size)
        said = consensus_parameters(parameters).block.max_bytes
        largest = size // smallest * abci.proposed_size(bytes(smallest)) + LARGEST_TRANSACTION // 16
        assert largest + 11 + 626 + 94 + 111 * 100 + EVIDENCE_BYTES <= said <= 100 << 20


# What leaves the pool


def test_what_a_rule_refuses_at_its_turn_leaves_the_proposer_s_pool_and_is_answered(chain):
    consensus, play = chain
    all_of_it = play.member("hal").free
    both = [play.sign("hal", tx.Delegate("bob", all_of_it), ahead=at) for at in range(2)]
    assert [consensus.submit(raw) for raw in both] == ["", "insufficient-funds"]
    # Another node's order let the second one in.
    for node in consensus.nodes:
        node.pool = list(both)
    consensus.step()
    assert len(consensus.decided[-1][0].transactions) == 1
    assert [one.pool for one in consensus.nodes] == [[], []]
    assert [one.refused for one in consensus.nodes] == [{both[1]: "insufficient-funds"}] * 2
    assert [one.handler.ear.refusals for one in consensus.nodes] == [{digest(both[1]): "insufficient-funds"}] * 2


def test_what_checks_let_in_and_every_proposal_refuses_leaves_as_well(chain, monkeypatch):
    """CheckTx judges at the last block's time, a proposal at its own: what only the latter refuses must not stay."""
    consensus, play = chain

    def at_the_last_blocks_time(context, name, body):
        if context.time > consensus.nodes[0].handler.application.time:
            raise Refused("not-allowed", "it is too late")

    monkeypatch.setitem(execute.RULES, tx.Claim, at_the_last_blocks_time)
    late = play.sign("ann", tx.Claim())
    assert consensus.submit(late) == ""
    for proposer in range(2):
        assert [late in one.pool for one in consensus.nodes] == [proposer == 0, True]
        consensus.step(proposer)
        assert consensus.decided[-1][0].transactions == ()
    assert [one.pool for one in consensus.nodes] == [[], []]
    assert [one.handler.ear.refusals for one in consensus.nodes] == [{digest(late): "not-allowed"}] * 2


def test_one_that_comes_too_early_waits_for_those_before_it(chain):
    consensus, play = chain
    first, second = raws_of(play, 2)
    assert [consensus.submit(raw) for raw in (first, second)] == ["", ""]
    # Parts may come in another order in a pool.
    consensus.nodes[0].pool.reverse()
    consensus.step()
    assert consensus.decided[-1][0].transactions == (first,)
    assert [one.pool for one in consensus.nodes] == [[second], [second]]
    consensus.step(proposer=1)
    assert consensus.decided[-1][0].transactions == (second,)


def test_the_codes_of_a_decided_block_are_told_and_answered(chain):
    consensus, play = chain
    bad, good = play.sign("hal", tx.Delegate("bob", 10**12)), play.sign("joy", tx.Delegate("bob", 1))
    answer = consensus.decide(consensus.request((bad, good)))
    assert [(one.code, one.codespace) for one in answer.results] == [(1, "insufficient-funds"), (0, "")]
    assert consensus.nodes[0].handler.ear.blocks[-1][1] == ("insufficient-funds", "")


# Parameters


def test_what_a_vote_changes_of_sizes_and_periods_cometbft_is_told_with_the_block_that_changes_it(chain):
    _, play = chain
    values = {"max_block_bytes": 100_000, "unbonding_blocks": 3_000, "unbonding_seconds": 1_200}
    step(chain, ("hal", tx.Propose("smaller", {"kind": "set-parameters", "values": values})))
    step(chain, *((name, tx.CastVote(1, "yes")) for name in ("ann", "bob", "cat", "dan", "eve")))
    told = {}
    for _ in range(PARAMETERS["voting_blocks"] + PARAMETERS["delay_blocks"] + 2):
        answer = step(chain)
        if answer.parameters is not None:
            told[play.height] = answer.parameters
    ((height, said),) = told.items()
    changed = next(at for at, state in enumerate(play.log) if any(one.kind == "parameter-set" for one in state))
    assert height == changed
    assert said == consensus_parameters(play.parameters)
    assert said.evidence == (3_000, 1_200 * 10**9, EVIDENCE_BYTES)
    assert chain[0].parameters == said


def test_what_the_ledger_has_not_kept_cometbft_must_keep(tmp_path):
    chain = consensus, _ = consensus_of(tmp_path, contributors=(), term_length=400, unbonding_blocks=2_400)
    node, bare = consensus.nodes
    with short_memory():
        step(chain, ("hal", tx.Delegate("bob", 3)))
        for _ in range(50):
            step(chain)
        # Nothing has happened since the first block: the others are in memory only.
        assert (node.first, node.handler.store.tip) == (2, 1)
        consensus.handshake(0, node.handler.copied(tmp_path / "copy"))
        step(chain, ("hal", tx.Delegate("bob", 3)))
        assert node.first == bare.first == 52 - KEPT
        consensus.handshake(0, node.handler.copied(tmp_path / "another"))


# Queries


def test_a_record_is_shown_with_its_proof_and_what_is_asked_wrongly_is_refused(chain):
    consensus, play = chain
    step(chain, ("hal", tx.Delegate("bob", 3)))
    step(chain)
    bridge = consensus.nodes[0].handler
    answer = bridge.query(abci.QueryRequest("record/member", codec.encode("hal"), 0, True))
    assert (answer.code, answer.height) == (0, 1)
    assert (answer.proof[0].kind, answer.proof[0].key) == ("fedmeta:record", codec.encode("hal"))
    proof = Proof.from_value(codec.decode(answer.proof[0].data))
    assert proof.leaf == answer.value
    header = bridge.store.header(answer.height).header
    assert verify_record(proof, header) == play.state.need(Member, "hal")
    assert bridge.query(abci.QueryRequest("record/chain", codec.encode([]), 2, False)).proof == ()
    for path, data, height in (
        ("record/member", codec.encode("nobody"), 0),
        ("record/member", b"\xff", 0),
        ("record/member", codec.encode([["a"]]), 0),
        ("record/member", codec.encode([]), 0),
        ("record/member", codec.encode(["hal", "ivy"]), 0),
        ("record/member", codec.encode({"a": 1}), 0),
        ("record/nothing", codec.encode("hal"), 0),
        ("other/member", codec.encode("hal"), 0),
        ("", b"", 0),
        ("record/member", codec.encode("hal"), 1),
    ):
        assert bridge.query(abci.QueryRequest(path, data, height, True)).code == 1, (path, data, height)
