"""What was on the wire agrees with the outboxes, or it is said how it does not."""

from dataclasses import replace

import pytest

from fedmeta.consortium.federation import FederationPart
from fedmeta.consortium.processes import accounts
from fedmeta.consortium.processes.accounts import ANSWERING, ASKING, REQUEST, rounds_of, sent_by, to_explain, ways_of
from fedmeta.consortium.processes.wire import Flow
from fedmeta.node.member.outbox import Sent
from tests.consortium.processes.played import TITLES, board_after

LEDGER, GATES = "127.0.0.1:1", {"127.0.0.1:2": "coast", "127.0.0.1:3": "hill"}


def entry(to, what, size, digest="d"):
    return Sent("2027-03-01T10:00:00Z", 1, to, what, "", size, digest, "")


def things():
    """Return flows and outboxes of two hospitals that agree."""
    cores = {
        "coast": [
            entry("http://127.0.0.1:9", "transaction", 100, "t1"),
            entry("http://127.0.0.1:9", "commitment", 170, "t2"),
            entry("hill", "offer", 200),
            entry("hill", "chunks", 1000),
            entry("gate", "wraps", 0),
            entry("seats that come to coast", "chunks", 1000),
        ],
        "hill": [entry("http://127.0.0.1:8", "transaction", 90, "t3")],
    }
    answers = {
        "coast": [entry("hill", "chunks", 1000), entry("hill", "card", 50)],
        "hill": [entry("coast", "answer", 40)] * 2,
    }
    flows = {
        ("coast", LEDGER): Flow(1, 0, 5000, 9000, [("t1", 100), ("t2", 170), ("t1", 100)], 30),
        ("hill", LEDGER): Flow(1, 0, 4000, 9000, [("t3", 90)], 20),
        ("coast", "127.0.0.1:3"): Flow(2, 0, 1200 + 2 * 830 + 2 * 450, 80 + 2 * 1150),
        ("hill", "127.0.0.1:2"): Flow(1, 0, 830 + 2 * 450, 1050 + 1150),
    }
    return flows, cores, answers


def wrong(flows, cores, answers, name="coast"):
    return [
        (way.to, way.kind, way.wrong)
        for way in ways_of(flows, dict.fromkeys(cores, LEDGER), GATES, cores, answers)
        if way.sender == name and way.wrong
    ]


def test_what_agrees_is_said_to_agree():
    flows, cores, answers = things()
    ways = ways_of(flows, dict.fromkeys(cores, LEDGER), GATES, cores, answers)
    assert not [way for way in ways if way.wrong]
    assert {(way.sender, way.to, way.kind) for way in ways} == {
        ("coast", "ledger", "ledger"), ("hill", "ledger", "ledger"),
        ("coast", "hill", "asked"), ("hill", "coast", "asked"),
        ("coast", "hill", "answered"), ("hill", "coast", "answered"),
    }  # fmt: skip
    found = sent_by("coast", ways, [*cores["coast"], *answers["coast"]])
    assert (found.agrees, found.messages) == (True, 6)
    assert found.outbox == 100 + 170 + 200 + 1000 + 1000 + 50 == sum(found.kinds.values())
    # What coast sent to the ledger and to the gate of hill, and what its gate answered to hill.
    assert found.wire == 5000 + (1200 + 2 * 830 + 2 * 450) + (1050 + 1150)


def test_a_body_to_the_ledger_that_is_in_no_outbox_is_found():
    flows, cores, answers = things()
    flows["coast", LEDGER].bodies.append(("t9", 7))
    assert wrong(flows, cores, answers) == [("ledger", "ledger", "1 bodies on the wire are not in the outbox")]


def test_an_entry_that_was_not_on_the_wire_is_found():
    flows, cores, answers = things()
    cores["coast"].append(entry("http://127.0.0.1:9", "transaction", 10, "t8"))
    assert wrong(flows, cores, answers) == [("ledger", "ledger", "1 entries of the outbox were not on the wire")]


