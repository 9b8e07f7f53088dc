from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import InvalidGenesis
from fedmeta.govern.machine.genesis import (
    FirstCandidate,
    FirstDelegation,
    FirstMember,
    FirstRecipe,
    decode_genesis,
    encode_genesis,
    genesis_of,
    start,
)
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.records import Candidate, Chain, Delegation, Member, Recipe, Round, Term
from fedmeta.govern.views.invariants import check_invariants, supply_parts
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.events import CandidateRegistered, MemberAdmitted, RoundScheduled, Staked, TermElected
from tests.govern.playing import MODEL, RECIPE, STAKES, TIME, federation, key


def test_a_ledger_starts_with_what_its_genesis_says():
    genesis = federation()
    state = start(genesis).state
    chain = state.need(Chain)
    assert (chain.chain_id, chain.height, chain.time, chain.beacon) == ("play", 0, TIME, genesis.digest)
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
    assert state.need(Parameters).term_length == 40
    check_invariants(state)


def test_two_terms_are_elected_and_a_round_is_scheduled():
    begun = start(federation())
    first, second = begun.state.need(Term, 1), begun.state.need(Term, 2)
    assert [one.candidate for one in first.seats] == ["ann", "bob", "cat", "dan"]
    assert [one.candidate for one in second.seats] == ["ann", "bob", "cat", "dan"]
    assert (first.start, first.ends, second.start) == (1, 40, 0)
    live = begun.state.need(Round, 1)
    assert (live.phase, live.deadline, len(live.cohort)) == ("opening", 4, 4)
    assert begun.app_hash == begun.state.root


def test_the_start_is_told_by_events_like_any_change():
    events = start(federation()).events
    assert len([one for one in events if isinstance(one, MemberAdmitted)]) == 10
    assert len([one for one in events if isinstance(one, CandidateRegistered)]) == 7
    assert sum(one.amount for one in events if isinstance(one, Staked)) == sum(STAKES.values()) + 2_700
    assert [one.term for one in events if isinstance(one, TermElected)] == [1, 2]
    assert [one.round for one in events if isinstance(one, RoundScheduled)] == [1]


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
        replace(genesis, recipes=()),
    ]
    assert len({one.digest for one in [genesis, *others]}) == 7
    assert len({start(one).app_hash for one in [genesis, *others]} - {start(genesis).app_hash}) == 6


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
        (changed(recipes=(FirstRecipe(RECIPE, "a", MODEL), FirstRecipe(RECIPE, "b", MODEL))), "listed twice"),
        (changed(recipes=(FirstRecipe(b"", "a", MODEL),)), "digest"),
        (parameter(nonsense=1), "nonsense"),
        (parameter(term_length=1), "term_length"),
        (parameter(term_length=True), "term_length"),
        (parameter(organisation_cap=333_333), "organisation_cap"),
        (parameter(unbonding_period=47), "evidence_age"),
        (parameter(evidence_age=7), "evidence_age"),
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
