"""The state is a map of records under a Merkle root, and how it came about leaves no trace but in its slots."""

import random
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedmeta.govern.errors import Malformed, StateError
from fedmeta.govern.state.state import Change, State
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.layout import LAYOUTS, encode_record, key_of, layout, record
from tests.examples import examples
from tests.oracles.merkle import tree_head


@record("toy-edge", key=("source", "target"), index=("source", "target", "weight"))
@dataclass(frozen=True, slots=True)
class Edge:
    source: str
    target: int
    weight: int


@record("toy-count", key=())
@dataclass(frozen=True, slots=True)
class Count:
    value: int


@record("toy-arc", key=("name",), index=("group",))
@dataclass(frozen=True, slots=True)
class Arc:
    name: bytes
    group: str | None


KINDS = (Edge, Count, Arc)
OURS = {layout(cls).kind: LAYOUTS.pop(layout(cls).kind) for cls in KINDS}

edges = st.builds(Edge, st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 2))
counts = st.builds(Count, st.integers(0, 2))
arcs = st.builds(Arc, st.binary(max_size=1), st.sampled_from([None, "x", "y"]))
records = edges | edges | counts | arcs
blocks = st.lists(st.tuples(records, st.booleans()), max_size=20)


@pytest.fixture(autouse=True, scope="module")
def declared():
    LAYOUTS.update(OURS)
    yield
    for kind in OURS:
        del LAYOUTS[kind]


def place(value):
    return layout(type(value)).kind, key_of(value)


class Reference:
    """The module's docstring, written down a second time, with a list for the slots and a dict for the records."""

    def __init__(self):
        self.records = {}
        self.slots = []

    def apply(self, after):
        gone = sorted(where for where in self.records if where not in after)
        for where in gone:
            self.slots[self.slots.index(where)] = None
        for where in sorted(where for where in after if where not in self.records):
            if None in self.slots:
                self.slots[self.slots.index(None)] = where
            else:
                self.slots.append(where)
        self.records = dict(after)

    def leaves(self):
        return [b"" if where is None else encode_record(self.records[where]) for where in self.slots]

    def root(self):
        return tree_head(self.leaves())

    def rows(self):
        return list(enumerate(self.leaves()))


def reads_as(source, expected):
    """Assert that a state or a draft answers every question as a dict of records by (kind, key) does."""
    for cls in KINDS:
        due = [value for where, value in sorted(expected.items()) if type(value) is cls]
        assert source.all(cls) == due
        assert source.count(cls) == len(due)
        for value in due:
            assert source.get(cls, *key_of(value)) == value
            assert source.need(cls, *key_of(value)) == value
        for field in layout(cls).index:
            for wanted in {getattr(value, field) for value in due} | {"a", 0, None}:
                assert source.where(cls, field, wanted) == [v for v in due if getattr(v, field) == wanted]
    for cls, key in ((Edge, ("a", 9)), (Edge, ("a", 0)), (Count, ()), (Arc, (b"",))):
        if (layout(cls).kind, key) not in expected:
            assert source.get(cls, *key) is None
            with pytest.raises(StateError, match=f"there is no {layout(cls).kind}"):
                source.need(cls, *key)


def state_is(state, reference):
    assert state.root == reference.root()
    assert state.slots == len(reference.slots)
    assert list(state.dump()) == reference.rows()
    reads_as(state, reference.records)
    for slot, where in enumerate(reference.slots):
        if where is not None:
            proof = state.prove(LAYOUTS[where[0]].cls, *where[1])
            assert (proof.leaf, proof.index, proof.size) == (reference.leaves()[slot], slot, state.slots)
            assert merkle.verify(proof, state.root)


def write(draft, block):
    """Put each record, or delete the one with its key if there is one and it is marked so."""
    for value, delete in block:
        if not delete:
            draft.put(value)
        elif draft.get(type(value), *key_of(value)) is not None:
            draft.delete(type(value), *key_of(value))


def built(*chain, fold=True):
    state = State.empty()
    for block in chain:
        draft = state.draft()
        write(draft, block)
        state = draft.finish()
        if fold:
            state = state.fold()
    return state


