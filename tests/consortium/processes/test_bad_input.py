"""A hospital that is not as it should be is told so in clear words, and the others' rounds go on."""

from dataclasses import asdict, replace

import pytest

from fedmeta.consortium import hospitals, methods
from fedmeta.consortium.processes import demonstration
from fedmeta.errors import DataError
from fedmeta.govern.state.records import Registration, Round, Update
from fedmeta.govern.wire import transactions as tx
from fedmeta.node.aggregation import Exact
from fedmeta.node.member import config
from fedmeta.node.member.data import examples
from fedmeta.node.member.describing import describe
from fedmeta.node.member.policy import Policy
from fedmeta.node.process.trainer import JOBS
from fedmeta.node.reducer.events import Approved, Revoked
from fedmeta.node.simulated.ledger import RECIPE
from fedmeta.node.simulated.world import World
from tests.consortium.processes.played import events, of_four

PEOPLE = hospitals.drawn()["budapest"]


def coded(text, column, words):
    """Return a table with other words in one column."""
    head, *lines = text.splitlines()
    at = head.split(",").index(column)
    rows = [line.split(",") for line in lines]
    return "\n".join([head, *(",".join([*row[:at], words(row[at]), *row[at + 1 :]]) for row in rows)]) + "\n"


def configured(folder, text):
    file = hospitals.write(PEOPLE, folder)
    file.write_text(text)
    ledger = {"addresses": ["http://127.0.0.1:1"], "genesis": "00" * 32}
    return config.of({"member": "budapest", "ledger": ledger, "data": {"paths": [str(file)]}}, folder)


def of(words):
    return lambda cell: words.get(cell, cell)


PAIN = {"typical angina": "1", "atypical angina": "2", "non-anginal pain": "3", "asymptomatic": "4"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda text: text.replace("cholesterol", "chol", 1),
            "there is no column 'cholesterol', which the model needs",
        ),
        (
            lambda text: coded(text, "male", of({"yes": "m", "no": "f"})),
            "column 'male' holds 'f' and 'm' .* where the schema has 'yes' and 'no'",
        ),
        (lambda text: coded(text, "chest_pain", of(PAIN)), "column 'chest_pain' holds .* none of the values that the"),
        (
            lambda text: coded(text, "cholesterol", lambda cell: cell and f"{float(cell) / 38.67:.1f}"),
            "column 'cholesterol' holds numbers from .* none in the range from 100 to 400 .* another unit",
        ),
        (lambda text: coded(text, "age", lambda cell: "old"), "column 'age' holds 'old'"),
        (
            lambda text: coded(text, "ill", of({"yes": "1", "no": "0"})),
            "target column 'ill' holds .* classes are 'no' and",
        ),
        (lambda text: coded(text, "ill", lambda cell: ""), "target column 'ill' is missing in 294 rows"),
        (lambda text: text.splitlines()[0], "has no rows"),
        (lambda text: "", "is empty"),
    ],
)
def test_a_table_that_misses_a_column_or_is_coded_otherwise_is_refused_by_name(tmp_path, change, says):
    with pytest.raises(DataError, match=says) as refused:
        examples(configured(tmp_path, change(PEOPLE.table())), hospitals.INPUTS)
    assert "budapest/patients.csv" in str(refused.value)


def test_a_table_with_gaps_and_with_some_that_lie_beyond_a_range_is_taken(tmp_path):
    text = coded(PEOPLE.table(), "cholesterol", lambda cell: "")
    text = coded(text, "resting_pressure", lambda cell: "230" if cell == "130" else cell)
    x, y = examples(configured(tmp_path, text), hospitals.INPUTS)
    assert len(x) == len(y) == len(PEOPLE)
    assert (x[:, hospitals.INPUTS.features.index("cholesterol")] == 250).all()


@pytest.mark.parametrize(("rows", "behind"), [(20, 20), (19, 19), (26, 26), (100, 75)])
def test_fewer_rows_than_the_policys_smallest_number_are_not_enough(tmp_path, rows, behind):
    """A quarter of a seat's examples is held out, where those are enough to score by: none of these stand behind it."""
    text = "\n".join(PEOPLE.table().splitlines()[: rows + 1]) + "\n"
    made = methods.procedure(rounds=demonstration.ROUNDS)
    policy = {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(Policy()).items()}
    asked = {"contributes": True, "seat": True, "policy": policy}
    answer, _ = JOBS["describe"](configured(tmp_path, text), asked, [made.to_bytes()])
    assert answer["examples"] == pytest.approx(behind, abs=1)
    if rows < 20:
        assert answer["reasons"] == [f"{rows} examples stand behind an update; smallest_examples is 20"]
    else:
        assert answer["reasons"] == []


