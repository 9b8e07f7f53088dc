"""What clients keep: it grows with those that took part, and a file of it goes on from any checkpoint."""

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta.errors import CheckpointError, RunError
from fedmeta.simulation import memory as module
from fedmeta.simulation.memory import ClientMemory
from tests import toys

FRESH = {"head": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.int32(0)}
ROW = 6 * 4 + 4
NAMES = ["ada", "bo", "çelik", "d" * 300]


def rows(*values):
    """Rows of which every number is the value, stacked."""
    each = [jax.tree.map(lambda leaf, v=value: np.full_like(leaf, v), FRESH) for value in values]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *each)


def stored(*names):
    return sum(4 + len(name.encode()) + ROW for name in names)


@pytest.fixture(params=["here", "in a folder"])
def memory(request, tmp_path):
    memory = ClientMemory(FRESH, None if request.param == "here" else tmp_path)
    yield memory
    memory.close()


@pytest.fixture
def opened(tmp_path):
    """Open a memory in the folder; all are closed in the end."""
    made = []

    def open_(mark=None, fresh=FRESH):
        made.append(ClientMemory(fresh, tmp_path, mark))
        return made[-1]

    yield open_
    for one in made:
        one.close()


def test_a_client_that_never_took_part_has_a_fresh_one_and_nobody_too(memory):
    assert toys.same_bits(memory.read(["ada", None]), jax.tree.map(lambda leaf: np.stack([leaf, leaf]), FRESH))
    assert len(memory) == 0


def test_what_is_written_last_is_what_is_read(memory):
    memory.write(1, NAMES[:2], rows(1, 2))
    memory.write(2, [NAMES[1], NAMES[2]], rows(3, 4))
    found = memory.read([NAMES[2], NAMES[0], NAMES[1]])
    assert toys.same_bits(found, rows(4, 1, 3))
    assert len(memory) == 3


def test_rows_beyond_the_names_are_those_of_clients_that_fill_up_and_are_dropped(memory):
    memory.write(1, ["ada"], rows(1, 9, 9))
    assert len(memory) == 1
    assert toys.same_bits(memory.read(["ada"]), rows(1))


def test_where_nothing_is_kept_no_file_is_made(tmp_path):
    for fresh in ((), ((), ())):
        memory = ClientMemory(fresh, tmp_path / "memory")
        assert not memory
        memory.write(1, ["ada"], fresh)
        assert memory.read(["ada", "bo"]) == fresh
        assert memory.mark(1) is None
    assert not (tmp_path / "memory").exists()


def test_a_file_grows_by_the_rows_of_those_that_took_part(opened, tmp_path):
    memory = opened()
    file = tmp_path / "memory-0.rows"
    for number, names in enumerate((NAMES[:2], NAMES[2:], NAMES[:1]), 1):
        before = file.stat().st_size
        memory.write(number, names, rows(*range(len(names))))
        assert file.stat().st_size == before + stored(*names)
        assert memory.mark(number) == {"file": file.name, "length": file.stat().st_size}


def test_a_hundred_thousand_clients_of_which_fifty_took_part_stay_small(opened, tmp_path):
    everyone = [f"client {number}" for number in range(100_000)]
    memory = opened()
    memory.write(1, everyone[::2000], rows(*range(50)))
    assert (len(memory), (tmp_path / "memory-0.rows").stat().st_size) == (50, stored(*everyone[::2000]))
    found = memory.read(everyone[:2001:2000])
    assert toys.same_bits(found, rows(0, 1))
    assert len(memory) == 50, "reading adds nobody"


def test_going_on_from_a_mark_forgets_what_came_after_it(opened, tmp_path):
    memory = opened()
    memory.write(1, ["ada", "bo"], rows(1, 2))
    mark = memory.mark(1)
    memory.write(2, ["bo", "cy"], rows(3, 4))
    memory.close()
    again = opened(mark)
    assert (tmp_path / "memory-0.rows").stat().st_size == mark["length"]
    assert toys.same_bits(again.read(["ada", "bo"]), rows(1, 2))
    assert toys.same_bits(again.read(["cy"]), jax.tree.map(lambda leaf: leaf[None], FRESH))
    again.write(2, ["bo", "cy"], rows(3, 4))
    assert toys.same_bits(again.read(["ada", "bo", "cy"]), rows(1, 3, 4))