class Ledger(RuleBasedStateMachine):
    """Blocks of writes, undone now and then, folded or not, beside the reference."""

    @initialize()
    def begin(self):
        self.reference = Reference()
        self.state = State.empty()
        self.disk = {}
        self.open()

    def open(self):
        self.draft = self.state.draft()
        self.expected = dict(self.reference.records)
        self.marks = []

    @rule(value=records)
    def put(self, value):
        self.draft.put(value)
        self.expected[place(value)] = value

    @rule(value=records)
    def delete(self, value):
        if place(value) in self.expected:
            self.draft.delete(type(value), *key_of(value))
            del self.expected[place(value)]
        else:
            with pytest.raises(StateError, match="there is no"):
                self.draft.delete(type(value), *key_of(value))

    @rule()
    def mark(self):
        self.marks.append((self.draft.mark(), dict(self.expected)))

    @precondition(lambda self: self.marks)
    @rule(data=st.data())
    def undo(self, data):
        mark, then = data.draw(st.sampled_from(self.marks))
        if mark == self.marks[-1][0]:
            self.expected = dict(then)
            self.draft.undo(mark)
        else:
            with pytest.raises(StateError, match=f"no mark {mark} to go back to"):
                self.draft.undo(mark)

    @rule(fold=st.booleans())
    def finish(self, fold):
        before, old = self.state, Reference()
        old.records, old.slots = self.reference.records, list(self.reference.slots)
        self.state = self.draft.finish()
        self.reference.apply(self.expected)
        state_is(before, old)
        if fold:
            for change in self.state.changes:
                self.disk[change.slot] = change.data or b""
            folded = self.state.fold()
            assert folded.changes == []
            if self.state.changes:
                with pytest.raises(StateError, match="cannot be read any more"):
                    self.state.count(Edge)
            self.state = folded
            assert sorted(self.disk.items()) == self.reference.rows()
        state_is(self.state, self.reference)
        self.open()

    @invariant()
    def the_draft_sees_its_own_writes(self):
        reads_as(self.draft, self.expected)


TestLedger = Ledger.TestCase
TestLedger.settings = examples(30, stateful_step_count=40)


@given(st.lists(blocks, max_size=4))
@example([[(Edge("a", 0, 0), False)], [(Edge("a", 0, 0), True)]])
def test_a_chain_without_folds_ends_in_the_same_state(chain):
    folded, unfolded = built(*chain), built(*chain, fold=False)
    assert unfolded.root == folded.root
    assert list(unfolded.dump()) == list(folded.dump())
    again = unfolded.fold()
    assert again.root == folded.root
    assert list(again.dump()) == list(folded.dump())


@given(st.lists(blocks, max_size=3), st.dictionaries(records.map(place), st.none(), max_size=9), st.randoms())
def test_the_order_of_writes_within_a_block_leaves_no_trace(chain, places, rng):
    final = [(value, rng.random() < 0.3) for value in by_place(rng, places)]
    noise = [(value, rng.random() < 0.5) for value in by_place(rng, places)]
    shuffled = list(final)
    rng.shuffle(shuffled)
    first, second = built(*chain, [*noise, *final]), built(*chain, shuffled)
    assert first.root == second.root
    assert list(first.dump()) == list(second.dump())


def by_place(rng, places):
    for kind, key in places:
        if kind == "toy-edge":
            yield Edge(*key, weight=rng.randrange(3))
        elif kind == "toy-arc":
            yield Arc(*key, group=rng.choice([None, "x"]))
        else:
            yield Count(rng.randrange(3))


@given(st.lists(blocks, max_size=3), blocks, st.randoms())
def test_what_is_undone_leaves_no_trace(chain, block, rng):
    state = built(*chain)
    draft = state.draft()
    cut = rng.randrange(len(block) + 1)
    write(draft, block[:cut])
    mark = draft.mark()
    write(draft, block[cut:])
    draft.undo(mark)
    plain = state.draft()
    write(plain, block[:cut])
    assert draft.finish().changes == plain.finish().changes
    assert draft.finish().root == plain.finish().root


@given(st.lists(blocks, max_size=3), blocks)
def test_a_draft_of_which_all_is_undone_is_empty(chain, block):
    state = built(*chain)
    draft = state.draft()
    write(draft, block)
    draft.undo(0)
    assert not any((*draft._written.values(), *draft._hints.values(), *draft._counts.values(), draft._log))
    assert draft.finish().changes == []
    assert draft.finish().root == state.root


@given(st.lists(blocks, max_size=3))
def test_a_dump_loads_to_the_same_state_and_goes_on_alike(chain):
    state = built(*chain)
    loaded = State.load(state.dump())
    assert loaded.root == state.root
    assert list(loaded.dump()) == list(state.dump())
    assert loaded.changes == []
    block = [(Edge("z", at, 0), False) for at in range(3)]
    first, second = state.draft(), loaded.draft()
    write(first, block)
    write(second, block)
    assert first.finish().changes == second.finish().changes
    assert first.finish().root == second.finish().root


