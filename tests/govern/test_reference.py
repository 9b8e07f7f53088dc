"""The reference of the ledger: what the code declares is on the page, and what the page says by hand is so."""

import re
import sys
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import cbor2
import pytest

from fedmeta.govern.errors import REFUSALS, Refused
from fedmeta.govern.machine.header import Header, encode_header, sign_header
from fedmeta.govern.rules.faults import KINDS
from fedmeta.govern.rules.proposal_actions import ACTIONS
from fedmeta.govern.state.parameters import OF_SUPPLY, TABLE, Parameters, check_parameters
from fedmeta.govern.state.records import Member
from fedmeta.govern.views.queries import QUERIES
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import EVENTS
from fedmeta.govern.wire.signatures import Key, verify
from fedmeta.govern.wire.transactions import TRANSACTIONS
from tests.govern.playing import Play

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "ledger.md").read_text("utf-8")

sys.path.insert(0, str(ROOT / "docs" / "_ext"))
import from_ledger  # noqa: E402
import refused  # noqa: E402


def shown(directive, name):
    """Return the text that a directive makes, which the page must have under its name."""
    assert f"```{{{name}}}" in PAGE
    return "\n".join(node.astext() for node in directive.run(None)).split("\n")


def titles(directive, name):
    """Return the titles of the sections that a directive makes."""
    assert f"```{{{name}}}" in PAGE
    return [section[0].astext() for section in directive.run(None)]


def test_every_transaction_has_a_section_with_every_field():
    assert titles(from_ledger.Transactions, "ledger-transactions") == list(TRANSACTIONS)
    for section, cls in zip(from_ledger.Transactions.run(None), TRANSACTIONS.values(), strict=True):
        lines = section.astext().split("\n")
        assert [name for name in cls.__dataclass_fields__ if name not in lines] == []


def test_every_parameter_has_a_row_with_unit_default_and_meaning():
    lines = shown(from_ledger.ParameterTable, "ledger-parameters")
    for row in TABLE.values():
        assert {row.name, row.meaning, f"{row.default:,} {row.unit}", f"{row.low:,} to {row.high:,}"} <= set(lines)


@pytest.mark.parametrize(
    ("directive", "name", "due"),
    [
        (from_ledger.EventTable, "ledger-events", EVENTS),
        (from_ledger.RefusalTable, "ledger-refusals", REFUSALS),
        (from_ledger.FaultTable, "ledger-faults", KINDS),
        (from_ledger.Queries, "ledger-queries", QUERIES),
    ],
)
def test_every_event_refusal_fault_and_query_has_a_row(directive, name, due):
    assert set(due) <= set(shown(directive, name))


def test_every_event_says_what_it_is_and_which_fields_it_has():
    lines = shown(from_ledger.EventTable, "ledger-events")
    for cls in EVENTS.values():
        names = list(cls.__dataclass_fields__)
        assert any(re.findall(r"(\w+):", line) == names for line in lines), cls
        assert cls.__doc__


def test_every_action_has_a_section():
    assert titles(from_ledger.Actions, "ledger-actions") == list(ACTIONS)


def test_every_kind_of_record_has_a_section_but_the_parameters_that_have_their_own():
    found = titles(from_ledger.RecordTables, "ledger-records")
    assert {
        "chain",
        "member",
        "candidate",
        "delegation",
        "term",
        "round",
        "hold",
        "Seat",
        "Place",
        "Window",
        "Cut",
    } <= set(found)
    assert "parameters" not in found


def test_every_route_has_a_section():
    found = titles(from_ledger.Routes, "ledger-routes")
    assert {"POST /transactions", "GET /events", "GET /proof/{kind}", "GET /query/{name}"} <= set(found)


def test_the_codes_that_are_read_from_the_rules_are_all_there_are():
    found = from_ledger.of_any_transaction()
    assert {"wrong-chain", "wrong-protocol", "stale-sequence"} <= found
    assert "not-found" not in found
    for cls in TRANSACTIONS.values():
        found |= refused.field_codes(cls) | refused.refusals(from_ledger.RULES[cls])
    assert found == set(REFUSALS)


def test_codes_are_read_from_the_rules_they_are_in():
    codes = {kind: refused.refusals(from_ledger.RULES[cls]) for kind, cls in TRANSACTIONS.items()}
    assert [kind for kind, found in codes.items() if "redelegation-hop" in found] == ["redelegate"]
    assert [kind for kind, found in codes.items() if "bad-reveal" in found] == ["reveal"]
    assert [kind for kind, found in codes.items() if "jailed" in found] == ["unjail"]
    assert [kind for kind, found in codes.items() if "commission-cap" in found] == ["register", "set-commission"]


LONGEST = 8 * (100 + 3 * (40 + 40 + 40))
"""Blocks that a round takes at most, with the default parameters: all attempts, and all windows doubled three times."""

DEFAULTS = Parameters()

