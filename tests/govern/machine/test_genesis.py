from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import InvalidGenesis, OlderProtocol
from fedmeta.govern.machine.execute import PROTOCOL, execute
from fedmeta.govern.machine.genesis import (
    FirstCandidate,
    FirstDelegation,
    FirstMember,
    FirstRecipe,
    FirstRegistration,
    decode_genesis,
    encode_genesis,
    genesis_of,
    start,
)
from fedmeta.govern.state.parameters import OF_SUPPLY, Parameters
from fedmeta.govern.state.records import Candidate, Chain, Delegation, Member, Recipe, Registration, Round, Term
from fedmeta.govern.views.invariants import check_invariants, supply_parts
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.events import CandidateRegistered, MemberAdmitted, Staked, TermElected
from fedmeta.govern.wire.round_events import RecipeJoined
from tests.govern.playing import CONTRIBUTORS, MODEL, RECIPE, STAKES, TIME, federation, key


def test_a_ledger_starts_with_what_its_genesis_says():
    genesis = federation()
    state = start(genesis).state
    chain = state.need(Chain)
    assert (chain.chain_id, state.height, state.time, chain.genesis) == ("play", 0, TIME, genesis.digest)
    assert (chain.protocol, chain.upgrade_to, chain.upgrade_at, chain.round) == (PROTOCOL, 0, 0, 0)
    assert chain.supply == genesis.supply == 1_000_000 + 10 * 10_000 + sum(STAKES.values()) + 2_700
    assert supply_parts(state) == {
        "free": 100_000,
        "bonded": sum(STAKES.values()) + 2_700,
        "unbonding": 0,
        "owed": 0,
        "treasury": 1_000_000,
        "deposits": 0,
    }
    assert {one.member: one.tokens for one in state.all(Candidate)}["ann"] == 6_000
    assert state.need(Delegation, "hal", "ann").shares == 1_000 * 10**6
    assert state.need(Member, "hal").keys[0].public == key("hal").public
    assert state.need(Recipe, RECIPE).model == MODEL
    assert {one.member: one.active for one in state.all(Registration)} == dict.fromkeys(CONTRIBUTORS, True)
    assert state.need(Parameters).term_length == 40
    check_invariants(state)


def test_two_terms_are_elected_and_the_first_block_schedules_a_round():
    begun = start(federation())
    first, second = begun.state.need(Term, 1), begun.state.need(Term, 2)
    assert [one.candidate for one in first.seats] == ["ann", "bob", "cat", "dan"]
    assert [one.candidate for one in second.seats] == ["ann", "bob", "cat", "dan"]
    assert (first.start, first.ends, second.start) == (1, 40, 0)
    assert begun.state.get(Round, 1) is None
    live = execute(begun.state, Block(1, TIME)).state.need(Round, 1)
    assert (live.phase, live.scheduled, [one.member for one in live.cohort]) == ("commit", 1, list(CONTRIBUTORS))
    assert begun.app_hash == begun.state.root


def test_the_start_is_told_by_events_like_any_change():
    events = start(federation()).events
    assert len([one for one in events if isinstance(one, MemberAdmitted)]) == 10
    assert len([one for one in events if isinstance(one, CandidateRegistered)]) == 7
    assert sum(one.amount for one in events if isinstance(one, Staked)) == sum(STAKES.values()) + 2_700
    assert [one.term for one in events if isinstance(one, TermElected)] == [1, 2]
    assert [one.member for one in events if isinstance(one, RecipeJoined)] == list(CONTRIBUTORS)


def test_a_genesis_is_the_same_after_encoding_and_decoding():
    genesis = federation()
    assert decode_genesis(encode_genesis(genesis)) == genesis
    assert decode_genesis(encode_genesis(genesis)).digest == genesis.digest


