import numpy as np
import pytest

from fedmeta.errors import UsageError
from fedmeta.study.grid.cells import Source, changed
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.work import looks
from tests.study.grid.declared import SMALL
from tests.study.grid.declared import changed as study

DEALT = ("rounds = 4", 'rounds = 4\ndeal = "by_classes:clients=9,count=2"')


def opened(*pairs):
    return Source(Study.parse(study(*pairs), "a.toml").entries[0])


def names(group):
    return set(group.client_ids)


def test_the_pool_is_the_same_with_every_seed_and_nobody_trains_in_it():
    source = opened()
    experiments = [source.experiment(cell) for cell in source.cells((0, 1, 2)) if cell.key.procedure == "maml"]
    assert {tuple(one.test.client_ids) for one in experiments} == {source.pool}
    assert len({tuple(one.train.client_ids) for one in experiments}) == 3
    for one in experiments:
        assert not names(one.test) & (names(one.train) | names(one.validation))
        assert not names(one.train) & names(one.validation)


def test_each_seed_deals_the_examples_outside_of_the_pool_anew():
    source = opened(DEALT)
    experiments = [source.experiment(cell) for cell in source.cells((0, 1)) if cell.key.procedure == "maml"]
    rows = [np.concatenate([one.train.x[one.train.rows], one.validation.x[one.validation.rows]]) for one in experiments]
    test = experiments[0].test
    outside = np.concatenate([source.whole[name].x for name in source.whole.client_ids if name not in source.pool])

    def order(x):
        return x[np.lexsort(x.T)]

    for found in rows:
        np.testing.assert_array_equal(order(found), order(outside))
    assert rows[0].shape == rows[1].shape
    assert not np.array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(test.x[test.rows], experiments[1].test.x[experiments[1].test.rows])
    one = experiments[0].train
    assert all(len(set(one[name].y.tolist())) == 2 for name in one.client_ids)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rounds = 4", "rounds = 5", "rounds (4 then, 5 now)"),
        ("inner_steps = 1", "inner_steps = 2", "algorithm.inner_steps (1 then, 2 now)"),
        ("every = 2", "every = 1", "validation.every (2 then, 1 now)"),
        ("cohort_size = 2", "cohort_size = 3", "cohort_size (2 then, 3 now)"),
        ("classes_per_client = 3", "classes_per_client = 2", "the data (their fingerprint was"),
    ],
)
def test_a_digest_changes_with_the_settings_and_says_with_which(old, new, said):
    (one,), (other,) = (
        [cell for cell in opened(*pairs).cells((0,)) if cell.key.procedure == "maml"] for pairs in ([], [(old, new)])
    )
    assert one.digest != other.digest
    assert said in "; ".join(changed(one.identity, other.identity))


def test_a_digest_is_that_of_the_cell_alone():
    one = {cell.key: cell.digest for cell in opened().cells((0,))}
    other = {cell.key: cell.digest for cell in opened(("targets = [0.2]", "targets = [0.3]")).cells((0, 1))}
    assert one.items() <= other.items()
    assert len(set(other.values())) == len(other) == 4


def test_the_looks_are_counted_as_they_are_made():
    cell = Source(Study.parse(SMALL, "a.toml").entries[0]).cells((0,))[0]
    assert looks(cell) == 3  # rounds 1, 2 and 4


def test_a_pool_that_is_named_is_the_test_clients():
    whole = opened().whole.client_ids
    source = opened(("rounds = 4", f'rounds = 4\npool = ["{whole[3]}", "{whole[1]}"]'))
    assert set(source.pool) == {whole[3], whole[1]}
    for cell in source.cells((0, 1)):
        experiment = source.experiment(cell)
        assert names(experiment.test) == {whole[3], whole[1]}
        assert not names(experiment.test) & (names(experiment.train) | names(experiment.validation))
    with pytest.raises(UsageError, match="nobody"):
        opened(("rounds = 4", 'rounds = 4\npool = ["nobody"]'))


def test_what_intervals_are_over_is_part_of_a_digest():
    (one,), (other,) = (
        [cell for cell in opened(*pairs).cells((0,)) if cell.key.procedure == "maml"]
        for pairs in ([], [("rounds = 4", 'rounds = 4\nover = "examples"')])
    )
    assert "over ('clients' then, 'examples' now)" in changed(one.identity, other.identity)