RULES = {
    "- `contributor_share` + `super_node_share` + `treasury_share` = 1,000,000": ("treasury_share", 100_001, 100_000),
    "- `commit_blocks`, `deliver_blocks`, `compute_blocks` and `reveal_blocks` are each at least 2 * `super_nodes` + "
    "10": ("super_nodes", 16, 15),
    "- `unbonding_blocks` is at least 2 * `term_length` + 8 * (`commit_blocks` + 3 * (`deliver_blocks` + "
    "`compute_blocks` + `reveal_blocks`)): two terms, and the longest course of a round": (
        "unbonding_blocks",
        2 * 1_000 + LONGEST - 1,
        2 * 1_000 + LONGEST,
    ),
    "- `unbonding_blocks` is at least `voting_blocks` + `delay_blocks`, and `unbonding_seconds` at least "
    "`voting_seconds` + `delay_seconds`": (
        "unbonding_seconds",
        DEFAULTS.voting_seconds + DEFAULTS.delay_seconds - 1,
        DEFAULTS.voting_seconds + DEFAULTS.delay_seconds,
    ),
    "- `max_own_proposals` is at most half of `max_proposals`": ("max_own_proposals", 51, 50),
    "- `duty_misses` is at most `duty_window`": ("duty_misses", 21, 20),
    "- `smallest` is at most `cohort_size`": ("smallest", 21, 20),
    "- `term_budget` is at least `round_pool`": ("term_budget", 999, 1_000),
}
"""What the page says of parameters together, with a value that just breaks it and one that just keeps it."""


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_between_parameters_is_kept(rule):
    assert rule in PAGE
    name, broken, kept = RULES[rule]
    values = asdict(Parameters())
    check_parameters({**values, name: kept}, 10**9)
    with pytest.raises(Refused):
        check_parameters({**values, name: broken}, 10**9)


def test_stake_stays_for_as_many_blocks_as_a_proposal_takes_however_short_terms_and_rounds_are():
    long = {"unbonding_blocks": 6_000, "delay_blocks": 1_000}
    check_parameters({**long, "voting_blocks": 5_000}, 10**9)
    with pytest.raises(Refused, match="unbonding_blocks is 6000: it must be at least 6001"):
        check_parameters({**long, "voting_blocks": 5_001}, 10**9)


def test_the_page_names_the_parameters_that_no_vote_makes_less_than_the_genesis_s():
    found = re.search(r"No proposal makes (.*?) shorter", " ".join(PAGE.split()))[1]
    assert found == "`voting_seconds`, `delay_seconds` or `term_length`"
    play = Play(voting_seconds=5, delay_seconds=5, unbonding_seconds=11)
    for name in re.findall(r"`(\w+)`", found):
        genesis = getattr(play.parameters, name)
        play.must(("joy", tx.Propose("longer", {"kind": "set-parameter", "name": name, "value": genesis + 1})))
        shorter = {"kind": "set-parameter", "name": name, "value": genesis - 1}
        assert play.refusal("joy", tx.Propose("shorter", shorter)) == "bad-value"


def test_the_page_says_how_large_a_part_of_the_supply_an_amount_may_be():
    assert OF_SUPPLY == {"proposal_deposit": 1_000, "min_self_stake": 10_000, "round_pool": 10_000}
    said = "`proposal_deposit` is at most 0.1 %, `min_self_stake` and `round_pool` are each at most 1 %"
    assert said in " ".join(PAGE.split())


def test_the_page_names_the_parts_of_rounds():
    found = re.search(r"Parts of rounds, which are (.*?), have", " ".join(PAGE.split()))[1]
    assert set(re.findall(r"`([\w-]+)`", found)) == tx.OF_ROUNDS


def test_the_page_lists_every_rule_between_parameters():
    listed = re.search(r"keeps these rules.*?\n\n(.*?)\n\n", PAGE, re.DOTALL)[1].split("\n")
    source = (ROOT / "src" / "fedmeta" / "govern" / "state" / "parameters.py").read_text("utf-8")
    assert len(listed) == source.split("def _check_together")[1].count("raise Refused") == len(RULES)


def tagged(domain, *parts):
    """Return what the page says: SHA-256 of the domain and the parts, each after its length in 8 bytes."""
    return sha256(b"".join(len(one).to_bytes(8, "big") + one for one in (domain.encode(), *parts))).digest()


def cbor(value):
    return cbor2.dumps(value, canonical=True)


def test_what_is_hashed_is_what_the_page_says():
    a, b, c = (bytes([one]) * 32 for one in (1, 2, 3))
    for line, found, due in (
        (
            '`tagged("possession", genesis, member, public)`',
            tx.possession(a, "ann", b),
            tagged("possession", a, b"ann", b),
        ),
        (
            '`tagged("update", genesis, cbor([round, member, salt, content]))`',
            tx.update_digest(a, 7, "ann", b, c),
            tagged("update", a, cbor([7, "ann", b, c])),
        ),
        (
            '`tagged("commitment", genesis, cbor([round, attempt, candidate, result, scores, salt]))`',
            tx.commitment(a, 7, 2, "ann", b, (1, 2), c),
            tagged("commitment", a, cbor([7, 2, "ann", b, [1, 2], c])),
        ),
    ):
        assert line in PAGE
        assert found == due


def test_what_is_signed_is_what_the_page_says():
    key = Key.from_seed(bytes(32))
    genesis = sha256(b"genesis").digest()
    raw = tx.sign(key, genesis, "ann", 3, tx.Bond(amount=5))
    *content, signature = cbor2.loads(raw)
    assert content == [genesis, "ann", 3, "bond", {"amount": 5}]
    assert raw == cbor([*content, signature])
    assert verify(key.public, b"fedmeta transaction\0" + cbor(content), signature)
    assert tx.decode(raw).digest == sha256(raw).digest()
    header = Header(genesis, 1, 2, *(bytes([one]) * 32 for one in range(4)))
    assert encode_header(header) == cbor([genesis, 1, 2, *(bytes([one]) * 32 for one in range(4))])
    assert verify(key.public, b"fedmeta header\0" + encode_header(header), sign_header(key, header).certificate)
    assert header.hash == sha256(encode_header(header)).digest()
    assert '`"fedmeta transaction\\0"`' in PAGE
    assert '`"fedmeta header\\0"`' in PAGE


def test_the_meaning_of_a_field_is_what_stands_under_it():
    found = from_ledger.meanings(Member)
    assert found["owed"] == "Rewards settled but not claimed."
    assert "name" not in found