def test_every_change_to_a_genesis_gives_another_chain():
    genesis = federation()
    others = [
        replace(genesis, chain_id="other"),
        replace(genesis, time=TIME + 1),
        replace(genesis, treasury=1),
        replace(genesis, parameters={**genesis.parameters, "term_length": 41}),
        replace(genesis, members=(*genesis.members[:-1], replace(genesis.members[-1], free=1))),
        replace(genesis, recipes=(), registrations=()),
        replace(genesis, recipes=(replace(genesis.recipes[0], interval=2),)),
        replace(genesis, registrations=genesis.registrations[1:]),
        replace(genesis, sequencer=key("another").public),
    ]
    assert len({one.digest for one in [genesis, *others]}) == 10
    assert len({start(one).app_hash for one in [genesis, *others]} - {start(genesis).app_hash}) == 9


def test_the_order_of_the_parameters_does_not_matter():
    genesis = federation()
    other = replace(genesis, parameters=dict(reversed(genesis.parameters.items())))
    assert other.digest == genesis.digest
    assert start(other).app_hash == start(genesis).app_hash


def changed(**fields):
    return lambda genesis: replace(genesis, **fields)


def member(**fields):
    first = FirstMember("new", "org-new", key("new").public, 5, "", "")
    return lambda genesis: replace(genesis, members=(*genesis.members, replace(first, **fields)))


def candidate(*fields):
    return lambda genesis: replace(genesis, candidates=(*genesis.candidates, FirstCandidate(*fields)))


def delegation(*fields):
    return lambda genesis: replace(genesis, delegations=(*genesis.delegations, FirstDelegation(*fields)))


def registration(*fields):
    return lambda genesis: replace(genesis, registrations=(*genesis.registrations, FirstRegistration(*fields)))