@pytest.mark.parametrize(("key", "field", "name", "to", "kind", "more"), [
    (("coast", "127.0.0.1:3"), "sent", "coast", "hill", "asked", 2 * ASKING + 2 * REQUEST),
    (("hill", "127.0.0.1:2"), "received", "coast", "hill", "answered", ANSWERING),
])  # fmt: skip
def test_more_bytes_than_the_outbox_and_the_cost_of_connections_are_found(key, field, name, to, kind, more):
    flows, cores, answers = things()
    size = 1200 if kind == "asked" else 1050
    flows[key] = replace(flows[key], **{field: size + more})
    assert wrong(flows, cores, answers, name) == []
    flows[key] = replace(flows[key], **{field: size + more + 1})
    ((there, how, why),) = wrong(flows, cores, answers, name)
    assert (there, how) == (to, kind)
    assert "1 bytes more on the wire than the outbox" in why


def test_fewer_bytes_than_the_outbox_are_found_unless_the_gate_was_away():
    flows, cores, answers = things()
    flows["coast", "127.0.0.1:3"] = Flow(1, 0, 1199, 80)
    assert wrong(flows, cores, answers) == [("hill", "asked", "1 bytes of the outbox were not on the wire")]
    flows["coast", "127.0.0.1:3"].refused = 1
    assert wrong(flows, cores, answers) == []


def test_a_place_that_is_nobodys_is_found():
    flows, cores, answers = things()
    flows["coast", "192.0.2.7:443"] = Flow(1, 0, 10, 10)
    assert wrong(flows, cores, answers) == [("192.0.2.7:443", "asked", "192.0.2.7:443 is nobody's that is known")]


def test_what_only_the_outbox_has_is_found():
    flows, cores, answers = things()
    del flows["coast", "127.0.0.1:3"], flows["hill", "127.0.0.1:2"]
    assert wrong(flows, cores, answers) == [
        ("hill", "asked", "nothing to hill was on the wire"),
        ("hill", "answered", "nothing to hill was on the wire"),
    ]


def test_what_is_wrong_with_one_way_is_in_the_report():
    flows, cores, answers = things()
    flows["coast", "192.0.2.7:443"] = Flow(1, 0, 10, 10)
    found = sent_by("coast", ways_of(flows, dict.fromkeys(cores, LEDGER), GATES, cores, answers), cores["coast"])
    assert found.agrees is False
    assert "192.0.2.7:443 is nobody's that is known" in found.note


def test_rounds_are_those_of_the_ledger(lied):
    board = board_after(lied)
    found = rounds_of(board)
    there = {one.number: one for one in lied.finals}
    assert [one.number for one in found] == sorted(board.rounds)[: len(found)]
    assert {one.number for one in found if one.outcome == "final"} == there.keys()
    for one in found:
        assert [phase.name for phase in one.phases][:4] == ["commit", "deliver", "compute", "reveal"]
        assert sum(phase.blocks for phase in one.phases) == there[one.number].settled - there[one.number].scheduled
        assert all(phase.seconds >= 0 for phase in one.phases)
        assert one.included == there[one.number].members
        assert not one.late
        assert one.model == there[one.number].result.hex()
    assert [one.faulty for one in found if one.faulty] == [("s3",)]


def test_the_largest_payment_for_an_update_is_explained(lied):
    board = board_after(lied)
    member, number = to_explain(board)
    most = max(paid[0] for one in board.finals for paid in one.paid.values())
    assert board.rounds[number].paid[member][0] == most
    assert to_explain(type(board)(TITLES)) is None


def test_a_part_of_the_report_stays_the_same_through_json(lied):
    board = board_after(lied)
    part = FederationPart("Meta-SGD", rounds_of(board), accounts.payments_of(board))
    assert FederationPart.from_dict(part.to_dict()) == part
    assert {one.member for one in part.payments} == set(TITLES)