def test_siblings_do_not_see_one_another_until_one_is_folded():
    base = built([(Edge("a", 1, 1), False), (Edge("b", 1, 1), False)])
    left, right = base.draft(), base.draft()
    left.put(Edge("a", 1, 2))
    right.delete(Edge, "a", 1)
    one, two = left.finish(), right.finish()
    assert base.need(Edge, "a", 1).weight == 1
    assert one.need(Edge, "a", 1).weight == 2
    assert two.get(Edge, "a", 1) is None
    assert len({base.root, one.root, two.root}) == 3
    kept = one.fold()
    assert kept.need(Edge, "a", 1).weight == 2
    for stale in (base, one, two):
        for use in (
            lambda state: state.get(Edge, "a", 1),
            lambda state: state.need(Edge, "a", 1),
            lambda state: state.all(Edge),
            lambda state: state.where(Edge, "source", "a"),
            lambda state: state.count(Edge),
            lambda state: state.prove(Edge, "a", 1),
            lambda state: state.draft(),
            lambda state: state.fold(),
            lambda state: list(state.dump()),
        ):
            with pytest.raises(StateError, match="cannot be read any more"):
                use(stale)
    for draft in (left, right):
        with pytest.raises(StateError, match="cannot be read any more"):
            draft.finish()


def test_a_dump_ends_where_a_later_state_is_folded():
    state = built([(Edge("a", at, 0), False) for at in range(3)])
    rows = state.dump()
    next(rows)
    draft = state.draft()
    draft.put(Count(1))
    draft.finish().fold()
    with pytest.raises(StateError, match="cannot be read any more"):
        next(rows)


def test_folding_what_has_not_changed_is_nothing():
    state = built([(Count(1), False)])
    assert state.fold() is state
    draft = state.draft()
    draft.put(Count(1))
    same = draft.finish()
    assert same.changes == []
    assert same.fold() is same
    assert state.root == same.root


def test_vacant_slots_are_marked_and_taken_again_smallest_first():
    state = built([(Edge("a", at, 0), False) for at in range(5)])
    draft = state.draft()
    for at in (3, 1):
        draft.delete(Edge, "a", at)
    gone = draft.finish()
    assert gone.changes == [Change(at, "toy-edge", ("a", at), None) for at in (1, 3)]
    assert gone.slots == 5
    leaves = [encode_record(Edge("a", at, 0)) if at in (0, 2, 4) else b"" for at in range(5)]
    assert gone.root == tree_head(leaves)
    draft = gone.fold().draft()
    draft.delete(Edge, "a", 2)
    draft.delete(Edge, "a", 0)
    for value in (Edge("b", 0, 0), Arc(b"n", None), Count(7), Edge("b", 1, 0), Edge("b", 2, 0)):
        draft.put(value)
    assert [(change.slot, change.kind, change.key) for change in draft.finish().changes] == [
        (0, "toy-arc", (b"n",)),
        (1, "toy-count", ()),
        (2, "toy-edge", ("b", 0)),
        (3, "toy-edge", ("b", 1)),
        (5, "toy-edge", ("b", 2)),
    ]


def test_a_record_that_goes_and_comes_back_in_one_block_keeps_its_slot():
    state = built([(Edge("a", at, 0), False) for at in range(3)])
    draft = state.draft()
    draft.delete(Edge, "a", 1)
    draft.put(Edge("a", 1, 2))
    assert draft.finish().changes == [Change(1, "toy-edge", ("a", 1), encode_record(Edge("a", 1, 2)))]
    draft.put(Edge("a", 1, 0))
    assert draft.finish().changes == []


def test_the_indexes_keep_nothing_that_is_gone():
    rng = random.Random(2)
    state = State.empty()
    for _ in range(20):
        draft = state.draft()
        write(
            draft, [(Edge(rng.choice("ab"), rng.randrange(9), rng.randrange(50)), rng.random() < 0.4) for _ in range(9)]
        )
        state = draft.finish().fold()
    expected = {}
    for value in state.all(Edge):
        expected.setdefault(value.weight, {})[key_of(value)] = None
    assert state._base.index[Edge, "weight"] == expected


def test_the_empty_state_has_the_empty_root():
    state = State.empty()
    assert state.root == merkle.EMPTY_ROOT
    assert (state.slots, state.changes, list(state.dump()), state.all(Edge)) == (0, [], [], [])
    assert State.load([]).root == merkle.EMPTY_ROOT
    assert State.load([(slot, b"") for slot in range(3)]).root == tree_head([b"", b"", b""])