def test_the_consortiums_procedure_is_one_that_nodes_take():
    made = methods.procedure(rounds=demonstration.ROUNDS)
    assert Exact(made).initial()
    assert Policy().reasons(describe(made), 20) == []
    assert made.inputs.low is not None, "no statistic of a hospital is in it"


# In rounds.


def test_a_hospital_that_scores_nothing_changes_nobodys_pay():
    def paid(world):
        assert world.run(lambda: len(world.finals) >= 3)
        return [
            (one.fields["round"], one.fields["member"], one.fields["amount"])
            for one in events(world)
            if one.kind == "contributor-paid" and one.fields["round"] <= 3
        ]

    plain, world = of_four(), of_four()
    host = world.hosts["s1"]
    aggregate = host._aggregate

    def without_scores(duty):
        result, scores, salt = aggregate(duty)
        return result, tuple(0 for _ in scores), salt

    host._aggregate = without_scores
    found = paid(world)
    assert found == paid(plain)
    assert all(amount > 0 for _, _, amount in found)


def test_a_hospital_that_cannot_work_on_the_procedure_is_left_out_and_the_rounds_go_on():
    """As one whose table does not fit: its node takes no duty, though it has a seat and a place in the first cohort."""
    world = of_four()
    host = world.hosts["s2"]
    # Before there is a block, it has started and done nothing.
    assert world.run(lambda: host.running, 900)
    host.happens(Revoked(RECIPE))
    assert world.run(lambda: len(world.finals) >= 3, 900_000)
    assert all("s2" not in one.members and len(one.members) == 3 for one in world.finals)
    assert any("nobody here has approved" in one for one in host.alarms)
    assert not any(other.alarms for other in world.hosts.values() if other is not host)


def test_who_leaves_between_commit_and_delivery_is_in_that_round_and_in_no_later_one():
    world = World(seed=2)
    assert world.run(lambda: world.round is not None and world.round.number == 2 and world.round.phase == "deliver")
    assert world.ledger.state.get(Update, 2, "c0") is not None
    host = world.hosts["c0"]
    # As `fedmeta node leave` does: it contributes no more, and brings what it has committed to.
    host.happens(Approved(replace(host.memory.approvals[RECIPE], contributes=False)))
    world.by_account(host, tx.LeaveRecipe(RECIPE))
    assert world.run(lambda: len(world.finals) >= 4)
    members = {one.number: one.members for one in world.finals}
    assert members[2] == tuple(sorted(world.names))
    assert "c0" not in members[3]
    assert "c0" not in members[4]


def test_who_vanishes_between_commit_and_delivery_is_told_why_once_it_is_back():
    world = World(seed=2)
    assert world.run(lambda: world.round is not None and world.round.number == 2 and world.round.phase == "deliver")
    host = world.hosts["c0"]
    host.kill()
    assert world.run(lambda: bool(world.ledger.state.need(Round, 2).settled))
    assert "c0" not in world.finals[-1].members
    assert len(world.finals[-1].members) == len(world.names) - 1
    host.begin()
    assert world.run(lambda: len(world.finals) > 2 and "c0" in world.finals[-1].members)
    (alarm,) = host.alarms
    assert "did not hold its update in time" in alarm
    assert "it registers again" in alarm


def test_who_joins_in_the_midst_of_a_term_has_a_place_in_the_next_round():
    world = World(seed=4)
    late = world.hosts["c1"]
    assert world.run(lambda: late.running, 900)
    late.kill()
    world.by_account(late, tx.LeaveRecipe(RECIPE))
    assert world.run(lambda: len(world.finals) >= 2)
    assert world.run(lambda: world.round.phase == "commit")
    term, number = world.round.term, world.round.number
    assert "c1" not in {place.member for place in world.round.cohort}
    late.begin()
    assert world.run(lambda: any("c1" in one.members for one in world.finals))
    first = next(one for one in world.finals if "c1" in one.members)
    assert first.number in (number + 1, number + 2)
    assert first.term == term
    assert world.ledger.state.need(Registration, RECIPE, "org-c1").active
    assert not late.alarms
