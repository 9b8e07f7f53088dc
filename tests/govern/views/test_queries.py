import pytest

from fedmeta.govern.errors import REFUSALS, Refused
from fedmeta.govern.machine.application import seats_of
from fedmeta.govern.state.parameters import TABLE
from fedmeta.govern.state.records import Candidate, Chain, Delegation, Member
from fedmeta.govern.views.queries import QUERIES, query
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.round_events import ContributorPaid
from fedmeta.govern.wire.signatures import digest
from tests.govern.engines.story import LIE
from tests.govern.playing import CHAIN, CONTRIBUTORS, RECIPE, Play, key
from tests.govern.small import refuses


@pytest.fixture(scope="module")
def play():
    """A chain with final rounds and a live one, an unbonding, an executed and an open proposal, and a fault."""
    play = Play()
    play.round()
    play.must(
        ("hal", tx.Undelegate("ann", 300)),
        ("ivy", tx.Redelegate("bob", "cat", 100)),
        ("joy", tx.Propose("spend", {"kind": "spend", "member": "joy", "amount": 5})),
    )
    play.must(*((name, tx.CastVote(1, "yes")) for name in ("ann", "bob", "cat", "dan")))
    play.wait(9)
    play.round(results={"dan": LIE})
    play.round(withhold=("cat",))
    play.must(("joy", tx.Propose("again", {"kind": "spend", "member": "joy", "amount": 5})))
    play.must(("hal", tx.CastVote(2, "no")))
    play.to_deliver()
    play.must(("ann", tx.Seal(4, bytes(32))), play.hold("ann", ["hal", "joy"]))
    return play


def arguments(play):
    """Arguments with which each query has an answer."""
    given = {one: {} for one in QUERIES}
    for name in ("member", "balance", "candidate"):
        given[name] = {"name": "ann"}
    given["round"] = given["scores"] = {"number": 2}
    given["registrations"] = {"recipe": RECIPE}
    for name in ("term", "proposal", "fault"):
        given[name] = {"number": 1}
    return given