def test_a_proof_of_one_state_is_not_one_of_the_next():
    state = built([(Edge("a", at, 0), False) for at in range(9)])
    old_root, proof = state.root, state.prove(Edge, "a", 4)
    draft = state.draft()
    draft.put(Edge("a", 4, 1))
    after = draft.finish()
    assert merkle.verify(proof, old_root)
    assert not merkle.verify(proof, after.root)
    assert merkle.verify(after.prove(Edge, "a", 4), after.root)
    with pytest.raises(StateError, match="there is no toy-edge a, 99"):
        after.prove(Edge, "a", 99)


@pytest.mark.parametrize("make", [lambda: built([(Count(1), False)]), lambda: built([(Count(1), False)]).draft()])
def test_questions_that_cannot_be_answered_are_errors(make):
    source = make()
    with pytest.raises(StateError, match=r"the key of a toy-edge is \(source, target\), not \('a',\)"):
        source.get(Edge, "a")
    with pytest.raises(StateError, match="toy-arc records cannot be searched by 'name': it is not an index field"):
        source.where(Arc, "name", b"")
    for use in (source.all, source.count, source.get, lambda cls: source.where(cls, "a", 1)):
        with pytest.raises(StateError, match="int is not declared as a record"):
            use(int)


def test_a_draft_takes_records_only_and_marks_of_its_own():
    draft = State.empty().draft()
    with pytest.raises(StateError, match="int is not declared as a record"):
        draft.put(3)
    for mark in (-1, 1):
        with pytest.raises(StateError, match=f"no mark {mark} to go back to"):
            draft.undo(mark)


def test_a_field_of_another_type_is_refused_when_the_draft_is_finished():
    draft = State.empty().draft()
    draft.put(Edge("a", 1, True))
    with pytest.raises(Malformed, match=r"toy-edge\.weight: a value of type int is due, not bool"):
        draft.finish()


ROW = encode_record(Edge("a", 1, 0))


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        ([(0, ROW), (1, ROW)], StateError, r"toy-edge \('a', 1\) comes twice"),
        ([(0, ROW), (0, encode_record(Count(1)))], StateError, "slot 0 comes where slot 1 is due"),
        ([(2, ROW)], StateError, "slot 2 comes where slot 0 is due"),
        ([(0, b""), (2**60, ROW)], StateError, f"slot {2**60} comes where slot 1 is due"),
        ([(-1, ROW)], StateError, "slot -1 comes where slot 0 is due"),
        ([(0, ROW + b"\0")], Malformed, "not canonical"),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(rows, error, said):
    with pytest.raises(error, match=said):
        State.load(rows)


def test_many_records_come_in_order_however_they_came_in():
    rng = random.Random(5)
    state, expected = State.empty(), {}
    for _ in range(12):
        draft = state.draft()
        for _ in range(400):
            value = Edge(rng.choice("abcdefgh"), rng.randrange(300), rng.randrange(9))
            if rng.random() < 0.3 and place(value) in expected:
                draft.delete(Edge, *key_of(value))
                del expected[place(value)]
            else:
                draft.put(value)
                expected[place(value)] = value
        ordered = [expected[where] for where in sorted(expected)]
        assert draft.all(Edge) == ordered
        state = draft.finish()
        assert state.all(Edge) == ordered
        state = state.fold()
        assert state.all(Edge) == ordered
        assert state.where(Edge, "source", "c") == [value for value in ordered if value.source == "c"]
    assert State.load(state.dump()).root == state.root


SCRIPT = """
import random, sys
from tests.govern.state.test_state import OURS, Arc, Count, Edge, LAYOUTS, State, write
LAYOUTS.update(OURS)
rng = random.Random(3)
state = State.empty()
for _ in range(5):
    draft = state.draft()
    write(draft, [(Edge(rng.choice("abc"), rng.randrange(20), 0), rng.random() < 0.3) for _ in range(60)])
    write(draft, [(Arc(rng.randbytes(1), "x"), rng.random() < 0.3) for _ in range(60)])
    state = draft.finish().fold()
print(state.root.hex())
"""


def test_the_hash_seed_of_the_process_leaves_no_trace():
    roots = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=Path(__file__).parents[3],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(roots) == 1
    assert len(roots.pop()) == 65


def test_a_written_record_can_be_changed_further():
    draft = State.empty().draft()
    draft.put(Edge("a", 1, 0))
    draft.put(replace(draft.need(Edge, "a", 1), weight=5))
    assert draft.finish().need(Edge, "a", 1) == Edge("a", 1, 5)