def parameter(**values):
    return lambda genesis: replace(genesis, parameters={**genesis.parameters, **values})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed(chain_id="Not A Name"), "chain_id"),
        (changed(chain_id=""), "chain_id"),
        (changed(time=-1), "time"),
        (changed(time=True), "time"),
        (changed(sequencer=b"short"), "sequencer"),
        (changed(sequencer=bytes(32)), "small order"),
        (changed(treasury=-1), "treasury"),
        (changed(treasury=10**15), "supply"),
        (changed(treasury=2**64), "treasury"),
        (changed(candidates=()), "at least one"),
        (member(name="hal"), "already-done"),
        (member(public=key("hal").public), "already-done"),
        (member(public=b"\x01" + bytes(31)), "small order"),
        (member(name="UPPER"), "name"),
        (member(free=-1), "free"),
        (member(free=2**63), "free"),
        (member(title="x" * 201), "title"),
        (member(address="line\nbreak"), "address"),
        (candidate("nobody", 0, 1_000), "unknown-member"),
        (candidate("ann", 0, 1_000), "listed twice"),
        (candidate("hal", 200_001, 1_000), "commission-cap"),
        (candidate("hal", 0, 0), "stake"),
        (delegation("nobody", "ann", 1), "unknown-member"),
        (delegation("hal", "ivy", 1), "not-found"),
        (delegation("ann", "ann", 1), "delegates to itself"),
        (delegation("hal", "ann", -1), "bad-amount"),
        (changed(recipes=(FirstRecipe(RECIPE, "a", MODEL, 1), FirstRecipe(RECIPE, "b", MODEL, 1))), "listed twice"),
        (changed(recipes=(FirstRecipe(b"", "a", MODEL, 1),)), "digest"),
        (changed(recipes=(FirstRecipe(RECIPE, "a", MODEL, -1),)), "interval"),
        (changed(recipes=()), "no recipe"),
        (changed(protocol=1), "protocol is 1"),
        (changed(protocol=4), "protocol is 4"),
        (changed(protocol=-1), "protocol"),
        (registration("nobody", RECIPE), "unknown-member"),
        (registration("cat", MODEL), "no recipe"),
        (registration("cat", b""), "recipe"),
        (registration("ann", RECIPE), "already-done"),
        (parameter(nonsense=1), "nonsense"),
        (parameter(term_length=1), "term_length"),
        (parameter(term_length=True), "term_length"),
        (parameter(organisation_cap=333_333), "organisation_cap"),
        (parameter(unbonding_blocks=1_519), "unbonding_blocks is 1519: it must be at least 1520"),
        (parameter(reveal_blocks=17), "reveal_blocks is 17: it must be at least 18"),
        (parameter(smallest=7), "cohort_size"),
        (parameter(smallest=2), "smallest"),
        (parameter(term_budget=999), "round_pool"),
        (parameter(contributor_share=500_001), "add up"),
        (parameter(duty_misses=21), "duty_window"),
        (parameter(min_self_stake=5_001), "min_self_stake"),
    ],
)
def test_a_bad_genesis_is_refused_in_a_line_that_names_what_is_wrong(change, says):
    with pytest.raises(InvalidGenesis, match=says) as caught:
        start(change(federation()))
    assert str(caught.value).startswith("genesis: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OF_SUPPLY)
def test_amounts_that_would_shut_everybody_out_are_bounded_by_the_supply(name):
    genesis = federation(term_budget=10**9)
    most = genesis.supply * OF_SUPPLY[name] // 10**6
    start(parameter(**{name: most, "min_self_stake": 1_000})(genesis) if name != "min_self_stake" else genesis)
    with pytest.raises(InvalidGenesis, match=f"{name} is {most + 1}: it must be at most {most}"):
        parameter(**{name: most + 1})(genesis)


def test_a_genesis_of_the_protocol_with_a_leader_is_refused_in_one_clear_line():
    values = codec.decode(encode_genesis(federation()))
    old = {name: value for name, value in values.items() if name not in ("protocol", "registrations")}
    old["recipes"] = [{name: one[name] for name in ("digest", "title", "model")} for one in values["recipes"]]
    old["parameters"] = {"unbonding_period": 96, "evidence_age": 38}
    with pytest.raises(InvalidGenesis, match="it is of protocol 1, with a leader in each round") as caught:
        decode_genesis(codec.encode(old))
    assert "\n" not in str(caught.value)
    assert f"executes protocol {PROTOCOL}" in str(caught.value)


def test_a_genesis_whose_root_covered_height_and_time_is_refused_in_one_clear_line():
    values = codec.decode(encode_genesis(federation()))
    old = {**values, "protocol": 2}
    old["candidates"] = [{field: one[field] for field in one if field != "consensus"} for one in values["candidates"]]
    with pytest.raises(
        OlderProtocol, match=r"it is of protocol 2, .* the version that made the ledger reads it"
    ) as caught:
        decode_genesis(codec.encode(old))
    assert "\n" not in str(caught.value)


def test_unknown_and_missing_fields_are_refused():
    values = codec.decode(encode_genesis(federation()))
    assert genesis_of(values) == federation()
    for wrong in (
        {**values, "more": 1},
        {name: value for name, value in values.items() if name != "treasury"},
        {**values, "members": [{**values["members"][0], "shoe_size": 43}]},
        {**values, "members": "ann"},
        {**values, "members": [1]},
        {**values, "parameters": []},
        {**values, "parameters": {"term_length": "40"}},
        {**values, "registrations": [{"member": "ann"}]},
        {**values, "protocol": None},
        [],
        None,
    ):
        with pytest.raises(InvalidGenesis):
            genesis_of(wrong)


@given(st.binary(max_size=60))
def test_random_bytes_are_no_genesis(raw):
    with pytest.raises(InvalidGenesis):
        decode_genesis(raw)


@given(st.data())
def test_a_mutated_genesis_is_refused_or_is_another_genesis(data):
    raw = bytearray(encode_genesis(federation()))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_genesis(bytes(raw))
    except InvalidGenesis:
        return
    assert encode_genesis(found) == bytes(raw)
    assert found.digest != federation().digest