def plain(value):
    if type(value) is dict:
        return all(type(name) is str and plain(one) for name, one in value.items())
    if type(value) is list:
        return all(map(plain, value))
    return value is None or type(value) in (int, str, bytes, bool)


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_gives_plain_values_without_floats(play, name):
    answer = query(play.state, name, **arguments(play)[name])
    assert plain(answer)
    assert QUERIES[name].meaning


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("nothing", {}, "not-found"),
        ("member", {}, "bad-value"),
        ("member", {"name": 5}, "bad-value"),
        ("member", {"name": "ann", "colour": "red"}, "bad-value"),
        ("term", {"number": "1"}, "bad-value"),
        ("term", {"number": True}, "bad-value"),
        ("members", {"limit": 0}, "bad-value"),
        ("members", {"limit": 1_001}, "bad-value"),
        ("member", {"name": "nobody"}, "unknown-member"),
        ("balance", {"name": "nobody"}, "unknown-member"),
        ("candidate", {"name": "joy"}, "not-found"),
        ("term", {"number": 99}, "not-found"),
        ("round", {"number": 99}, "not-found"),
        ("scores", {"number": 99}, "not-found"),
        ("proposal", {"number": 99}, "not-found"),
        ("fault", {"number": 99}, "not-found"),
        ("registrations", {"recipe": RECIPE.hex()}, "bad-value"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_its_code(play, name, arguments, code):
    with refuses(code):
        query(play.state, name, **arguments)


@pytest.mark.parametrize("name", [one for one, made in QUERIES.items() if "number" in made.arguments])
def test_no_number_gives_anything_but_an_answer_or_a_refusal(play, name):
    for number in (0, -1, 2**63, -(2**200)):
        with pytest.raises(Refused) as caught:
            query(play.state, name, number=number)
        assert caught.value.code in REFUSALS


def test_the_parts_of_the_supply_add_up_to_it(play):
    parts = query(play.state, "supply")
    whole = parts.pop("supply")
    assert sum(parts.values()) == whole == play.genesis.supply
    assert all(parts.values())


def test_all_balances_the_treasury_and_what_is_with_nobody_make_the_supply(play):
    totals = sum(query(play.state, "balance", name=one.name)["total"] for one in play.state.all(Member))
    rest = play.genesis.supply - play.chain.treasury - totals
    # Rounding in each delegation's value and in each one's accrued rewards leaves less than a unit.
    assert 0 <= rest < 2 * play.state.count(Delegation)


def test_a_balance_names_every_place(play):
    hal = query(play.state, "balance", name="hal")
    assert [one["amount"] for one in hal["unbonding"]] == [300]
    assert [(one["candidate"], one["value"]) for one in hal["bonded"]] == [("ann", 700)]
    assert query(play.state, "balance", name="joy")["deposits"] == play.parameters.proposal_deposit
    ivy = query(play.state, "balance", name="ivy")
    assert [one["amount"] for one in ivy["redelegations"]] == [100]
    parts = ivy["free"] + ivy["owed"] + ivy["accrued"] + ivy["deposits"]
    assert ivy["total"] == parts + sum(one["value"] for one in ivy["bonded"])


def test_lists_are_by_name_and_go_on_after_one(play):
    names = [one["name"] for one in query(play.state, "members")]
    assert names == sorted(names)
    pages = [one["name"] for one in query(play.state, "members", limit=4)]
    while len(pages) < len(names):
        pages += [one["name"] for one in query(play.state, "members", after=pages[-1], limit=4)]
    assert pages == names
    assert [one["number"] for one in query(play.state, "proposals", after=1)] == [2]
    assert len(query(play.state, "candidates")) == play.state.count(Candidate)


def test_a_proposal_shows_its_count_while_it_is_voted_on(play):
    shown = query(play.state, "proposal", number=2)
    assert (shown["status"], shown["no"], shown["votes"]) == ("voting", 700, {"hal": "no"})
    assert shown["turnout"] == 700 * 10**6 // shown["bonded"]
    assert shown["action"] == {"kind": "spend", "member": "joy", "amount": 5}
    assert query(play.state, "proposal", number=1)["status"] == "executed"


def test_a_round_shows_what_was_put_on_the_ledger_for_it(play):
    shown = query(play.state, "round", number=3)
    assert shown["phase"] == "final"
    assert (shown["closes"], shown["closes_time"]) == (0, 0)
    assert shown["members"] == sorted(one["member"] for one in shown["updates"])
    assert [one["candidate"] for one in shown["attestations"] if not one["revealed"]] == ["cat"]
    assert [one["candidate"] for one in shown["holds"]] == sorted(play.super_nodes(3))
    assert shown["power"] == sum(one["power"] for one in shown["seats"])


def test_a_live_round_shows_who_has_done_what_and_when_its_window_closes(play):
    shown = query(play.state, "round", number=4)
    assert (shown["phase"], shown["attempt"], shown["members"]) == ("deliver", 1, [])
    assert shown["closes"] == shown["opened"] + play.parameters.deliver_blocks
    assert shown["closes_time"] == shown["opened_time"] + 1_000 * play.parameters.deliver_seconds
    assert shown["seals"] == [{"round": 4, "candidate": "ann", "header": bytes(32), "public": key("ann").public}]
    assert shown["holds"] == [{"round": 4, "candidate": "ann", "members": ["hal", "joy"]}]


def test_the_registrations_of_a_recipe_are_those_that_wait_for_it_by_how_long(play):
    shown = query(play.state, "registrations", recipe=RECIPE)
    assert [one["member"] for one in shown] == list(CONTRIBUTORS)
    assert [one["waiting"] for one in shown] == sorted(one["waiting"] for one in shown)
    assert query(play.state, "registrations", recipe=bytes(32)) == []


def test_a_candidate_shows_its_weight_and_its_faults(play):
    shown = query(play.state, "candidate", name="dan")
    assert [one["kind"] for one in shown["faults"]] == ["false-result"]
    assert shown["weight"] == shown["tokens"]
    assert shown["own_stake"] == 2_500 - 2_500 // 20
    assert shown["highest_commission"] == 100_000


def test_the_parameters_are_the_whole_table(play):
    shown = query(play.state, "parameters")
    assert [one["name"] for one in shown] == list(TABLE)
    assert {one["name"]: one["value"] for one in shown}["term_length"] == 40


def test_the_status_says_where_the_ledger_stands(play):
    shown = query(play.state, "status")
    assert (shown["chain_id"], shown["height"], shown["app_hash"]) == (CHAIN, play.height, play.hashes[-1])
    assert (shown["voting"], shown["round"], shown["phase"], shown["attempt"]) == ([2], 4, "deliver", 1)
    assert shown["genesis"] == play.genesis.digest
    assert shown["supply"] == play.state.need(Chain).supply


def test_a_member_shows_the_key_in_force(play):
    assert query(play.state, "member", name="ann")["public"] == key("ann").public


def test_a_recipe_shows_the_model_it_has_reached(play):
    (shown,) = query(play.state, "recipes")
    assert shown["digest"] == RECIPE
    assert shown["model"] == query(play.state, "round", number=3)["result"]


def test_fairness_is_open_to_all(play):
    shown = query(play.state, "fairness")
    assert shown["powers"] == query(play.state, "term", number=shown_term(play))["powers"]
    assert shown["nakamoto"]["stop"] >= 1
    assert set(shown["turnout"]) == {"1"}


def shown_term(play):
    return query(play.state, "status")["term"]


def test_scores_are_those_that_were_paid_by_and_each_seats_distance_from_them():
    play = Play()
    play.to_compute()
    stingy = next(one for one in play.super_nodes() if one != "ann")
    less = tuple(one // 2 if at else 0 for at, one in enumerate(play.fair(stingy)))
    number = play.chain.round
    final = play.round(scores={stingy: less})
    assert final.phase == "final"
    found = query(play.state, "scores", number=number)
    medians = {one["member"]: one["score"] for one in found["updates"]}
    assert medians == {one.member: one.score for one in play.events(ContributorPaid) if one.round == number}
    seats = {one["candidate"]: one for one in found["scorers"]}
    assert set(seats) == set(play.super_nodes())
    apart = [abs(score - medians[name]) for name, score in seats[stingy]["scores"].items()]
    assert seats[stingy]["distance"] == sum(apart) // len(apart) > 0
    assert seats["ann"]["distance"] == 0
    assert set(seats["ann"]["scores"]) == {name for name in final.members if not play._own("ann", name)}
    for one in seats.values():
        assert not [name for name in one["scores"] if play._own(one["candidate"], name)]


def test_a_round_that_is_not_final_has_no_scores_yet(play):
    assert query(play.state, "scores", number=4) == {"round": 4, "updates": [], "scorers": []}


def test_validators_are_the_super_nodes_with_the_keys_and_the_powers_by_which_the_next_block_is_decided():
    play = Play(validators=True, unbonding_seconds=600)
    play.wait(play.parameters.term_length + 1)
    found = query(play.state, "validators")
    assert {one["public"]: (one["candidate"], one["power"]) for one in found} == {
        one.public: (one.candidate, one.power) for one in seats_of(play.state)
    }
    assert {one["since_term"] for one in found} == {1}
    assert play.chain.term == 2
    assert [one["address"] for one in found] == [digest(one["public"])[:20] for one in found]
    assert query(Play().state, "validators") == []