def test_a_mark_of_the_round_before_leaves_out_what_the_last_round_wrote(opened):
    """As when a run is interrupted between the round's program and its row."""
    memory = opened()
    memory.write(1, ["ada"], rows(1))
    memory.write(2, ["ada", "bo"], rows(2, 2))
    mark = memory.mark(1)
    assert mark["length"] == stored("ada")
    memory.close()
    assert toys.same_bits(opened(mark).read(["ada"]), rows(1))


def test_without_a_mark_a_file_that_is_there_is_begun_anew(opened):
    memory = opened()
    memory.write(1, ["ada"], rows(1))
    memory.close()
    assert len(opened()) == 0


def outdated(memory):
    """Write the same two clients until most of the file is outdated."""
    for number in range(1, 6):
        memory.write(number, ["ada", "bo"], rows(number, 10 * number))


def test_a_file_of_outdated_rows_is_replaced_by_one_of_those_in_use(opened, tmp_path, monkeypatch):
    memory = opened()
    outdated(memory)
    assert memory.mark(5)["file"] == "memory-0.rows", "a little is not worth it"
    monkeypatch.setattr(module, "SLACK", 0)
    mark = memory.mark(5)
    assert mark == {"file": "memory-1.rows", "length": stored("ada", "bo")}
    assert {path.name for path in tmp_path.iterdir()} == {"memory-0.rows", "memory-1.rows"}
    memory.tidy()
    assert [path.name for path in tmp_path.iterdir()] == ["memory-1.rows"]
    assert toys.same_bits(memory.read(["ada", "bo"]), rows(5, 50))
    memory.write(6, ["cy"], rows(6))
    after = memory.mark(6)
    memory.close()
    assert after == {"file": "memory-1.rows", "length": stored("ada", "bo", "cy")}
    assert toys.same_bits(opened(after).read(["cy", "ada", "bo"]), rows(6, 5, 50))


def test_whoever_dies_before_the_checkpoint_of_a_new_file_goes_on_with_the_old_one(opened, tmp_path, monkeypatch):
    memory = opened()
    outdated(memory)
    mark = memory.mark(5)
    monkeypatch.setattr(module, "SLACK", 0)
    newer = memory.mark(5)
    memory.close()
    assert newer["file"] != mark["file"]
    again = opened(mark)
    assert toys.same_bits(again.read(["ada", "bo"]), rows(5, 50))
    # And makes the new one again, in the place of what was left of it.
    (tmp_path / "memory-1.rows").write_bytes(b"half of a row")
    assert again.mark(5) == newer
    assert toys.same_bits(again.read(["ada", "bo"]), rows(5, 50))


@pytest.mark.parametrize("damage", ["gone", "short", "empty", "a length that is none", "another row"])
def test_a_damaged_file_is_an_error_that_names_it(damage, opened, tmp_path):
    memory = opened()
    memory.write(1, ["ada", "bo"], rows(1, 2))
    mark = memory.mark(1)
    memory.close()
    file, fresh = tmp_path / mark["file"], FRESH
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "another row":
        fresh = {**FRESH, "more": np.zeros(5)}
    else:
        file.write_bytes({"short": content[:-1], "empty": b""}.get(damage, b"\xff\xff\xff\x7f" + content[4:]))
    with pytest.raises(CheckpointError, match=r"memory-0\.rows is damaged"):
        opened(mark, fresh)


def test_a_file_that_cannot_be_written_is_an_error_of_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        ClientMemory(FRESH, tmp_path / "file")


def test_a_simulators_memory_grows_with_the_cohorts():
    data = toys.classification((4,) * 12)
    simulator = fm.Simulator(fm.Federation(fm.FedPer(inner_steps=1), toys.network()), data, cohort_size=3, support=0.5)
    state, seen = simulator.init(), set()
    for number in (1, 2):
        state, figures = simulator.step(state, simulator.draw(number))
        assert figures.metrics
        seen |= set(figures.clients)
        assert len(simulator.memory) == len(seen) < len(data)
    fresh = jax.tree.leaves(simulator.federation.memory(simulator._key()))
    away = next(name for name in data.client_ids if name not in seen)
    for leaf, own in zip(jax.tree.leaves(simulator.memory.read([away])), fresh, strict=True):
        np.testing.assert_array_equal(leaf[0], own)
