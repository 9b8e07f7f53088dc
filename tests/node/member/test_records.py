"""Outbox and approvals: append-only, each line bound to the one before; a change is found, a torn end is none."""

import json
import os
from datetime import UTC, date, datetime

import pytest

from fedmeta.node.errors import DiskError, NotApproved
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.member.outbox import Outbox, totals
from fedmeta.node.member.records import Records

NOW = datetime(2027, 3, 1, 10, tzinfo=UTC)
A, B = bytes(32), b"\x01" * 32


@pytest.fixture
def records(tmp_path):
    made = Records(tmp_path / "records.jsonl")
    for number in range(4):
        made.append({"number": number})
    return made


def numbers(records):
    return [record["number"] for record in records.read()]


def test_what_is_appended_is_read_by_others_in_its_order(records):
    Records(records.path).append({"number": 4})
    records.append({"number": 5})
    assert numbers(Records(records.path)) == [0, 1, 2, 3, 4, 5]


def test_it_is_readable_by_its_owner_only(records):
    assert records.path.stat().st_mode & 0o777 == 0o600


def test_each_record_is_flushed_before_it_counts(records, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_size))
    records.append({"number": 4})
    assert flushed == [records.path.stat().st_size]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_end_is_dropped_and_written_over(records, cut):
    whole = records.path.read_bytes()
    records.path.write_bytes(whole[:-cut])
    assert numbers(records) == [0, 1, 2]
    Records(records.path).append({"number": 7})
    assert numbers(records) == [0, 1, 2, 7]


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_changed_line_is_found_by_the_one_after_it(records, line):
    lines = records.path.read_text().splitlines()
    changed = json.loads(lines[line]) | {"number": 9}
    lines[line] = json.dumps(changed, separators=(",", ":"))
    records.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DiskError, match=f"line {line + 2} does not follow"):
        records.read()
    with pytest.raises(DiskError, match=f"line {line + 2} does not follow"):
        Records(records.path).append({"number": 4})


@pytest.mark.parametrize("change", ["taken out", "put in", "exchanged", "no JSON", "a list"])
def test_lines_that_were_moved_or_are_none_are_found(records, change):
    lines = records.path.read_text().splitlines()
    match change:
        case "taken out":
            del lines[1]
        case "put in":
            lines.insert(1, lines[1])
        case "exchanged":
            lines[1], lines[2] = lines[2], lines[1]
        case "no JSON":
            lines[1] = "no"
        case "a list":
            lines[1] = "[1]"
    records.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DiskError, match=r"line [23] does not follow"):
        records.read()


def test_what_another_process_appends_between_is_not_written_over(records):
    other = Records(records.path)
    other.append({"number": 4})
    records.append({"number": 5})
    other.append({"number": 6})
    assert numbers(records) == [0, 1, 2, 3, 4, 5, 6]


def test_a_file_that_cannot_be_written_or_read_is_named(tmp_path):
    with pytest.raises(DiskError, match=r"cannot write .*absent"):
        Records(tmp_path / "absent" / "x").append({})
    with pytest.raises(DiskError, match="cannot read"):
        Records(tmp_path).read()


def test_the_outbox_gives_back_what_left_and_its_sums(tmp_path):
    box = Outbox(tmp_path / "outbox.jsonl")
    assert box.read() == []
    first = box.record(to="ledger", what="commitment", size=200, digest=A, why="in the cohort", round=1, now=NOW)
    second = box.record(to="north", what="chunks", size=1 << 20, digest=B, why="a seat", round=1, detail="0-0", now=NOW)
    third = box.record(to="north", what="card", size=50, digest=B, why="it asked", now=NOW)
    assert Outbox(tmp_path / "outbox.jsonl").read() == [first, second, third]
    assert box.read(round=1) == [first, second]
    assert first.time == "2027-03-01T10:00:00Z"
    assert totals([first, second, third]) == {"commitment": (1, 200), "chunks": (1, 1 << 20), "card": (1, 50)}


@pytest.mark.parametrize(("changed", "says"), [({"what": "data"}, "'data' is nothing"), ({"size": -1}, "size is -1")])
def test_the_outbox_knows_no_other_bytes(tmp_path, changed, says):
    with pytest.raises(ValueError, match=says):
        Outbox(tmp_path / "o").record(**{"to": "x", "what": "card", "size": 1, "digest": A, "why": "", **changed})
    assert Outbox(tmp_path / "o").read() == []


def test_records_that_are_no_outbox_are_refused(tmp_path):
    Records(tmp_path / "o").append({"number": 1})
    with pytest.raises(DiskError, match="is damaged"):
        Outbox(tmp_path / "o").read()
    with pytest.raises(DiskError, match="is damaged"):
        Approvals(tmp_path / "o").latest()


@pytest.fixture
def approvals(tmp_path):
    return Approvals(tmp_path / "approvals.jsonl")


def test_an_approval_holds_to_its_last_day_and_no_longer(approvals):
    approvals.approve(A, "ethics 2026-17", date(2027, 12, 31), by="ada", now=NOW)
    assert approvals.allows(A, date(2027, 12, 31)) is None
    assert approvals.allows(A, date(2028, 1, 1)) == "its approval ended on 2027-12-31"
    assert "nobody has approved it" in approvals.allows(B, date(2027, 4, 1))


def test_the_last_word_counts(approvals):
    approvals.approve(A, "first", None, by="ada", now=NOW)
    approvals.revoke(A, "study ended", by="bob", now=NOW)
    assert approvals.allows(A, NOW.date()) == "its approval was revoked at 2027-03-01T10:00:00Z (study ended)"
    approvals.approve(A, "again", None, by="eve", now=NOW)
    assert approvals.allows(A, NOW.date()) is None
    assert [(one.note, one.by) for one in approvals.latest().values()] == [("again", "eve")]


def test_an_approval_without_a_reason_or_of_the_past_is_none(approvals):
    with pytest.raises(NotApproved, match="needs a note"):
        approvals.approve(A, " ", None)
    with pytest.raises(NotApproved, match="until 2027-02-28 would have ended"):
        approvals.approve(A, "x", date(2027, 2, 28), now=NOW)
    with pytest.raises(NotApproved, match="is not approved: there is nothing to revoke"):
        approvals.revoke(A, "x")
    assert approvals.latest() == {}


def test_an_approval_by_default_is_this_users_and_now(approvals):
    before = datetime.now(UTC).replace(microsecond=0)
    approvals.approve(A, "x", None)
    (one,) = approvals.latest().values()
    assert one.by
    assert before <= datetime.fromisoformat(one.time) <= datetime.now(UTC)
